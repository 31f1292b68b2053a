//! A mask as a constraint of a training run.

use std::collections::BTreeMap;

use burn::Tensor;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Bool, TensorData};
use unlearn_curvature::{ParamPath, PathTracker};
use unlearn_train::Constraint;

use crate::MaskSet;
use crate::edit::edit;

/// Keeps the weights that a [`MaskSet`] prunes at exactly `+0.0` through a run.
///
/// The gradients of pruned weights are filled with zero before the optimizer sees them, so that no
/// momentum gathers there, and the weights after each step, so that neither decoupled weight decay
/// nor momentum of an earlier life moves them. Both *fill* rather than multiply: a NaN or infinity
/// under the mask goes too, and no `-0.0` is left.
///
/// Made by [`MaskSet::constraint`].
#[derive(Debug, Clone)]
pub struct MaskConstraint {
    /// By path, flat `[n]` on the plain device of the parameter: `true` is pruned. Parameters of
    /// which nothing is pruned have no entry.
    pruned: BTreeMap<ParamPath, Tensor<1, Bool>>,
    fingerprint: String,
}

impl MaskConstraint {
    /// Uploads the masks to where the parameters of `model` lie. Names and shapes were checked.
    pub(crate) fn new<M: Module>(set: &MaskSet, model: &M) -> Self {
        let mut upload = Upload { tracker: PathTracker::default(), set, pruned: BTreeMap::new() };
        model.visit(&mut upload);
        Self { pruned: upload.pruned, fingerprint: set.fingerprint() }
    }
}

impl<M: Module> Constraint<M> for MaskConstraint {
    fn gradients(&self, model: &M, gradients: GradientsParams) -> GradientsParams {
        let mut fill = FillGradients { tracker: PathTracker::default(), constraint: self, gradients };
        model.visit(&mut fill);
        fill.gradients
    }

    fn project(&self, model: M) -> M {
        model.map(&mut FillWeights { tracker: PathTracker::default(), constraint: self })
    }

    fn describe(&self) -> String {
        format!("mask(sha256={})", self.fingerprint)
    }
}

struct Upload<'a> {
    tracker: PathTracker,
    set: &'a MaskSet,
    pruned: BTreeMap<ParamPath, Tensor<1, Bool>>,
}

impl ModuleVisitor for Upload<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.tracker.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.tracker.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.tracker.path();
        let Some(mask) = self.set.get(&path).filter(|mask| mask.kept() < mask.total()) else { return };
        let pruned: Vec<bool> = mask.keep().iter().map(|k| !k).collect();
        let n = pruned.len();
        let device = param.lazy_device().without_autodiff();
        self.pruned.insert(path, Tensor::from_data(TensorData::new(pruned, [n]), &device));
    }
}

struct FillGradients<'a> {
    tracker: PathTracker,
    constraint: &'a MaskConstraint,
    gradients: GradientsParams,
}

impl ModuleVisitor for FillGradients<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.tracker.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.tracker.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(pruned) = self.constraint.pruned.get(&self.tracker.path()) else { return };
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            let pruned = pruned.clone().reshape(gradient.shape());
            self.gradients.register(param.id, gradient.mask_fill(pruned, 0.0));
        }
    }
}

struct FillWeights<'a> {
    tracker: PathTracker,
    constraint: &'a MaskConstraint,
}

impl ModuleMapper for FillWeights<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.tracker.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.tracker.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(pruned) = self.constraint.pruned.get(&self.tracker.path()) else { return param };
        edit(param, |value| {
            let pruned = pruned.clone().reshape(value.shape());
            value.mask_fill(pruned, 0.0)
        })
    }
}
