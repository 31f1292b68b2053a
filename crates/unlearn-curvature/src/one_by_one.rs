//! Per-sample gradients of any forward pass: one sample at a time, by Burn's automatic differentiation with respect to
//! every parameter.
//!
//! The [oracle](crate::oracle) does the same with float64 sums on the host and on several threads; this is what the
//! builders use, so that every estimator and every quantity of theirs is to be had for any model.

use burn::Tensor;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, TensorData};

use crate::CurvatureError;
use crate::estimate::Columns;
use crate::oracle::evaluation_copy;
use crate::probes::Probes;
use crate::reduce::Reduce;
use crate::sweep::{Frame, Targets, VectorTap};

/// Takes one parameter's gradient, `[p]`, where there is one.
type Take = Box<dyn Fn(&mut Gradients) -> Option<Tensor<1>>>;

/// One unit (a sample, or the group of a group mean) that went forward. It goes back once.
pub struct Unit {
    /// On the autodiff device.
    logits: Tensor<2>,
    /// By Burn's identifier.
    parameters: Vec<(u64, Take)>,
    scalars: usize,
}

impl std::fmt::Debug for Unit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unit").field("scalars", &self.scalars).finish_non_exhaustive()
    }
}

impl Unit {
    /// Takes the samples of one unit forward: the logits on a plain device, and what goes back.
    pub(crate) fn record<M: Module>(
        model: &M,
        targets: &Targets,
        images: Tensor<4>,
        forward: impl FnOnce(&M, Tensor<4>, &mut Probes) -> Tensor<2>,
    ) -> Result<(Tensor<2>, Self), CurvatureError> {
        let model = evaluation_copy(model);
        let n = images.dims()[0];
        let logits = Probes::unused(targets, n, |probes| forward(&model, images.autodiff(), probes))?;
        if logits.dims()[0] != n {
            return Err(CurvatureError::Unsupported {
                what: format!("a forward pass that makes {} rows of {n} pictures", logits.dims()[0]),
                mend: "keep one row of logits a picture",
            });
        }
        let mut leaves = Leaves { targets, parameters: Vec::new() };
        model.visit(&mut leaves);
        let parameters = leaves.parameters;
        let scalars = targets.iter().map(|target| target.shape.iter().product::<usize>()).sum();
        Ok((logits.clone().inner(), Self { logits, parameters, scalars }))
    }

    /// Bytes of its gradient. What Burn keeps of the operations cannot be seen from here.
    pub(crate) fn bytes(&self) -> usize {
        self.scalars * size_of::<f32>()
    }

    /// Carries one column back and hands the gradients to all `reducers`, zeros for a parameter that the logits do not
    /// depend on. `first` is the number of the unit.
    pub(crate) fn sweep(
        self,
        column: &Columns,
        first: usize,
        targets: &Targets,
        device: &Device,
        reducers: &mut [&mut dyn Reduce],
    ) -> Result<(), CurvatureError> {
        let frame = Frame::new(column, first, device);
        let shape = self.logits.dims();
        if (frame.units, column.count(), [column.samples(), column.classes()]) != (1, 1, shape) {
            return Err(CurvatureError::Argument {
                field: "columns",
                got: format!("{} of {} samples", column.count(), column.samples()),
                expected: "one column of one unit, a cotangent a logit",
            });
        }
        let cotangent = Tensor::from_data(TensorData::new(column.values().to_vec(), shape), device);
        let tracked = self.logits.is_tracked();
        let mut gradients = tracked.then(|| self.logits.mul(cotangent).sum().backward());
        // The backward pass has summed over the samples of the unit.
        let summed = Frame { group: 1, ..frame.clone() };
        for (id, take) in self.parameters {
            let Some(target) = targets.get(id) else { continue };
            let size = target.shape.iter().product();
            let gradient = gradients.as_mut().and_then(take);
            let gradient = gradient.unwrap_or_else(|| Tensor::zeros([size], device)).reshape([1, size]);
            let tap = VectorTap::new(target, gradient, &summed);
            reducers.iter_mut().try_for_each(|reducer| reducer.vector(&frame, &tap))?;
        }
        reducers.iter_mut().try_for_each(|reducer| reducer.end(&frame))
    }
}

/// Collects the parameters whose gradients are wanted.
struct Leaves<'a> {
    targets: &'a Targets,
    parameters: Vec<(u64, Take)>,
}

impl ModuleVisitor for Leaves<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let id = param.id.val();
        if self.targets.get(id).is_some() {
            let leaf = param.val();
            let take = move |gradients: &mut Gradients| {
                leaf.grad_remove(gradients).map(|gradient| gradient.flatten::<1>(0, D - 1))
            };
            self.parameters.push((id, Box::new(take)));
        }
    }
}
