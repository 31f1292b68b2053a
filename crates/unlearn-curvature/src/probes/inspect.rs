//! What would make the gradients of a marked forward pass wrong in silence, looked for before the work begins.

use burn::Tensor;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::TensorData;

use super::{Graph, Probes, Purpose};
use crate::oracle::evaluation_copy;
use crate::sweep::Targets;
use crate::tree::read;
use crate::way::{Forward, Marked};
use crate::{CurvatureError, PathTracker};

/// Refuses a forward pass in which a trainable parameter leads to the logits other than by its marked layer: its
/// gradient would lack a part. Marked layers are made constants, so that what still gets a gradient is used elsewhere.
pub(crate) fn unmarked_uses<M: Module, F: Forward<M, Marked>>(
    model: &M,
    targets: &Targets,
    images: Tensor<4>,
    forward: &F,
) -> Result<(), CurvatureError> {
    let model = evaluation_copy(model);
    let mut probes = Probes::new(targets, images.dims()[0], Purpose::OtherUses);
    let logits = forward(&model, images, &mut probes);
    if let Some(refusal) = probes.refusal {
        return Err(refusal);
    }
    if !logits.is_tracked() {
        return Ok(());
    }
    let gradients = GradientsParams::from_grads(logits.sum().backward(), &model);
    let mut reached = Reached { tracker: PathTracker::default(), gradients, paths: Vec::new() };
    model.visit(&mut reached);
    if reached.paths.is_empty() {
        return Ok(());
    }
    Err(CurvatureError::Unsupported {
        what: format!("a use of {} beside the marked layer", reached.paths.join(", ")),
        mend: "use a parameter in marked layers only, or take the oracle for this model",
    })
}

/// Lists the parameters that have a gradient.
struct Reached {
    tracker: PathTracker,
    gradients: GradientsParams,
    paths: Vec<String>,
}

impl ModuleVisitor for Reached {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.tracker.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.tracker.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.gradients.get::<D>(param.id).is_some() {
            self.paths.push(format!("`{}`", self.tracker.path()));
        }
    }
}

/// Refuses a forward pass in which the logits of the first of `images` depend on what a marked layer makes of another:
/// statistics over the batch, or samples out of their order.
pub(crate) fn coupling(
    targets: &Targets,
    images: Tensor<4>,
    forward: impl FnOnce(Tensor<4>, &mut Probes) -> Tensor<2>,
) -> Result<(), CurvatureError> {
    let n = images.dims()[0];
    if n < 2 {
        return Ok(());
    }
    let (logits, graph) = Graph::record(targets, images, forward)?;
    let k = logits.dims()[1];
    let only_first = (0..n * k).map(|i| if i < k { 1.0_f32 } else { 0.0 }).collect();
    let cotangent = Tensor::from_data(TensorData::new(only_first, [n, k]), &logits.device());
    for cotangent in graph.cotangents(cotangent) {
        let others = cotangent.narrow(0, 1, n - 1).abs().max().reshape([1]);
        // What is not a number is told when it comes to results.
        if read(others)?[0] > 0.0 {
            return Err(CurvatureError::Unsupported {
                what: "a forward pass that mixes the samples of a batch".into(),
                mend: "keep samples apart and in their order: without statistics over the batch a sample has a \
                       gradient of its own",
            });
        }
    }
    Ok(())
}
