//! Gradient ascent (GA): unlearns by climbing the loss of the forget set.
//!
//! # What it does
//! Trains backwards: every step *raises* the cross-entropy of a batch of the forget set. Cheap, needs
//! nothing but the forgotten samples, and unbounded: too many steps destroy the model.
//!
//! # Needs
//! The forget set. The retain set is never read.
//!
//! # Definition
//! θ ← SGD on min_θ −(1/|D_f|) Σ_{D_f} ℓ(f_θ(x), y) (Graves et al. 2021; Thudi et al. 2022, §4; Jia et
//! al. 2023, "GA").
//!
//! # Hyperparameters
//! | name | default | meaning |
//! |---|---|---|
//! | `epochs` | 5 | passes over the forget set, at most |
//! | `learning_rate` | 1e-4 | constant; 1e-5 to 1e-3 is usual |
//! | `optimizer` | SGD, momentum 0.9, weight decay 5e-4 | |
//! | `stop_at_accuracy` | none | ends after the first epoch that leaves the forget set with at most this accuracy (0–1, evaluation mode, no augmentation) |
//! | `batch_size` | as in training | samples a step |
//! | `augment` | none | what is done to the pictures |
//! | `batch_norm` | `train` | see below |
//! | `lora` | none | trains adapters instead of the weights, as in `finetune` |
//!
//! With `batch_norm = "train"`, as published, the running statistics drift towards those of the forget
//! set alone; `frozen` keeps those of the original.
//!
//! # Diagnostics
//! `epochs`: how many the result has, counted from 1. `forget_accuracy_at_stop`: accuracy on the forget set (0–1) that ended
//! them, only with `stop_at_accuracy`, where it was reached. With `lora` those of `finetune` that begin with `lora_`.
//!
//! # Cost
//! `epochs` training epochs over the forget set. With `stop_at_accuracy` (at most 1,000 epochs)
//! all epochs run; then the weights after each are evaluated on the forget set, in order, until one reaches the target.
//!
//! # Differences from the published code
//! It augments as in training unless asked not to (`--no-aug`); here `augment` says what is done, none by default. The stop
//! is ours; a run that diverges only after it was reached still counts.
//!
//! # Example
//! ```toml
//! [[method]]
//! name = "gradient-ascent"
//! learning_rate = 1e-3
//! stop_at_accuracy = 0.68
//! ```
//!
//! # References
//! Graves, Nagisetty, Ganesh: Amnesiac Machine Learning, AAAI 2021, <https://arxiv.org/abs/2010.10981>.
//! Thudi et al.: Unrolling SGD, EuroS&P 2022, <https://arxiv.org/abs/2109.13398>.
//! Jia et al.: Model Sparsity Can Simplify Machine Unlearning, NeurIPS 2023, <https://arxiv.org/abs/2304.04934>.

use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use unlearn_data::{Augment, Batch, Partition};
use unlearn_models::{Classifier, LoraConfig};
use unlearn_train::{
    BatchNormMode, CrossEntropy, FitConfig, Loss, Moment, Objective, OptimizerConfig, TrainError,
};

use super::finetune::in_method;
use crate::accuracy::accuracy;
use crate::check;
use crate::iterate::{Iterated, Task, iterate};
use crate::{Context, Outcome, Reads, Unlearn, UnlearnError};

/// Gradient ascent on the forget set; the page is that of this [module](self) and of
/// `unlearn methods gradient-ascent`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GradientAscent {
    /// Passes over the forget set, at least 1.
    pub epochs: u64,
    /// Learning rate, above zero.
    pub learning_rate: f64,
    /// The optimizer.
    pub optimizer: OptimizerConfig,
    /// Accuracy of the forget set, 0–1, at which it stops; absent: never.
    pub stop_at_accuracy: Option<f64>,
    /// Samples a step; absent: as in training.
    pub batch_size: Option<usize>,
    /// What is done to the pictures.
    pub augment: Augment,
    /// What batch norms do.
    pub batch_norm: BatchNormMode,
    /// Trains adapters instead of the weights; absent: the weights.
    pub lora: Option<LoraConfig>,
}

impl Default for GradientAscent {
    fn default() -> Self {
        Self {
            epochs: 5,
            learning_rate: 1e-4,
            optimizer: OptimizerConfig::sgd(0.9, 5e-4),
            stop_at_accuracy: None,
            batch_size: None,
            augment: Augment::None,
            batch_norm: BatchNormMode::Train,
            lora: None,
        }
    }
}

const NAME: &str = "gradient-ascent";
/// Most epochs with a target: the weights after each are kept until the climb is over.
const MOST_WITH_TARGET: u64 = 1000;

impl GradientAscent {
    fn config(&self, epochs: u64) -> FitConfig {
        let kept = if self.stop_at_accuracy.is_some() { epochs.min(MOST_WITH_TARGET) } else { 0 };
        FitConfig {
            batch_norm: self.batch_norm,
            snapshot_epochs: (1..=kept).collect(),
            ..FitConfig::new(epochs, self.learning_rate, self.optimizer)
        }
    }

    fn check(&self) -> Result<(), UnlearnError> {
        self.config(self.epochs).validate().map_err(|e| in_method(NAME, e))?;
        check::require(
            self.batch_size != Some(0),
            NAME,
            "batch_size",
            0,
            "at least 1",
            "leave it out for the batch size of training",
        )?;
        check::require(
            self.stop_at_accuracy.is_none() || self.epochs <= MOST_WITH_TARGET,
            NAME,
            "epochs",
            self.epochs,
            "at most 1000 beside stop_at_accuracy, for which the weights of every epoch are kept",
            "climb faster, or leave the target out",
        )?;
        check::require(
            self.stop_at_accuracy.is_none_or(|a| (0.0..=1.0).contains(&a)),
            NAME,
            "stop_at_accuracy",
            self.stop_at_accuracy.unwrap_or_default(),
            "between 0 and 1",
            "give a share, such as the model's test accuracy",
        )?;
        check::adapters(NAME, self.lora.as_ref())
    }

    fn climb<M: Classifier>(
        &self,
        epochs: u64,
        directory: Option<PathBuf>,
        model: M,
        partition: &Partition,
        context: &mut Context<'_, M>,
    ) -> Result<Iterated<M>, UnlearnError> {
        let task = Task {
            indices: partition.forget(),
            mask: context.mask,
            config: self.config(epochs),
            batch_size: self.batch_size.unwrap_or(context.training.batch_size),
            augment: self.augment,
            directory: directory.as_deref(),
            lora: self.lora.as_ref(),
        };
        iterate(&task, &Ascent, model, context)
    }
}

impl<M: Classifier> Unlearn<M> for GradientAscent {
    fn name(&self) -> &'static str {
        NAME
    }

    fn reads(&self) -> Reads {
        Reads::Forget
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
        let started = Instant::now();
        let own = context.directory.map(PathBuf::from);
        let first = self.climb(self.epochs, own.clone(), model.valid(), partition, context);
        let (Iterated { fit, mut diagnostics, mut unmerged }, diverged) = match first {
            // Climbing has no end: what broke in epoch k may have reached the target before, and the
            // run up to k is the same run.
            Err(UnlearnError::Train(error @ TrainError::Diverged { epoch, .. }))
                if self.stop_at_accuracy.is_some() && epoch > 0 =>
            {
                let directory = own.map(|d| d.join("before-divergence"));
                (self.climb(epoch, directory, model, partition, context)?, Some(error))
            }
            other => (other?, None),
        };
        let steps_per_epoch = fit.steps / fit.history.len().max(1) as u64;
        let (mut chosen, mut epochs, mut reached) = (fit.model, fit.history.len() as u64, None);
        let mut at_stop = None;
        if let Some(target) = self.stop_at_accuracy {
            for (epoch, snapshot) in fit.snapshots {
                let share = accuracy(&snapshot, context.dataset, partition.forget(), 256)?;
                if share <= target {
                    (chosen, epochs, reached) = (snapshot, epoch, Some(share));
                    if let Some(unmerged) = &mut unmerged {
                        at_stop = unmerged.snapshots.remove(&epoch);
                        if let Some(adapted) = &at_stop {
                            unmerged.tell_change(adapted, &chosen, &mut diagnostics)?;
                        }
                    }
                    break;
                }
            }
        }
        if let (Some(error), None) = (diverged, reached) {
            return Err(error.into());
        }
        check::finite(NAME, &chosen)?;
        let seconds = started.elapsed().as_secs_f64().max(fit.seconds);
        let mut outcome = Outcome::new(chosen.valid(), seconds, context.mask);
        outcome.steps = epochs * steps_per_epoch;
        outcome.diagnostics = diagnostics;
        outcome.adapted = at_stop.or(unmerged.map(|unmerged| unmerged.last));
        outcome.diagnostics.insert("epochs".into(), epochs as f64);
        if let Some(share) = reached {
            outcome.diagnostics.insert("forget_accuracy_at_stop".into(), share);
        }
        Ok(outcome)
    }
}

/// Minus the mean cross-entropy.
#[derive(Debug, Clone, Copy)]
struct Ascent;

impl<M: Classifier> Objective<M> for Ascent {
    fn loss(&self, model: &M, batch: &Batch, at: Moment) -> Loss {
        let Loss { value, logits } = CrossEntropy::default().loss(model, batch, at);
        Loss { value: value.neg(), logits }
    }

    fn describe(&self) -> String {
        "negated-cross-entropy".to_owned()
    }
}
