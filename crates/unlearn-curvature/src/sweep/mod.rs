//! The reverse sweep: any number of cotangent columns carried back through a recorded forward pass, on
//! plain tensors.
//!
//! ```text
//! Recording  ──►  [b·c, k] cotangents of the logits
//!                     │  one operation at a time, last first; each cotangent freed when used
//!                     ├──► MatrixTap: a weight's (input, cotangent)     ──► reducers
//!                     └──► VectorTap: a bias's or scale's own gradient  ──► reducers
//! ```
//!
//! b samples, u units (samples, or groups of m samples for a group mean: b = u·m), c columns, p outputs,
//! d inputs, t positions (of all samples of a unit and all uses of a shared layer).
//! The gradient of unit u and column c with respect to a weight is Σ_t cotangent\[u, c, p, t\] ·
//! input\[u, d, t\]: a tap holds the two factors, and a [reducer](crate::reduce) makes of them what it
//! wants without the product ever being stored whole.

mod gathered;
mod passes;
mod tap;
mod targets;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use gathered::Gathered;
pub use passes::Settings;
pub(crate) use passes::{Passes, ranges};
pub use tap::{Frame, MatrixTap, VectorTap};
pub(crate) use tap::{Site, SiteInput};
pub use targets::{Target, Targets};

use std::collections::{BTreeMap, BTreeSet};

use burn::Tensor;
use burn::tensor::{Device, TensorData};

use crate::CurvatureError;
use crate::estimate::Columns;
use crate::reduce::Reduce;
use crate::tape::AnyTensor;
use crate::tape::record::{Emission, Recording};

/// What the call sites of one parameter have said so far.
#[allow(clippy::large_enum_variant, reason = "a few dozen live at a time")]
pub(crate) enum Pending {
    Nothing,
    Matrix(Vec<Site>),
    Vector(Tensor<2>),
}

impl Recording {
    /// Carries `columns` back and hands what each wanted parameter sees to all `reducers`, each parameter
    /// once. A parameter that is used several times gets the sum over its uses.
    ///
    /// `first` is the number of the first unit, for reducers with one result a unit.
    ///
    /// # Errors
    /// [`CurvatureError::Argument`] when `columns` are of another number of samples or classes,
    /// [`CurvatureError::Unsupported`] when a wanted parameter does not reach the logits on the tape,
    /// and what the reducers return.
    pub fn sweep(
        &self,
        columns: &Columns,
        first: usize,
        targets: &Targets,
        device: &Device,
        reducers: &mut [&mut dyn Reduce],
    ) -> Result<(), CurvatureError> {
        let frame = Frame::new(columns, first, device);
        let (b, c, k) = (columns.samples(), columns.count(), columns.classes());
        if b != self.batch {
            return Err(CurvatureError::Argument {
                field: "columns",
                got: format!("cotangents of {b} samples"),
                expected: "one a recorded sample",
            });
        }
        if self.output.is_some_and(|output| self.nodes[output].size != k) {
            return Err(CurvatureError::Argument {
                field: "columns",
                got: format!("cotangents of {k} logits"),
                expected: "one a recorded logit",
            });
        }
        let start = TensorData::new(columns.values().to_vec(), [b * c, k]);
        let start = AnyTensor::R2(Tensor::from_data(start, device));
        self.carry(start, &frame, targets, reducers)?;
        reducers.iter_mut().try_for_each(|reducer| reducer.end(&frame))
    }

    /// [`sweep`](Self::sweep) from a cotangent of any rank.
    pub(crate) fn carry(
        &self,
        start: AnyTensor,
        frame: &Frame,
        targets: &Targets,
        reducers: &mut [&mut dyn Reduce],
    ) -> Result<(), CurvatureError> {
        let (b, c) = (self.batch, frame.columns);
        let mut uses: BTreeMap<u64, usize> = BTreeMap::new();
        for id in self.nodes.iter().flat_map(|node| node.step.parameters()) {
            *uses.entry(id).or_default() += 1;
        }
        let mut pending: BTreeMap<u64, Pending> = BTreeMap::new();
        let mut reached = BTreeSet::new();
        let mut cotangents: Vec<Option<AnyTensor>> = (0..self.nodes.len()).map(|_| None).collect();
        if let Some(output) = self.output {
            cotangents[output] = Some(start);
        }
        for (index, node) in self.nodes.iter().enumerate().rev() {
            if let Some(cotangent) = cotangents[index].take() {
                let needed = node.inputs.map(|input| input.is_some());
                let back = node.step.back(cotangent, (b, c), needed, &mut |e| note(&mut pending, e));
                for (input, back) in node.inputs.into_iter().zip(back) {
                    if let (Some(input), Some(back)) = (input, back) {
                        cotangents[input] = Some(match cotangents[input].take() {
                            Some(sum) => sum.plus(back),
                            None => back,
                        });
                    }
                }
            }
            for id in node.step.parameters() {
                let left = uses.get_mut(&id).map_or(0, |left| {
                    *left -= 1;
                    *left
                });
                if left == 0 && hand_over(targets, id, pending.remove(&id), frame, reducers)? {
                    reached.insert(id);
                }
            }
        }
        if let Some(missing) = targets.iter().find(|target| !reached.contains(&target.id)) {
            return Err(CurvatureError::Unsupported {
                what: format!(
                    "this model: {} of {} trainable parameters lead to the logits on the tape, `{}` does not",
                    reached.len(),
                    targets.len(),
                    missing.path
                ),
                mend: "write every use of a parameter on the tape, or freeze the parameters that are not used",
            });
        }
        Ok(())
    }
}

pub(crate) fn note(pending: &mut BTreeMap<u64, Pending>, emission: Emission) {
    match emission {
        Emission::Matrix { id, site } => match pending.entry(id).or_insert(Pending::Nothing) {
            Pending::Matrix(sites) => sites.push(site),
            nothing => *nothing = Pending::Matrix(vec![site]),
        },
        Emission::Vector { id, gradient } => {
            let slot = pending.entry(id).or_insert(Pending::Nothing);
            *slot = match std::mem::replace(slot, Pending::Nothing) {
                Pending::Vector(sum) => Pending::Vector(sum + gradient),
                _ => Pending::Vector(gradient),
            };
        }
    }
}

/// Gives a parameter whose uses have all been seen to the reducers; `false` when none of them led to
/// the logits.
pub(crate) fn hand_over(
    targets: &Targets,
    id: u64,
    pending: Option<Pending>,
    frame: &Frame,
    reducers: &mut [&mut dyn Reduce],
) -> Result<bool, CurvatureError> {
    let Some(target) = targets.get(id) else { return Ok(false) };
    match pending {
        Some(Pending::Matrix(sites)) => {
            let tap = MatrixTap::new(target, sites, frame);
            reducers.iter_mut().try_for_each(|reducer| reducer.matrix(frame, &tap))?;
        }
        Some(Pending::Vector(gradient)) => {
            let tap = VectorTap::new(target, gradient, frame);
            reducers.iter_mut().try_for_each(|reducer| reducer.vector(frame, &tap))?;
        }
        Some(Pending::Nothing) | None => return Ok(false),
    }
    Ok(true)
}
