//! Adapters into weights, and out again.

use std::collections::BTreeMap;

use burn::Tensor;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Bool, TensorData};
use unlearn_curvature::{ParamPath, ParamTree, PathTracker};

use super::{Adapted, LoraError, OutputChange};
use crate::checkpoint::CheckpointError;
use crate::classifier::Classifier;

/// Which entries of a parameter a pruned network keeps, row-major; parameters that are not named keep all. The same
/// form as the curvature engine's `kept`.
pub type Kept = BTreeMap<ParamPath, Vec<bool>>;

#[derive(Debug, Clone, Copy)]
enum Sign {
    Plus,
    Minus,
}

impl<M: Classifier> Adapted<M> {
    /// The network with every branch added to its layer's weight: W + scale · B A. A plain copy without adapters, on a
    /// plain device, that gives the same outputs to rounding and trains as the base did.
    ///
    /// # Errors
    /// [`LoraError::Curvature`] when the device fails.
    pub fn merge(&self) -> Result<M, LoraError> {
        self.combined(&self.base, Sign::Plus, &Kept::new())
    }

    /// Takes the branches out of a network that [`merge`](Self::merge) gave: its base to rounding. The base itself,
    /// to the bit, is [`to_base`](Self::to_base).
    ///
    /// # Errors
    /// [`LoraError::Curvature`] when `merged` is of another shape, or the device fails.
    pub fn unmerge(&self, merged: &M) -> Result<M, LoraError> {
        self.combined(merged, Sign::Minus, &Kept::new())
    }

    /// As [`merge`](Self::merge), but of a branch only what falls on weights that are kept: W + M ⊙ (scale · B A). Every
    /// entry that `kept` says `false` of is `+0.0` in the result, so a pruned network stays exactly as sparse. What
    /// that changes of the outputs is [`output_change`](Self::output_change).
    ///
    /// # Errors
    /// [`LoraError::Mask`] for a parameter that the base does not have or that is of another size.
    pub fn masked_merge(&self, kept: &Kept) -> Result<M, LoraError> {
        self.combined(&self.base, Sign::Plus, kept)
    }

    /// How far the logits of `merged` are from this network's on `images` `[n, channels, height, width]`, in evaluation
    /// mode.
    ///
    /// # Errors
    /// [`LoraError::Checkpoint`] when the device fails.
    pub fn output_change(&self, merged: &M, images: Tensor<4>) -> Result<OutputChange, LoraError> {
        let images = if images.is_autodiff() { images.inner() } else { images };
        let difference = self.valid().forward(images.clone()) - merged.valid().forward(images);
        let failed =
            |reason: String| LoraError::from(CheckpointError::Device { path: "the logits".into(), reason });
        let data = difference.try_into_data().map_err(|e| failed(e.to_string()))?;
        let values = data.try_into_vec_as::<f32>().map_err(|e| failed(format!("{e:?}")))?;
        let sizes = values.iter().map(|v| f64::from(v.abs()));
        // A difference that is not a number is the largest there can be.
        let largest = sizes.clone().fold(0.0, |most: f64, v| if v > most || v.is_nan() { v } else { most });
        Ok(OutputChange { largest, mean: sizes.sum::<f64>() / values.len().max(1) as f64 })
    }

    fn combined(&self, module: &M, sign: Sign, kept: &Kept) -> Result<M, LoraError> {
        let mut deltas: BTreeMap<ParamPath, Tensor<1>> = BTreeMap::new();
        let mut put = |path: &ParamPath, delta: Tensor<1>| {
            let delta = if delta.is_autodiff() { delta.inner() } else { delta };
            deltas.insert(path.clone(), delta);
        };
        for adapter in &self.convs {
            let delta = adapter.delta();
            let size = delta.shape().num_elements();
            put(&adapter.place.weight, delta.reshape([size]));
        }
        for adapter in &self.linears {
            let delta = adapter.delta();
            let size = delta.shape().num_elements();
            put(&adapter.place.weight, delta.reshape([size]));
        }
        let mut walk = Combine {
            tracker: PathTracker::default(),
            deltas,
            sign,
            kept: kept.iter().collect(),
            result: ParamTree::new(),
            error: None,
        };
        let plain = self.plan.frozen.thaw(module);
        plain.visit(&mut walk);
        if let Some(error) = walk.error {
            return Err(error);
        }
        if let Some((path, keep)) = walk.kept.into_iter().next() {
            return Err(LoraError::Mask { path: path.to_string(), got: keep.len(), expected: 0 });
        }
        Ok(walk.result.write_into(&plain)?)
    }
}

/// New values of the parameters that have a branch or a mask.
struct Combine<'a> {
    tracker: PathTracker,
    deltas: BTreeMap<ParamPath, Tensor<1>>,
    sign: Sign,
    kept: BTreeMap<&'a ParamPath, &'a Vec<bool>>,
    result: ParamTree,
    error: Option<LoraError>,
}

impl ModuleVisitor for Combine<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.tracker.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.tracker.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.tracker.path();
        let (delta, keep) = (self.deltas.remove(&path), self.kept.remove(&path));
        if self.error.is_some() || (delta.is_none() && keep.is_none()) {
            return;
        }
        let value = param.val();
        let shape = value.dims().to_vec();
        let size = shape.iter().product();
        let mut value = value.reshape([size]);
        if let Some(delta) = delta {
            value = match self.sign {
                Sign::Plus => value + delta,
                Sign::Minus => value - delta,
            };
        }
        if let Some(keep) = keep {
            if keep.len() != size {
                let path = path.to_string();
                self.error = Some(LoraError::Mask { path, got: keep.len(), expected: size });
                return;
            }
            let pruned: Vec<bool> = keep.iter().map(|k| !k).collect();
            let pruned = Tensor::<1, Bool>::from_data(TensorData::new(pruned, [size]), &value.device());
            // Filled, not multiplied: no −0.0 is left, nor what is not a number.
            value = value.mask_fill(pruned, 0.0);
        }
        if let Err(error) = self.result.insert(path, shape, value) {
            self.error = Some(error.into());
        }
    }
}
