//! Gradients for scores: of a copy in inference mode, with respect to the prunable weights only.

use std::collections::BTreeSet;

use burn::Tensor;
use burn::module::{Flag, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Device};
use serde::{Deserialize, Serialize};
use unlearn_curvature::{CurvatureError, ParamInfo, ParamPath, ParamTree, PathTracker, PerSample};
use unlearn_data::Batch;
use unlearn_models::{Classifier, forward_taped};

use super::{Scores, ScoringData};
use crate::PruneError;
use crate::edit::edit;

/// In which floating-point type a score is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// Float64 where the device has it and the model is written on a tape, whose operations are
    /// known to follow their operands' type; float32 elsewhere.
    #[default]
    Auto,
    /// The type that the weights have.
    Single,
    /// Float64: the device must have it, and the model may bring no float32 constants of its own.
    Double,
}

impl Precision {
    /// The type to cast to, or `None` to stay.
    pub(super) fn cast<M: Classifier>(self, model: &M) -> Result<Option<DType>, PruneError> {
        let Some(device) = model.devices().into_iter().next() else { return Ok(None) };
        let has_double = device.supports_dtype(DType::F64);
        match self {
            Self::Double if !has_double => Err(PruneError::Config {
                field: "type of the score",
                got: "float64".into(),
                expected: "one that the model's device has".into(),
                mend: "score on a device with float64 (the CPU backends have it), or by another score".into(),
            }),
            Self::Auto if has_double && model.taped().is_some() => Ok(Some(DType::F64)),
            Self::Double => Ok(Some(DType::F64)),
            Self::Auto | Self::Single => Ok(None),
        }
    }
}

/// A copy of a model from which gradients for a score are taken: batch norms and dropout in
/// inference mode, only the prunable weights tracked, whatever training would move.
pub(super) struct Probe<M> {
    pub(super) model: M,
    /// The model's device, with autodiff.
    pub(super) device: Device,
    dtype: Option<DType>,
}

impl<M: Classifier> Probe<M> {
    /// Copies `model` and casts it.
    pub(super) fn new(model: &M, prunable: &[ParamInfo], dtype: Option<DType>) -> Result<Self, PruneError> {
        let Some(device) = model.devices().into_iter().next() else {
            return Err(PruneError::NothingPrunable {
                rule: "of the score".into(),
                mend: "the model has no parameters".into(),
            });
        };
        let targets = prunable.iter().map(|p| p.path.clone()).collect();
        let mut cast = Cast { tracker: PathTracker::default(), targets, dtype };
        let model = model.valid().map(&mut cast).train().map(&mut Inference);
        Ok(Self { model, device: device.autodiff(), dtype })
    }

    /// The same with other values in the model, which `change` makes of this one's.
    pub(super) fn with_model(
        &self,
        change: impl FnOnce(&M) -> Result<M, PruneError>,
    ) -> Result<Self, PruneError> {
        let model = change(&self.model)?.valid().train().map(&mut Inference);
        Ok(Self { model, device: self.device.clone(), dtype: self.dtype })
    }

    /// A tensor in the type of the model.
    pub(super) fn cast<const D: usize>(&self, tensor: Tensor<D>) -> Tensor<D> {
        match self.dtype {
            Some(dtype) => tensor.cast(dtype),
            None => tensor,
        }
    }

    /// Gradient of the mean cross-entropy of `logits / temperature` over all of `data`.
    pub(super) fn mean_gradient(
        &self,
        data: &ScoringData,
        temperature: f64,
    ) -> Result<ParamTree, CurvatureError> {
        let mut sum: Option<ParamTree> = None;
        for batch in data.batches(&self.device) {
            let gradient = self.sum_gradient(&batch, temperature);
            sum = Some(match sum {
                None => gradient,
                Some(sum) => sum.add(&gradient)?,
            });
        }
        Ok(sum.unwrap_or_default().scale(1.0 / data.num_samples() as f64))
    }

    /// Gradient of the mean cross-entropy over all of `data`, by the curvature engine.
    pub(super) fn taped_gradient(&self, data: &ScoringData) -> Result<ParamTree, CurvatureError> {
        let n = data.num_samples();
        PerSample::new().weighted_gradient(&self.model, forward_taped, data, &vec![1.0 / n as f64; n])
    }

    /// Gradient of the summed cross-entropy of `logits / temperature` over one batch.
    pub(super) fn sum_gradient(&self, batch: &Batch, temperature: f64) -> ParamTree {
        let logits = self.model.forward(self.cast(batch.images.clone()));
        self.gradient(cross_entropy_sum(logits, batch, temperature))
    }

    /// Gradient of a loss of this copy, by path.
    pub(super) fn gradient(&self, loss: Tensor<1>) -> ParamTree {
        let gradients = GradientsParams::from_grads(loss.backward(), &self.model);
        ParamTree::of_gradients(&self.model, &gradients)
    }

    /// The tracked weights, by path.
    pub(super) fn weights(&self) -> ParamTree {
        ParamTree::of_parameters(&self.model)
    }
}

/// Σᵢ −log softmax(logitsᵢ / temperature) at the label, `[1]`.
fn cross_entropy_sum(logits: Tensor<2>, batch: &Batch, temperature: f64) -> Tensor<1> {
    let log_p = log_softmax(logits.div_scalar(temperature), 1); // [n, classes]
    log_p.gather(1, batch.targets.clone().unsqueeze_dim(1)).sum().neg()
}

struct Cast {
    tracker: PathTracker,
    targets: BTreeSet<ParamPath>,
    dtype: Option<DType>,
}

impl ModuleMapper for Cast {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.tracker.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.tracker.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let target = self.targets.contains(&self.tracker.path());
        let param = match self.dtype {
            Some(dtype) => edit(param, |value| value.cast(dtype)),
            None => param,
        };
        param.set_require_grad(target)
    }
}

/// Switches batch norms and dropout to inference, which an autodiff device alone would not.
struct Inference;

impl ModuleMapper for Inference {
    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        flag.with_value(false)
    }
}

/// The leaves of a tree as scores. Values that float32 cannot hold are brought into its range by
/// one common factor, which no ranking sees.
pub(super) fn to_scores(tree: &ParamTree) -> Result<Scores, PruneError> {
    let read = |values: Tensor<1>| {
        let data = values.try_into_data().map_err(|e| PruneError::Read { reason: e.to_string() })?;
        data.try_into_vec_as::<f64>().map_err(|e| PruneError::Read { reason: format!("{e:?}") })
    };
    let mut wide = Vec::with_capacity(tree.len());
    for (path, leaf) in tree.iter() {
        wide.push((path.clone(), read(leaf.values.clone())?));
    }
    let largest =
        wide.iter().flat_map(|(_, v)| v).filter(|v| v.is_finite()).fold(0.0_f64, |m, v| m.max(v.abs()));
    let factor = if largest > f64::from(f32::MAX) { f64::from(f32::MAX) / largest } else { 1.0 };
    let narrow = |values: Vec<f64>| values.into_iter().map(|v| (v * factor) as f32).collect();
    Ok(wide.into_iter().map(|(path, values)| (path, narrow(values))).collect())
}
