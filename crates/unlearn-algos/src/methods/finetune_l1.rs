//! ℓ1-sparse unlearning (FT-ℓ1): fine-tuning with a fading penalty on the size of the weights.
//!
//! # What it does
//! Fine-tunes on the retain set with γ_t‖θ‖₁ added to the loss. The penalty pulls weights towards zero
//! early on and fades out linearly, so that what only served the forgotten samples goes and the rest
//! recovers.
//!
//! # Needs
//! The retain set. The forget set is never read.
//!
//! # Definition
//! min_θ ℓ(θ; D_r) + γ_t‖θ‖₁ with γ_t = γ (1 − t/(E − K)) in epoch t = 0, 1, … < E − K and 0 afterwards
//! (Jia et al. 2023, eq. 3 and §4, "linearly decreasing"), for E epochs of which the last K have no
//! penalty.
//!
//! # Hyperparameters
//! | name | default | meaning |
//! |---|---|---|
//! | `gamma` | 1e-4 | γ, the penalty of the first epoch |
//! | `free_epochs` | 0 | K, the last epochs without a penalty |
//! | `form` | `subgradient` | see below |
//! | others | as `finetune`, `lora` too | |
//!
//! Forms: `subgradient` adds γ_t·sign(w) of the *weights* (convolutions, linear layers, embeddings; no
//! bias, no norm) to the gradient. `proximal` minimises the loss by the optimizer and then shrinks each
//! weight by rate·γ_t towards zero (soft threshold), so that zeros are exact; it does not pass through
//! momentum, so at momentum 0.9 one step shrinks about ten times less than `subgradient` does at equal γ.
//! `reference` is the published code's subgradient over *every* parameter.
//!
//! With `lora` the penalty is on what is trained: the two factors of each adapter, and the weights of modules that are
//! trained in full.
//!
//! # Diagnostics
//! Those of `finetune`, and `zero_share`: how many of the weights (matrices and convolutions; no bias, no norm) are exactly
//! zero, 0–1, those that the mask removes among them.
//!
//! # Cost
//! As `finetune`; one pass over the parameters more a step.
//!
//! # Differences from the published code
//! It penalises norm scales and biases too, which no sparsity model asks for (kept under
//! `form = "reference"`), and its sub-gradient never yields a zero, though the sparsity is printed
//! afterwards (`form = "proximal"` does).
//!
//! # Example
//! ```toml
//! [[method]]
//! name = "finetune-l1"
//! gamma = 1e-4
//! form = "proximal"
//! ```
//!
//! # References
//! Jia et al.: Model Sparsity Can Simplify Machine Unlearning, NeurIPS 2023, <https://arxiv.org/abs/2304.04934>.

use burn::Tensor;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use serde::{Deserialize, Serialize};
use unlearn_data::{Augment, Batch, Partition};
use unlearn_models::{Classifier, LoraConfig};
use unlearn_train::{BatchNormMode, CrossEntropy, Loss, Moment, Objective, OptimizerConfig, Schedule};

use super::FineTune;
use crate::check;
use crate::{Context, Outcome, Reads, Unlearn, UnlearnError};

/// How the penalty acts; see the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum L1Form {
    /// γ_t·sign(w) joins the gradient of the weights.
    #[default]
    Subgradient,
    /// A soft threshold of rate·γ_t after each step on the weights: zeros are exact.
    Proximal,
    /// γ_t·sign(θ) joins the gradient of every parameter, as in the published code.
    Reference,
}

/// ℓ1-sparse unlearning; the page is that of this [module](self) and of `unlearn methods finetune-l1`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FineTuneL1 {
    /// γ, the penalty of the first epoch; finite and not negative.
    pub gamma: f64,
    /// K, how many of the last epochs have no penalty; less than `epochs`.
    pub free_epochs: u64,
    /// How the penalty acts.
    pub form: L1Form,
    /// Passes over the retain set, at least 1.
    pub epochs: u64,
    /// Learning rate before the schedule, above zero.
    pub learning_rate: f64,
    /// The optimizer.
    pub optimizer: OptimizerConfig,
    /// How the learning rate goes.
    pub schedule: Schedule,
    /// Samples a step; absent: as in training.
    pub batch_size: Option<usize>,
    /// What is done to the pictures; absent: as in training.
    pub augment: Option<Augment>,
    /// What batch norms do.
    pub batch_norm: BatchNormMode,
    /// Trains adapters instead of the weights; absent: the weights.
    pub lora: Option<LoraConfig>,
}

impl Default for FineTuneL1 {
    fn default() -> Self {
        let FineTune { epochs, learning_rate, optimizer, schedule, batch_size, augment, batch_norm, lora } =
            FineTune::default();
        Self {
            gamma: 1e-4,
            free_epochs: 0,
            form: L1Form::Subgradient,
            epochs,
            learning_rate,
            optimizer,
            schedule,
            batch_size,
            augment,
            batch_norm,
            lora,
        }
    }
}

const NAME: &str = "finetune-l1";

impl FineTuneL1 {
    fn fine_tune(&self) -> FineTune {
        FineTune {
            epochs: self.epochs,
            learning_rate: self.learning_rate,
            optimizer: self.optimizer,
            schedule: self.schedule.clone(),
            batch_size: self.batch_size,
            augment: self.augment,
            batch_norm: self.batch_norm,
            lora: self.lora.clone(),
        }
    }

    fn check(&self) -> Result<(), UnlearnError> {
        self.fine_tune().check(NAME)?;
        let fine = self.gamma.is_finite() && self.gamma >= 0.0;
        check::require(fine, NAME, "gamma", self.gamma, "finite and not negative", "1e-6 to 1e-4 is usual")?;
        check::require(
            self.free_epochs < self.epochs,
            NAME,
            "free_epochs",
            self.free_epochs,
            "less than epochs",
            "use finetune for no penalty at all",
        )
    }
}

impl<M: Classifier> Unlearn<M> for FineTuneL1 {
    fn name(&self) -> &'static str {
        NAME
    }

    fn reads(&self) -> Reads {
        Reads::Retain
    }

    fn is_reference(&self) -> bool {
        self.form == L1Form::Reference
    }

    fn hyperparameters(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn validate(&self) -> Result<(), UnlearnError> {
        self.check()
    }

    fn unlearn(
        &self,
        model: M,
        partition: &Partition,
        context: &mut Context<'_, M>,
    ) -> Result<Outcome<M>, UnlearnError> {
        self.check()?;
        let objective = Penalised {
            loss: CrossEntropy { label_smoothing: context.training.label_smoothing },
            gamma: self.gamma,
            until: self.epochs - self.free_epochs,
            form: self.form,
        };
        let mut outcome = self.fine_tune().run(&objective, model, partition, context)?;
        outcome.diagnostics.insert("zero_share".into(), zero_share(&outcome.model));
        Ok(outcome)
    }
}

/// Cross-entropy with γ_t‖θ‖₁.
#[derive(Debug, Clone, Copy)]
struct Penalised {
    loss: CrossEntropy,
    gamma: f64,
    until: u64,
    form: L1Form,
}

impl Penalised {
    /// γ_t.
    fn gamma_at(&self, epoch: u64) -> f64 {
        let left = self.until.saturating_sub(epoch);
        self.gamma * left as f64 / self.until as f64
    }
}

impl<M: Classifier> Objective<M> for Penalised {
    fn loss(&self, model: &M, batch: &Batch, at: Moment) -> Loss {
        let Loss { value, logits } = Objective::<M>::loss(&self.loss, model, batch, at);
        let gamma = self.gamma_at(at.epoch);
        if gamma == 0.0 || self.form == L1Form::Proximal {
            return Loss { value, logits };
        }
        let mut sum = AbsoluteSum { all: self.form == L1Form::Reference, sum: None };
        model.visit(&mut sum);
        let value = match sum.sum {
            Some(sum) => value + sum.mul_scalar(gamma),
            None => value,
        };
        Loss { value, logits }
    }

    fn proximal(&self, model: M, rate: f64, at: Moment) -> M {
        let threshold = rate * self.gamma_at(at.epoch);
        if threshold == 0.0 || self.form != L1Form::Proximal {
            return model;
        }
        model.map(&mut SoftThreshold { threshold })
    }

    fn validate(&self) -> Result<(), unlearn_train::TrainError> {
        Objective::<M>::validate(&self.loss)
    }

    fn describe(&self) -> String {
        let loss = Objective::<M>::describe(&self.loss);
        let Self { gamma, until, form, .. } = self;
        format!("{loss}+l1(gamma={gamma},epochs={until},form={form:?})")
    }
}

/// Whether training moves a parameter that has the rank of a weight: biases and norms are vectors.
fn is_weight<const D: usize>(param: &Param<Tensor<D>>) -> bool {
    D >= 2 && param.is_require_grad()
}

struct AbsoluteSum {
    all: bool,
    sum: Option<Tensor<1>>,
}

impl ModuleVisitor for AbsoluteSum {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if is_weight(param) || (self.all && param.is_require_grad()) {
            let own = param.val().abs().sum();
            self.sum = Some(match self.sum.take() {
                Some(sum) => sum + own,
                None => own,
            });
        }
    }
}

struct SoftThreshold {
    threshold: f64,
}

impl ModuleMapper for SoftThreshold {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !is_weight(&param) {
            return param;
        }
        // Off the graph and back as a leaf: a parameter that is the result of an operation would
        // silently stop training.
        param.map(|value| {
            let tracked = value.is_autodiff();
            let strategy = tracked.then(|| value.gradient_checkpointing_strategy()).flatten();
            let value = if tracked { value.without_autodiff() } else { value };
            let shrunk = value.clone().abs().sub_scalar(self.threshold).clamp_min(0.0);
            // `+ 0.0` turns the −0.0 of a negative weight into +0.0.
            let value = value.sign().mul(shrunk).add_scalar(0.0);
            if !tracked {
                return value;
            }
            let value = value.autodiff();
            let value = match strategy {
                Some(strategy) => value.with_gradient_checkpointing_strategy(strategy),
                None => value,
            };
            value.require_grad()
        })
    }
}

/// Share of exact zeros among the weights, 0–1.
fn zero_share<M: Module>(model: &M) -> f64 {
    struct Count {
        zeros: usize,
        total: usize,
    }
    impl ModuleVisitor for Count {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if D < 2 {
                return;
            }
            if let Ok(values) = param.val().inner().into_data().try_into_vec_as::<f32>() {
                self.total += values.len();
                self.zeros += values.iter().filter(|v| **v == 0.0).count();
            }
        }
    }
    let mut count = Count { zeros: 0, total: 0 };
    model.visit(&mut count);
    count.zeros as f64 / count.total.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_penalty_fades_linearly_to_the_free_epochs() {
        let of =
            |until| Penalised { loss: CrossEntropy::default(), gamma: 0.8, until, form: L1Form::Subgradient };
        let got: Vec<f64> = (0..6).map(|t| of(4).gamma_at(t)).collect();
        for (got, expected) in got.iter().zip([0.8, 0.6, 0.4, 0.2, 0.0, 0.0]) {
            assert!((got - expected).abs() < 1e-12, "{got} {expected}");
        }
    }
}
