//! Fine-tuning (FT): goes on training on the retain set and lets the rest fade.
//!
//! # What it does
//! Minimises the cross-entropy of the retain set from the original weights for a few epochs at a small
//! learning rate. Forgetting is a side effect (catastrophic forgetting), so it forgets classes far better
//! than single pictures.
//!
//! # Needs
//! The retain set. The forget set is never read.
//!
//! # Definition
//! θ ← SGD on min_θ (1/|D_r|) Σ_{D_r} ℓ(f_θ(x), y), started at the original θ (Golatkar et al. 2020, §1;
//! Jia et al. 2023, §2, "FT").
//!
//! # Hyperparameters
//! | name | default | meaning |
//! |---|---|---|
//! | `epochs` | 10 | passes over the retain set |
//! | `learning_rate` | 0.01 | before the schedule |
//! | `optimizer` | SGD, momentum 0.9, weight decay 5e-4 | as in training |
//! | `schedule` | constant | how the rate goes |
//! | `batch_size` | as in training | samples a step |
//! | `augment` | as in training | what is done to the pictures |
//! | `batch_norm` | `train` | `frozen` keeps the running statistics |
//! | `lora` | none | trains adapters instead of the weights; see below |
//!
//! With `lora` the weights are frozen, low-rank branches beside some layers are trained, and the result is merged: a
//! network like the original, on a pruned one with every pruned weight still zero (what falls on them is cut off; the
//! report says how far that moves the outputs). Keys: `rank` (8), `alpha` (16), `dropout` (0), `rs_lora` (false),
//! `targets` (ends of module paths), `modules_to_save` (modules trained in full), `norms` (`frozen` or `train`); see
//! `docs/adapters.md`.
//!
//! # Diagnostics
//! `final_loss`: mean training loss of the last epoch. With `lora`: `lora_trainable_parameters`, `lora_trainable_share` (of
//! all parameters), `lora_merge_largest_change` and `lora_merge_mean_change` (how far merging, and the mask, move the logits
//! of samples, absolute).
//!
//! # Cost
//! `epochs` training epochs over the retain set.
//!
//! # Differences from the published code
//! None in the update. Label smoothing follows the original's training (the published code has none).
//!
//! # Example
//! ```toml
//! [[method]]
//! name = "finetune"
//! epochs = 10
//! learning_rate = 0.01
//!
//! [[method]]
//! name = "finetune"
//! label = "finetune-lora"
//! learning_rate = 0.05
//! lora = { rank = 8, alpha = 16, targets = ["conv1", "conv2", "fc"] }
//! ```
//!
//! # References
//! Golatkar, Achille, Soatto: Eternal Sunshine of the Spotless Net, CVPR 2020, <https://arxiv.org/abs/1911.04933>.
//! Jia et al.: Model Sparsity Can Simplify Machine Unlearning, NeurIPS 2023, <https://arxiv.org/abs/2304.04934>.
//! Hu et al.: LoRA, ICLR 2022, <https://arxiv.org/abs/2106.09685>.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use unlearn_data::{Augment, Partition};
use unlearn_models::{Adapted, Classifier, LoraConfig};
use unlearn_train::{BatchNormMode, CrossEntropy, FitConfig, Objective, OptimizerConfig, Schedule};

use crate::check;
use crate::iterate::{Iterated, Task, iterate};
use crate::{Context, Outcome, Reads, Unlearn, UnlearnError};

/// Fine-tuning on the retain set; the page is that of this [module](self) and of `unlearn methods finetune`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FineTune {
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

impl Default for FineTune {
    fn default() -> Self {
        Self {
            epochs: 10,
            learning_rate: 0.01,
            optimizer: OptimizerConfig::sgd(0.9, 5e-4),
            schedule: Schedule::Constant,
            batch_size: None,
            augment: None,
            batch_norm: BatchNormMode::Train,
            lora: None,
        }
    }
}

impl FineTune {
    fn config(&self) -> FitConfig {
        FitConfig {
            schedule: self.schedule.clone(),
            batch_norm: self.batch_norm,
            ..FitConfig::new(self.epochs, self.learning_rate, self.optimizer)
        }
    }

    pub(super) fn check(&self, method: &'static str) -> Result<(), UnlearnError> {
        self.config().validate().map_err(|e| in_method(method, e))?;
        check::require(
            self.batch_size != Some(0),
            method,
            "batch_size",
            0,
            "at least 1",
            "leave it out for the batch size of training",
        )?;
        check::adapters(method, self.lora.as_ref())
    }

    /// Minimises `objective` on the retain set.
    pub(super) fn run<M: Classifier>(
        &self,
        objective: &(impl Objective<M> + Objective<Adapted<M>>),
        model: M,
        partition: &Partition,
        context: &mut Context<'_, M>,
    ) -> Result<Outcome<M>, UnlearnError> {
        let started = Instant::now();
        let training = context.training;
        let task = Task {
            indices: partition.retain(),
            mask: context.mask,
            config: self.config(),
            batch_size: self.batch_size.unwrap_or(training.batch_size),
            augment: self.augment.unwrap_or(training.augment),
            directory: context.directory,
            lora: self.lora.as_ref(),
        };
        let Iterated { fit, diagnostics, unmerged } = iterate(&task, objective, model, context)?;
        // A run that was resumed took longer than this process knows.
        let seconds = started.elapsed().as_secs_f64().max(fit.seconds);
        let mut outcome = Outcome::new(fit.model, seconds, context.mask);
        outcome.steps = fit.steps;
        outcome.diagnostics = diagnostics;
        outcome.adapted = unmerged.map(|unmerged| unmerged.last);
        if let Some(last) = fit.history.last() {
            outcome.diagnostics.insert("final_loss".into(), last.loss);
        }
        Ok(outcome)
    }
}

/// A setting that training refuses, as a hyperparameter of the method.
pub(super) fn in_method(method: &'static str, error: unlearn_train::TrainError) -> UnlearnError {
    match error {
        unlearn_train::TrainError::Config { field, got, expected, mend } => {
            UnlearnError::Hyperparameter { method, field, got, expected, mend }
        }
        other => other.into(),
    }
}

impl<M: Classifier> Unlearn<M> for FineTune {
    fn name(&self) -> &'static str {
        "finetune"
    }

    fn reads(&self) -> Reads {
        Reads::Retain
    }

    fn hyperparameters(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn validate(&self) -> Result<(), UnlearnError> {
        self.check("finetune")
    }

    fn unlearn(
        &self,
        model: M,
        partition: &Partition,
        context: &mut Context<'_, M>,
    ) -> Result<Outcome<M>, UnlearnError> {
        self.check("finetune")?;
        let objective = CrossEntropy { label_smoothing: context.training.label_smoothing };
        self.run(&objective, model, partition, context)
    }
}
