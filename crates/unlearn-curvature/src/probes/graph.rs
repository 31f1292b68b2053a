//! A marked forward pass, and going back through it.

use std::collections::BTreeMap;

use burn::Tensor;
use burn::tensor::{Device, Gradients, TensorData};

use super::{Mark, Probes, Purpose};
use crate::CurvatureError;
use crate::estimate::Columns;
use crate::reduce::Reduce;
use crate::sweep::{Frame, Pending, Targets, hand_over, note};
use crate::tape::AnyTensor;

/// Burn's graph of one batch, with the marks in it. It goes back once.
#[derive(Debug)]
pub struct Graph {
    /// On the autodiff device.
    logits: Tensor<2>,
    marks: Vec<Mark>,
    batch: usize,
    scalars: usize,
    widest: usize,
}

impl Graph {
    /// Takes `images` `[n, channels, height, width]` forward: the logits on a plain device, and the graph.
    pub(crate) fn record(
        targets: &Targets,
        images: Tensor<4>,
        forward: impl FnOnce(Tensor<4>, &mut Probes) -> Tensor<2>,
    ) -> Result<(Tensor<2>, Self), CurvatureError> {
        let batch = images.dims()[0];
        let mut probes = Probes::new(targets, batch, Purpose::Gradients);
        let logits = forward(images, &mut probes);
        if let Some(refusal) = probes.refusal {
            return Err(refusal);
        }
        if logits.dims()[0] != batch {
            return Err(CurvatureError::Unsupported {
                what: format!("a forward pass that makes {} rows of {batch} pictures", logits.dims()[0]),
                mend: "keep one row of logits a picture",
            });
        }
        let marked = |id: u64| probes.marks.iter().any(|mark| mark.step.parameters().any(|own| own == id));
        let mut unmarked: Vec<_> =
            targets.iter().filter(|t| !marked(t.id)).map(|t| t.path.to_string()).collect();
        if !unmarked.is_empty() {
            unmarked.sort();
            return Err(CurvatureError::Unmarked { parameters: unmarked });
        }
        let Probes { marks, scalars, widest, .. } = probes;
        Ok((logits.clone().inner(), Self { logits, marks, batch, scalars, widest }))
    }

    /// Bytes that the batch holds: inputs and outputs of marked layers, probes and cotangents, and as much again for
    /// what Burn keeps of the operations between them, which cannot be seen from here.
    pub(crate) fn bytes(&self) -> usize {
        2 * self.scalars * size_of::<f32>()
    }

    /// Scalars of the widest output of a marked layer, a sample.
    pub(crate) fn widest(&self) -> usize {
        self.widest
    }

    /// Carries one column back and hands what each parameter sees to all `reducers`, each parameter once. A parameter
    /// that is used several times gets the sum over its uses. `first` is the number of the first unit.
    pub(crate) fn sweep(
        self,
        column: &Columns,
        first: usize,
        targets: &Targets,
        device: &Device,
        reducers: &mut [&mut dyn Reduce],
    ) -> Result<(), CurvatureError> {
        let (frame, batch) = (Frame::new(column, first, device), self.batch);
        let shape = self.logits.dims();
        if [column.samples(), column.classes()] != shape || column.count() != 1 {
            return Err(CurvatureError::Argument {
                field: "columns",
                got: format!("{} of {} samples", column.count(), column.samples()),
                expected: "one column, a cotangent a logit",
            });
        }
        let cotangent = Tensor::from_data(TensorData::new(column.values().to_vec(), shape), device);
        let mut uses: BTreeMap<u64, usize> = BTreeMap::new();
        for id in self.marks.iter().flat_map(|mark| mark.step.parameters()) {
            *uses.entry(id).or_default() += 1;
        }
        let (marks, mut gradients) = self.back(cotangent);
        let mut pending: BTreeMap<u64, Pending> = BTreeMap::new();
        let mut missing: Vec<String> = Vec::new();
        for mark in marks.into_iter().rev() {
            let cotangent = gradients.as_mut().and_then(|gradients| mark.probe.grad_remove(gradients));
            if let Some(cotangent) = cotangent {
                let cotangent = AnyTensor::from_three(cotangent, &mark.dims);
                mark.step.back(cotangent, (batch, 1), [false; 3], &mut |e| note(&mut pending, e));
            }
            for id in mark.step.parameters() {
                let left = uses.get_mut(&id).map_or(0, |left| {
                    *left -= 1;
                    *left
                });
                if left == 0 && !hand_over(targets, id, pending.remove(&id), &frame, reducers)? {
                    missing.extend(targets.get(id).map(|target| target.path.to_string()));
                }
            }
        }
        if let Some(path) = missing.first() {
            return Err(CurvatureError::Unsupported {
                what: format!(
                    "this forward pass: {} of {} trainable parameters do not lead to the logits, among them `{path}`",
                    missing.len(),
                    targets.len(),
                ),
                mend: "detach nothing between a marked layer and the logits, or freeze the parameters that are not \
                       used",
            });
        }
        reducers.iter_mut().try_for_each(|reducer| reducer.end(&frame))
    }

    /// Pulls `cotangent` `[n, k]` back. The graph is freed; the gradients of the probes are all that is left of it.
    /// `None` when no mark leads to the logits.
    fn back(self, cotangent: Tensor<2>) -> (Vec<Mark>, Option<Gradients>) {
        let gradients = self.logits.is_tracked().then(|| self.logits.mul(cotangent).sum().backward());
        (self.marks, gradients)
    }

    /// The cotangents `[n, …, …]` of the marked layers' outputs, where `cotangent` reaches them.
    pub(crate) fn cotangents(self, cotangent: Tensor<2>) -> Vec<Tensor<3>> {
        let (marks, Some(mut gradients)) = self.back(cotangent) else { return Vec::new() };
        marks.iter().filter_map(|mark| mark.probe.grad_remove(&mut gradients)).collect()
    }
}
