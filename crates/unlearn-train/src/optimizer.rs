//! Optimizers, driven parameter by parameter.
//!
//! Burn's own `ModuleOptimizer` keys its state by `ParamId`, which changes whenever a model is built
//! anew, puts loaded state on `Device::default()`, and drops state that it cannot rebuild without a
//! word. Here state is keyed by parameter path, so that it fits the model that another process
//! builds, and every mismatch is an error.
//!
//! The rules are our own, PyTorch's to rounding.

use std::any::Any;
use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::{GradientsParams, Optimizer};
use burn::tensor::Tensor;
use unlearn_curvature::fused::{Adam, Descent};
use unlearn_curvature::{ParamPath, PathTracker};

use crate::OptimizerConfig;
use crate::adam::AdamW;
use crate::sgd::Sgd;

/// What one optimizer knows of one parameter: an `O::State<D>`.
pub(crate) type State = Box<dyn Any + Send + Sync>;

/// An optimizer with its state.
pub(crate) enum Stepper {
    /// Stochastic gradient descent.
    Sgd(Rule<Sgd>),
    /// Adam with decoupled weight decay.
    AdamW(Rule<AdamW>),
}

impl Stepper {
    pub(crate) fn new(config: &OptimizerConfig) -> Self {
        match *config {
            OptimizerConfig::Sgd { momentum, weight_decay, nesterov } => {
                Self::Sgd(Rule::new(Sgd(Descent { momentum, nesterov, weight_decay })))
            }
            OptimizerConfig::AdamW { beta_1, beta_2, epsilon, weight_decay } => {
                Self::AdamW(Rule::new(AdamW(Adam { beta_1, beta_2, epsilon, weight_decay })))
            }
        }
    }

    /// One step of every parameter that has a gradient.
    pub(crate) fn step<M: Module>(&mut self, rate: f64, model: M, gradients: GradientsParams) -> M {
        match self {
            Self::Sgd(rule) => rule.step(rate, model, gradients),
            Self::AdamW(rule) => rule.step(rate, model, gradients),
        }
    }
}

/// A per-parameter optimizer with a state for each parameter that it has moved.
pub(crate) struct Rule<O> {
    pub(crate) optimizer: O,
    pub(crate) states: BTreeMap<ParamPath, State>,
}

impl<O: Optimizer> Rule<O> {
    fn new(optimizer: O) -> Self {
        Self { optimizer, states: BTreeMap::new() }
    }

    fn step<M: Module>(&mut self, rate: f64, model: M, gradients: GradientsParams) -> M {
        model.map(&mut StepMapper { rule: self, rate, gradients, tracker: PathTracker::default() })
    }
}

struct StepMapper<'a, O> {
    rule: &'a mut Rule<O>,
    rate: f64,
    gradients: GradientsParams,
    tracker: PathTracker,
}

impl<O: Optimizer> ModuleMapper for StepMapper<'_, O> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.tracker.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.tracker.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else { return param };
        let path = self.tracker.path();
        let state = self.rule.states.remove(&path).and_then(|s| s.downcast::<O::State<D>>().ok());
        param.map(|value| {
            let (value, state) =
                self.rule.optimizer.step(self.rate, value.inner(), gradient, state.map(|s| *s));
            if let Some(state) = state {
                self.rule.states.insert(path, Box::new(state));
            }
            // A gradient exists only for a parameter that requires one.
            Tensor::from_inner(value).require_grad()
        })
    }
}

#[cfg(test)]
mod tests;
