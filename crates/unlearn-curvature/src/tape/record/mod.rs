//! The tape that keeps what a reverse sweep needs, and nothing else.
//!
//! What is kept are shared handles of tensors that the forward pass makes anyway, never copies. A
//! value that no wanted parameter has touched yet (the pictures, their normalised form) is not
//! followed, so the first layer's input gradient is never computed.

mod keep;
mod shape;
mod step;
mod transformer;

use std::collections::{BTreeMap, BTreeSet};

use burn::Tensor;
use burn::module::ParamId;

pub(crate) use step::{Emission, Step};

use super::{AnyTensor, ErasedVar, Inputs, Op, Tape, Var};
use crate::CurvatureError;

/// One followed operation: how to go back through it, which followed values it read, and its size.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) step: Step,
    pub(crate) inputs: [Option<usize>; 3],
    /// Scalars of the result a sample.
    pub(crate) size: usize,
}

/// Runs a forward pass and keeps each layer's input for a later [sweep](crate::sweep).
///
/// Batch norms are recorded with their running statistics. What cannot be recorded exactly (grouped
/// convolutions, tensors on an autodiff device) makes [`finish`](Self::finish) an error; the
/// forward pass itself goes on, so that a model needs no error path of its own.
#[derive(Debug)]
pub struct Record {
    wanted: BTreeSet<u64>,
    nodes: Vec<Node>,
    kept: BTreeMap<Option<usize>, usize>,
    /// Scalars that the places of largest values take.
    indices: usize,
    refusal: Option<CurvatureError>,
}

/// A recorded forward pass: what cotangents of the logits can be carried back through, any number of
/// times.
#[derive(Debug)]
pub struct Recording {
    pub(crate) nodes: Vec<Node>,
    /// The node of the logits; `None` when no wanted parameter reaches them.
    pub(crate) output: Option<usize>,
    pub(crate) batch: usize,
    kept: usize,
}

impl Record {
    /// A tape that will be asked for gradients of `wanted` parameters only.
    pub fn new(wanted: impl IntoIterator<Item = ParamId>) -> Self {
        Self {
            wanted: wanted.into_iter().map(|id| id.val()).collect(),
            nodes: Vec::new(),
            kept: BTreeMap::new(),
            indices: 0,
            refusal: None,
        }
    }

    /// Records `forward` of `images`, `[n, channels, height, width]` on a plain device: the logits,
    /// `[n, k]`, and the recording.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn forward(
        mut self,
        images: Tensor<4>,
        forward: impl FnOnce(Var<4>, &mut dyn Tape) -> Var<2>,
    ) -> Result<(Tensor<2>, Recording), CurvatureError> {
        let batch = images.dims()[0];
        let tape: &mut dyn Tape = &mut self;
        let images = tape.constant(images);
        let logits = forward(images, tape);
        let recording = self.finish(logits.node(), logits.dims()[0])?;
        if recording.batch != batch {
            return Err(CurvatureError::Unsupported {
                what: format!("a forward pass that makes {} rows of {batch} pictures", recording.batch),
                mend: "keep one row of logits a picture",
            });
        }
        Ok((logits.into_value(), recording))
    }

    /// Ends the recording at `output`, a value of `batch` samples.
    ///
    /// # Errors
    /// [`CurvatureError::Unsupported`] with the first operation that could not be recorded.
    pub fn finish(self, output: Option<usize>, batch: usize) -> Result<Recording, CurvatureError> {
        match self.refusal {
            Some(refusal) => Err(refusal),
            None => Ok(Recording {
                kept: self.kept.values().sum::<usize>() + self.indices,
                nodes: self.nodes,
                output,
                batch,
            }),
        }
    }

    pub(crate) fn wants(&self, id: ParamId) -> Option<u64> {
        Some(id.val()).filter(|id| self.wanted.contains(id))
    }

    fn refuse(&mut self, what: impl Into<String>, mend: &'static str) {
        if self.refusal.is_none() {
            self.refusal = Some(CurvatureError::Unsupported { what: what.into(), mend });
        }
    }

    /// Books a kept tensor under the node that made it, so that a handle kept twice counts once.
    fn book(&mut self, made_by: Option<usize>, value: &AnyTensor) {
        self.kept.insert(made_by, value.dims().iter().product());
    }

    fn follow(&mut self, step: Step, inputs: [Option<usize>; 3], value: AnyTensor) -> ErasedVar {
        let dims = value.dims();
        let size = dims.iter().skip(1).product();
        self.nodes.push(Node { step, inputs, size });
        ErasedVar { value, node: Some(self.nodes.len() - 1) }
    }
}

impl Tape for Record {
    fn run(&mut self, op: Op<'_>, inputs: Inputs) -> ErasedVar {
        if let Some(apart) = op.apart() {
            return apart.run(inputs, self);
        }
        let mut spread = None;
        // A cotangent of the sum's shape would go to both summands as it is.
        if let (Op::Add, [Some(a), Some(b), _]) = (&op, inputs.each()) {
            let shapes = [a, b].map(|summand| (summand.node, summand.value.dims()));
            let sum: Vec<usize> = shapes[0].1.iter().zip(&shapes[1].1).map(|(a, b)| *a.max(b)).collect();
            spread = shapes.iter().any(|(node, shape)| node.is_some() && *shape != sum).then_some(sum);
        }
        if let Some(sum) = spread {
            self.refuse(
                format!("a sum that spreads a summand to {sum:?}"),
                "bring both summands to one shape first",
            );
            return ErasedVar::untracked(op.compute(inputs.into_values()));
        }
        let nodes = inputs.each().map(|input| input.and_then(|input| input.node));
        let tracked = inputs.each().into_iter().flatten().any(|input| input.value.is_autodiff());
        if tracked {
            self.refuse(
                format!("{} on an autodiff device", op.name()),
                "give it `model.valid()` and plain inputs; batch norms that train couple the samples of a batch",
            );
            return ErasedVar::untracked(op.compute(inputs.into_values()));
        }
        if nodes.iter().flatten().any(|&node| node >= self.nodes.len()) {
            self.refuse("a value of another tape", "use one tape for the whole forward pass");
            return ErasedVar::untracked(op.compute(inputs.into_values()));
        }
        let var = self.keep(op, inputs, nodes);
        if var.value.is_autodiff() {
            self.refuse(
                format!("{} with parameters on an autodiff device", op.name()),
                "give it `model.valid()`",
            );
        }
        var
    }
}

impl Recording {
    /// Number of samples, n.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Bytes that the recording holds.
    pub fn bytes(&self) -> usize {
        self.kept * size_of::<f32>()
    }

    /// Scalars of the widest followed value, a sample: what one cotangent column needs at least.
    pub fn widest(&self) -> usize {
        self.nodes.iter().map(|node| node.size).max().unwrap_or(0)
    }
}
