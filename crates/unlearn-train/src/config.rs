//! How a run goes: optimizer, learning rate, length.

use serde::{Deserialize, Serialize};

/// The optimizer, with PyTorch's semantics and defaults.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum OptimizerConfig {
    /// Stochastic gradient descent; dampening is zero.
    Sgd {
        /// Momentum factor, 0 for none.
        #[serde(default)]
        momentum: f64,
        /// L2 penalty added to the gradient before momentum.
        #[serde(default)]
        weight_decay: f64,
        /// Nesterov's form of momentum.
        #[serde(default)]
        nesterov: bool,
    },
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019).
    #[serde(alias = "adamw")]
    AdamW {
        /// Decay of the first moment.
        #[serde(default = "beta_1")]
        beta_1: f64,
        /// Decay of the second moment.
        #[serde(default = "beta_2")]
        beta_2: f64,
        /// Added to the root of the second moment.
        #[serde(default = "epsilon")]
        epsilon: f64,
        /// Decoupled weight decay.
        #[serde(default = "decay")]
        weight_decay: f64,
    },
}

fn beta_1() -> f64 {
    0.9
}
fn beta_2() -> f64 {
    0.999
}
fn epsilon() -> f64 {
    1e-8
}
fn decay() -> f64 {
    0.01
}

/// The learning rate as a pure function of the step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Schedule {
    /// The same all along.
    Constant,
    /// Times `gamma` from each of `milestones` (in epochs) on.
    MultiStep {
        /// Epochs, ascending.
        milestones: Vec<u64>,
        /// The factor.
        #[serde(default = "gamma")]
        gamma: f64,
    },
    /// Half a cosine from the full rate to zero over the run, one value an epoch, as PyTorch's
    /// `CosineAnnealingLR(T_max = epochs)` gives it when stepped once an epoch.
    Cosine,
    /// Half a cosine, one value a step.
    CosineSteps,
}

fn gamma() -> f64 {
    0.1
}

/// How a run goes. Check it once with [`validate`](Self::validate); [`fit`](crate::fit()) does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitConfig {
    /// Passes over the loader, at least 1.
    pub epochs: u64,
    /// Learning rate before the schedule, above zero.
    pub learning_rate: f64,
    /// The optimizer.
    pub optimizer: OptimizerConfig,
    /// How the learning rate goes.
    #[serde(default = "constant")]
    pub schedule: Schedule,
    /// Epochs over which the rate first rises from zero in equal steps: step `s` of them has the
    /// share `s / (warmup_epochs · steps per epoch)` of what the schedule says. The schedule's
    /// clock runs meanwhile, as when PyTorch steps its scheduler during a warm-up.
    #[serde(default)]
    pub warmup_epochs: u64,
    /// Epochs of the schedule that count as already done (learning-rate rewinding): a run of `e`
    /// epochs at offset `k` has the rates that epochs `k` to `k + e` of a run of `k + e` epochs have,
    /// warm-up included.
    #[serde(default)]
    pub schedule_offset: u64,
    /// Largest global norm of the gradient; absent: no clipping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// What batch norms do.
    #[serde(default)]
    pub batch_norm: BatchNormMode,
    /// Epoch counts after which a copy of the model is kept: 0 is before the first step, `k` is
    /// after `k` whole epochs. Weight rewinding starts from such a copy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshot_epochs: Vec<u64>,
    /// Seed of what the device draws (dropout).
    #[serde(default)]
    pub seed: unlearn_data::Seed,
    /// How often a run with a directory saves. It changes no result, so a run may be resumed with
    /// another setting.
    #[serde(default)]
    pub checkpoint: CheckpointConfig,
}

/// How often [`fit_in`](crate::fit_in) saves, and how much it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Steps between two checkpoints, at least 1; absent: one at the end of each epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_steps: Option<u64>,
    /// Checkpoints kept, at least 2, so that a whole one is there at every moment.
    #[serde(default = "keep")]
    pub keep: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every_steps: None, keep: keep() }
    }
}

fn keep() -> usize {
    2
}

impl FitConfig {
    /// A run of `epochs` at a constant `learning_rate`; change the other fields as needed.
    pub fn new(epochs: u64, learning_rate: f64, optimizer: OptimizerConfig) -> Self {
        Self {
            epochs,
            learning_rate,
            optimizer,
            schedule: Schedule::Constant,
            warmup_epochs: 0,
            schedule_offset: 0,
            clip_norm: None,
            batch_norm: BatchNormMode::Train,
            snapshot_epochs: Vec::new(),
            seed: unlearn_data::Seed(0),
            checkpoint: CheckpointConfig::default(),
        }
    }
}

impl OptimizerConfig {
    /// Stochastic gradient descent.
    pub fn sgd(momentum: f64, weight_decay: f64) -> Self {
        Self::Sgd { momentum, weight_decay, nesterov: false }
    }

    /// AdamW with PyTorch's defaults.
    pub fn adam_w() -> Self {
        Self::AdamW { beta_1: beta_1(), beta_2: beta_2(), epsilon: epsilon(), weight_decay: decay() }
    }
}

fn constant() -> Schedule {
    Schedule::Constant
}

/// What batch norms do during a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BatchNormMode {
    /// Use batch statistics and move the running ones (PyTorch's train mode).
    #[default]
    Train,
    /// Use the running statistics and leave them (PyTorch's eval mode, with gradients).
    Frozen,
}
