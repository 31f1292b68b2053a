//! What a recipe may say. Every field is documented for people in `docs/recipes.md`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use unlearn::data::{Augment, Seed};
use unlearn::eval::EvalConfig;
use unlearn::models::ModelConfig;
use unlearn::prune::{EmptyLayers, Prunable, PruneConfig, RetrainLength, Rewind, Scope};
use unlearn::train::{FitConfig, OptimizerConfig, Schedule};

use super::method::MethodConfig;

/// A whole run: data, model, training, pruning, forget set, methods, seeds, evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recipe {
    /// Name of the run; the default output folder is `runs/NAME`.
    pub(crate) name: String,
    pub(crate) data: DataConfig,
    #[serde(default)]
    pub(crate) split: SplitConfig,
    pub(crate) model: ModelConfig,
    pub(crate) training: TrainingConfig,
    pub(crate) forget: ForgetConfig,
    #[serde(default)]
    pub(crate) seeds: Seeds,
    #[serde(default)]
    /// How models are judged.
    pub(crate) evaluation: EvalConfig,
    /// The networks to unlearn from; one dense network when absent.
    #[serde(default = "one_dense_network")]
    pub(crate) network: Vec<NetworkConfig>,
    #[serde(default)]
    pub(crate) method: Vec<MethodConfig>,
}

fn one_dense_network() -> Vec<NetworkConfig> {
    vec![NetworkConfig { name: "dense".into(), pruning: None }]
}

/// Where pictures come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DataConfig {
    pub(crate) kind: DataKind,
    /// The folder; `--data` overrides it. Not for `synthetic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dir: Option<PathBuf>,
    /// The first so many training pictures of each class; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) train_per_class: Option<usize>,
    /// The first so many test pictures of each class; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) test_per_class: Option<usize>,
    /// Rows and columns of a synthetic picture; 32 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<usize>,
    /// By which constants the model scales its pictures.
    #[serde(default, skip_serializing_if = "NormalizationKind::is_of_data")]
    pub(crate) normalization: NormalizationKind,
}

/// Mean and deviation of each colour channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NormalizationKind {
    /// Those of the data set.
    #[default]
    Data,
    /// One half each, as vision transformers are pretrained with.
    Half,
    /// Those of `ImageNet`.
    Imagenet,
}

impl NormalizationKind {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
    fn is_of_data(&self) -> bool {
        *self == Self::Data
    }
}

/// The layouts that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DataKind {
    /// Whatever lies in the folder.
    Auto,
    /// CIFAR-10, binary or python layout.
    Cifar10,
    /// CIFAR-100, binary or python layout.
    Cifar100,
    /// `train/CLASS/*.png` and `test/CLASS/*.png`, in order of their paths.
    Folder,
    /// One packed file.
    Packed,
    /// Drawn from `seeds.data`; no files.
    Synthetic,
}

/// Which training pictures validate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SplitConfig {
    pub(crate) rule: SplitKind,
    /// Share of each class that validates; 0.1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fraction: Option<f64>,
}

impl Default for SplitConfig {
    fn default() -> Self {
        Self { rule: SplitKind::None, fraction: None }
    }
}

/// How validation pictures are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SplitKind {
    /// No validation.
    None,
    /// A share of each class by our own generator.
    Stratified,
    /// As the published code draws them with NumPy.
    Reference,
}

/// How the original model is trained, which is how `retrain` trains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrainingConfig {
    pub(crate) epochs: u64,
    pub(crate) batch_size: usize,
    pub(crate) learning_rate: f64,
    pub(crate) optimizer: OptimizerConfig,
    #[serde(default = "constant")]
    pub(crate) schedule: Schedule,
    #[serde(default)]
    pub(crate) warmup_epochs: u64,
    #[serde(default)]
    pub(crate) augment: Augment,
    #[serde(default)]
    pub(crate) label_smoothing: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) clip_norm: Option<f64>,
    /// How the weights before the first step are drawn.
    #[serde(default, skip_serializing_if = "FirstWeights::is_usual")]
    pub(crate) first_weights: FirstWeights,
    /// A folder of Hugging Face whose weights training begins with; `--pretrained` overrides it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pretrained: Option<PathBuf>,
}

/// How the weights before the first step are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FirstWeights {
    /// As the architecture's publication says.
    #[default]
    Usual,
    /// As PyTorch's layers begin.
    Pytorch,
}

impl FirstWeights {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
    fn is_usual(&self) -> bool {
        *self == Self::Usual
    }
}

fn constant() -> Schedule {
    Schedule::Constant
}

impl TrainingConfig {
    /// The settings of one run of the training loop.
    pub(crate) fn fit(&self, seed: Seed) -> FitConfig {
        FitConfig {
            schedule: self.schedule.clone(),
            warmup_epochs: self.warmup_epochs,
            clip_norm: self.clip_norm,
            seed,
            ..FitConfig::new(self.epochs, self.learning_rate, self.optimizer)
        }
    }
}

/// What is to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForgetConfig {
    /// `class:K`, `random:10%`, `random:4500`, `reference:4500@2` or `indices:FILE`.
    pub(crate) spec: String,
}

/// One network that is trained, perhaps pruned, and unlearned from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetworkConfig {
    /// Its name in the report; a folder of this name holds its stages.
    pub(crate) name: String,
    /// How it is pruned; a dense network when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pruning: Option<PruningConfig>,
}

/// How a network is pruned and trained again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PruningConfig {
    /// What a weight is worth.
    #[serde(default)]
    pub(crate) score: ScoreKind,
    /// One ranking over all layers, or one a layer.
    #[serde(default)]
    pub(crate) scope: Scope,
    /// Which parameters may be pruned.
    #[serde(default)]
    pub(crate) prunable: Prunable,
    /// Share of the remaining weights removed in each round, above 0 and below 1.
    pub(crate) rate: f64,
    /// Rounds of pruning: 1 is one-shot (OMP), more is iterative (IMP).
    #[serde(default = "one")]
    pub(crate) rounds: u32,
    /// Whether the trained or the new network is pruned first.
    #[serde(default)]
    pub(crate) at: PruneAt,
    /// Where the kept weights go back to: `init`, `final`, or `epoch:K`.
    #[serde(default)]
    pub(crate) rewind: Rewind,
    /// How long the pruned network trains after a rewind to an epoch.
    #[serde(default)]
    pub(crate) retrain_length: RetrainLength,
    /// What happens when a layer would lose its last weight.
    #[serde(default)]
    pub(crate) empty_layers: EmptyLayers,
    /// Pictures of each class that `snip` and `grasp` look at.
    #[serde(default = "ten")]
    pub(crate) samples_per_class: usize,
}

/// The pruning scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ScoreKind {
    #[default]
    Magnitude,
    Random,
    Snip,
    Grasp,
    Synflow,
}

/// When a network is first pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PruneAt {
    /// After the dense network is trained.
    #[default]
    Trained,
    /// Before any training, in one go, as SNIP, GraSP and SynFlow were published.
    Init,
}

fn one() -> u32 {
    1
}

fn ten() -> usize {
    10
}

impl PruningConfig {
    /// How each round prunes.
    pub(crate) fn prune(&self) -> PruneConfig {
        PruneConfig {
            rate: self.rate,
            scope: self.scope,
            prunable: self.prunable.clone(),
            empty_layers: self.empty_layers,
        }
    }
}

/// One seed for each kind of randomness. Zero is a seed like any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Seeds {
    /// The synthetic pictures.
    pub(crate) data: Seed,
    /// Which pictures validate.
    pub(crate) split: Seed,
    /// The initial weights.
    pub(crate) init: Seed,
    /// Which pictures are forgotten.
    pub(crate) forget: Seed,
    /// Order and augmentation in training, pruning and retraining.
    pub(crate) training: Seed,
    /// Order, augmentation and noise of the methods.
    pub(crate) method: Seed,
}

impl Seeds {
    /// Every seed with its name, which is that of the key.
    pub(crate) fn named(&self) -> [(&'static str, Seed); 6] {
        [
            ("data", self.data),
            ("split", self.split),
            ("init", self.init),
            ("forget", self.forget),
            ("training", self.training),
            ("method", self.method),
        ]
    }
}

impl Default for Seeds {
    fn default() -> Self {
        let one = Seed(1);
        Self { data: one, split: one, init: one, forget: one, training: one, method: one }
    }
}
