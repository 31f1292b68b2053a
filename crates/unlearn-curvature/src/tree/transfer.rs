//! Walks over a module that take its values or gradients, and put values back.

use burn::Tensor;
use burn::module::{ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;

use super::{Leaf, ParamTree};
use crate::path::PathTracker;

pub(super) struct ValueReader {
    pub(super) tracker: PathTracker,
    pub(super) tree: ParamTree,
}

impl ModuleVisitor for ValueReader {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.tracker.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.tracker.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let value = param.val().inner();
        let shape = value.dims().to_vec();
        let n: usize = shape.iter().product();
        self.tree.leaves.insert(self.tracker.path(), Leaf { shape, values: value.reshape([n]) });
    }
}

pub(super) struct GradientReader<'a> {
    pub(super) tracker: PathTracker,
    pub(super) gradients: &'a GradientsParams,
    pub(super) tree: ParamTree,
}

impl ModuleVisitor for GradientReader<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.tracker.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.tracker.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let value = match self.gradients.get::<D>(param.id) {
            Some(gradient) => gradient,
            None => param.val().inner().zeros_like(),
        };
        let shape = value.dims().to_vec();
        let n: usize = shape.iter().product();
        self.tree.leaves.insert(self.tracker.path(), Leaf { shape, values: value.reshape([n]) });
    }
}

pub(super) struct ValueWriter<'a> {
    pub(super) tracker: PathTracker,
    pub(super) tree: &'a ParamTree,
}

impl ModuleMapper for ValueWriter<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.tracker.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.tracker.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.tree.leaves.get(&self.tracker.path()) {
            None => param,
            Some(leaf) => param.map(|old| leaf.values.clone().to_device(&old.device()).reshape(old.shape())),
        }
    }
}
