//! All architectures under one roof, for recipes and checkpoints.

use burn::tensor::Device;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::{CifarResNetConfig, Classifier, ModelError, ResNetConfig, VitConfig};

/// What builds a classifier: an architecture's configuration.
pub trait Architecture: Clone + std::fmt::Debug + Send + Sync + 'static {
    /// What it builds.
    type Model: Classifier;

    /// Checks every field.
    ///
    /// # Errors
    /// [`ModelError::Config`] with the first field that is out of range.
    fn validate(&self) -> Result<(), ModelError>;

    /// Number of classes.
    fn classes(&self) -> usize;

    /// This configuration as it stands in recipes and checkpoints.
    fn config(&self) -> ModelConfig;

    /// A new model with weights drawn from `rng`; see [`ResNetConfig::init`].
    ///
    /// # Errors
    /// As [`validate`](Self::validate), and for bad normalisation constants.
    fn build(
        &self,
        mean: &[f32],
        std: &[f32],
        device: &Device,
        rng: &mut impl Rng,
    ) -> Result<Self::Model, ModelError>;
}

/// Code that works for any architecture and is called with the one that a [`ModelConfig`] names.
pub trait ArchitectureVisitor {
    /// What the code gives.
    type Output;

    /// Runs with the architecture.
    fn visit<A: Architecture>(self, architecture: &A) -> Self::Output;
}

/// The model of a recipe or checkpoint: the architecture's name under `name`, and its fields.
///
/// ```
/// use unlearn_models::ModelConfig;
/// let text = r#"{"name": "resnet", "width": 8, "blocks": [1, 1, 1, 1], "classes": 10}"#;
/// let config: ModelConfig = serde_json::from_str(text)?;
/// assert_eq!(config.classes(), 10);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ModelConfig {
    /// Residual networks of four stages.
    #[serde(rename = "resnet")]
    ResNet(ResNetConfig),
    /// Residual networks of three stages.
    #[serde(rename = "cifar-resnet")]
    CifarResNet(CifarResNetConfig),
    /// Vision transformers.
    Vit(VitConfig),
}

/// The names that [`ModelConfig::preset`] knows, sorted.
pub const PRESETS: [&str; 9] = [
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet44",
    "resnet56",
    "vit-base-16-224",
    "vit-small-16-224",
    "vit-tiny-cifar",
];

impl ModelConfig {
    /// A published architecture by its name (`resnet18`) with the paper's width.
    ///
    /// # Errors
    /// [`ModelError::UnknownName`] with the nearest known name.
    pub fn preset(name: &str, classes: usize) -> Result<Self, ModelError> {
        Ok(match name {
            "resnet18" => Self::ResNet(ResNetConfig::resnet18(classes)),
            "resnet34" => Self::ResNet(ResNetConfig::resnet34(classes)),
            "resnet20" => Self::CifarResNet(CifarResNetConfig::resnet20(classes)),
            "resnet32" => Self::CifarResNet(CifarResNetConfig::resnet32(classes)),
            "resnet44" => Self::CifarResNet(CifarResNetConfig::resnet44(classes)),
            "resnet56" => Self::CifarResNet(CifarResNetConfig::resnet56(classes)),
            "vit-base-16-224" => Self::Vit(VitConfig::base_16_224(classes)),
            "vit-small-16-224" => Self::Vit(VitConfig::small_16_224(classes)),
            "vit-tiny-cifar" => Self::Vit(VitConfig::tiny_cifar(classes)),
            _ => {
                return Err(ModelError::UnknownName {
                    got: name.to_owned(),
                    nearest: crate::nearest::nearest(name, PRESETS.iter().copied()).map(str::to_owned),
                    known: PRESETS.map(str::to_owned).to_vec(),
                });
            }
        })
    }

    /// Calls `visitor` with the architecture.
    pub fn visit<V: ArchitectureVisitor>(&self, visitor: V) -> V::Output {
        match self {
            Self::ResNet(config) => visitor.visit(config),
            Self::CifarResNet(config) => visitor.visit(config),
            Self::Vit(config) => visitor.visit(config),
        }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`ModelError::Config`] with the first field that is out of range.
    pub fn validate(&self) -> Result<(), ModelError> {
        match self {
            Self::ResNet(config) => config.validate(),
            Self::CifarResNet(config) => config.validate(),
            Self::Vit(config) => config.validate(),
        }
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        match self {
            Self::ResNet(config) => config.classes,
            Self::CifarResNet(config) => config.classes,
            Self::Vit(config) => config.classes,
        }
    }

    /// Rows and columns of the pictures that it takes; `None` for any.
    pub fn input_side(&self) -> Option<usize> {
        match self {
            Self::ResNet(_) | Self::CifarResNet(_) => None,
            Self::Vit(config) => Some(config.image),
        }
    }

    /// The same model with another width: of its first stage, of a transformer's heads.
    pub fn with_width(self, width: usize) -> Self {
        match self {
            Self::ResNet(config) => Self::ResNet(config.with_width(width)),
            Self::CifarResNet(config) => Self::CifarResNet(config.with_width(width)),
            Self::Vit(config) => Self::Vit(config.with_width(width)),
        }
    }

    /// Number of trainable parameters, for pictures of three channels.
    pub fn num_parameters(&self) -> u64 {
        match self {
            Self::ResNet(config) => config.num_parameters(),
            Self::CifarResNet(config) => config.num_parameters(),
            Self::Vit(config) => config.num_parameters(),
        }
    }
}

/// A count must lie within `least..=most`.
pub(crate) fn check_count(
    field: &'static str,
    got: usize,
    least: usize,
    most: usize,
) -> Result<(), ModelError> {
    if (least..=most).contains(&got) {
        return Ok(());
    }
    Err(ModelError::Config {
        field,
        got: got.to_string(),
        expected: format!("{least}–{most}"),
        mend: "correct the model's description",
    })
}

/// A billion parameters are four gigabytes: past that a description is taken for a slip.
pub(crate) fn check_parameters(got: u64) -> Result<(), ModelError> {
    const MOST: u64 = 1_000_000_000;
    if got <= MOST {
        return Ok(());
    }
    Err(ModelError::Config {
        field: "width",
        got: format!("one that makes {got} parameters"),
        expected: format!("at most {MOST} parameters"),
        mend: "choose a smaller width or fewer blocks",
    })
}
