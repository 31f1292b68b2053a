//! Vision transformers (Dosovitskiy et al. 2021), with Hugging Face's names.
//!
//! ```text
//! VitConfig ──init──► Vit ◄──StateDict──► Hugging Face folder (config.json, model.safetensors)
//!                                   └───► timm's names
//! ```

mod huggingface;
mod model;
mod timm;

use burn::tensor::Device;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::ModelError;
use crate::config::{Architecture, ModelConfig, check_count, check_parameters};

pub use huggingface::HuggingFaceVit;
pub use model::{
    Attention, Backbone, Embeddings, Encoder, EncoderLayer, FeedForward, PatchEmbeddings, SelfAttention, Vit,
};
pub use timm::{from_timm, has_timm_names, masks_from_timm, masks_to_timm, to_timm};

/// What the classifier sees of the tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// A learned token before those of the patches, as in the paper.
    #[default]
    ClassToken,
    /// The mean over the tokens of the patches; there is no class token (Beyer et al. 2022, "Better plain ViT
    /// baselines for ImageNet-1k").
    Mean,
}

/// The activation between the two layers of a block's perceptron.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Activation {
    /// x Φ(x) with the error function, not an approximation.
    #[default]
    Gelu,
}

/// A vision transformer: square pictures in square patches, `layers` blocks of attention and a two-layer perceptron, each
/// behind a layer norm.
///
/// The number of colour channels is that of the normalisation constants that a network is made with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitConfig {
    /// Rows and columns of a picture.
    pub image: usize,
    /// Rows and columns of a patch; a divisor of `image`.
    pub patch: usize,
    /// Features of a token, d.
    pub hidden: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Heads of each attention; a divisor of `hidden`.
    pub heads: usize,
    /// Width of the perceptrons.
    pub mlp: usize,
    /// Number of classes.
    pub classes: usize,
    /// What the classifier sees.
    #[serde(default)]
    pub pooling: Pooling,
    /// Share of entries dropped in training, behind the embeddings, the attention's and the perceptron's last layer.
    #[serde(default)]
    pub dropout: f64,
    /// ε of the layer norms: 1e-12 in Hugging Face's models, 1e-6 in timm's and the paper's.
    #[serde(default = "huggingface_epsilon")]
    pub layer_norm_eps: f64,
    /// Between the layers of the perceptrons.
    #[serde(default)]
    pub activation: Activation,
}

fn huggingface_epsilon() -> f64 {
    1e-12
}

impl VitConfig {
    /// A small one for pictures of 32×32 in patches of 4×4: six blocks of 128 features, 4 heads, perceptrons of 256.
    /// 811,146 parameters for ten classes; a training step costs a third of a GFLOP a picture, which two processor
    /// cores can bear.
    pub fn tiny_cifar(classes: usize) -> Self {
        Self { image: 32, patch: 4, hidden: 128, layers: 6, heads: 4, mlp: 256, ..Self::base_16_224(classes) }
    }

    /// ViT-S/16 (Touvron et al. 2021, DeiT-S) for pictures of 224×224: 21,669,514 parameters for ten classes.
    pub fn small_16_224(classes: usize) -> Self {
        Self { hidden: 384, heads: 6, mlp: 1536, ..Self::base_16_224(classes) }
    }

    /// ViT-B/16 for pictures of 224×224: 85,806,346 parameters for ten classes.
    pub fn base_16_224(classes: usize) -> Self {
        Self {
            image: 224,
            patch: 16,
            hidden: 768,
            layers: 12,
            heads: 12,
            mlp: 3072,
            classes,
            pooling: Pooling::ClassToken,
            dropout: 0.0,
            layer_norm_eps: huggingface_epsilon(),
            activation: Activation::Gelu,
        }
    }

    /// The same network with heads of `width` features, its perceptrons scaled alike.
    pub fn with_width(self, width: usize) -> Self {
        // Past what a number can hold, `validate` refuses.
        let hidden = width.saturating_mul(self.heads);
        Self { hidden, mlp: (self.mlp.saturating_mul(hidden) / self.hidden.max(1)).max(1), ..self }
    }

    /// Tokens of a picture, the class token among them.
    pub fn tokens(&self) -> usize {
        (self.image / self.patch.max(1)).pow(2) + usize::from(self.pooling == Pooling::ClassToken)
    }

    /// Checks every field; [`init`](Self::init) does so too.
    ///
    /// # Errors
    /// [`ModelError::Config`] with the first field that is out of range.
    pub fn validate(&self) -> Result<(), ModelError> {
        check_count("image", self.image, 1, 4096)?;
        check_count("patch", self.patch, 1, self.image)?;
        check_multiple("image", self.image, "patch", self.patch, "choose a patch that divides the picture")?;
        check_count("hidden", self.hidden, 1, 65_536)?;
        check_count("layers", self.layers, 1, 256)?;
        check_count("heads", self.heads, 1, self.hidden)?;
        check_multiple("hidden", self.hidden, "heads", self.heads, "each head takes an equal share of it")?;
        check_count("mlp", self.mlp, 1, 1 << 20)?;
        check_count("classes", self.classes, 2, 1_000_000)?;
        check_number(
            "dropout",
            self.dropout,
            (0.0..1.0).contains(&self.dropout),
            "from 0 up to, not including, 1",
        )?;
        // A layer norm's variance has float32's range.
        let good = (1e-20..1.0).contains(&self.layer_norm_eps);
        check_number("layer_norm_eps", self.layer_norm_eps, good, "from 1e-20 up to, not including, 1")?;
        check_parameters(self.num_parameters())
    }

    /// Trainable parameters for colour pictures; the normalisation constants are not counted.
    pub fn num_parameters(&self) -> u64 {
        let [d, mlp, patch, tokens] = [self.hidden, self.mlp, self.patch, self.tokens()].map(|n| n as u64);
        let class = u64::from(self.pooling == Pooling::ClassToken) * d;
        let embeddings = class + tokens * d + 3 * patch * patch * d + d;
        let attention = 4 * (d * d + d);
        let perceptron = 2 * d * mlp + mlp + d;
        let block = attention + perceptron + 4 * d;
        embeddings + self.layers as u64 * block + 2 * d + (d + 1) * self.classes as u64
    }

    /// A new network. All weights, class token and positions are drawn from `rng` on the host, in the order in which
    /// the module is walked, from N(0, 0.02²); biases are zero, scales one. That is what `ViTPreTrainedModel` of
    /// Hugging Face's transformers 4.48 does; its cut at ±2 is a hundred deviations away.
    ///
    /// `mean` and `std` are the constants of the data set for pixels in `[0, 1]`, one a channel; their number is the
    /// number of input channels. On an autodiff device the network is ready to train, on a plain one it is in
    /// evaluation mode. Identifiers of parameters follow from their paths ([`with_stable_ids`](crate::with_stable_ids)).
    ///
    /// # Errors
    /// As [`validate`](Self::validate) and [`Normalize::new`](crate::Normalize::new).
    pub fn init(
        &self,
        mean: &[f32],
        std: &[f32],
        device: &Device,
        rng: &mut impl Rng,
    ) -> Result<Vit, ModelError> {
        self.validate()?;
        Vit::init(self, mean, std, device, rng)
    }
}

fn check_multiple(
    field: &'static str,
    got: usize,
    of: &str,
    divisor: usize,
    mend: &'static str,
) -> Result<(), ModelError> {
    if got.is_multiple_of(divisor) {
        return Ok(());
    }
    Err(ModelError::Config {
        field,
        got: got.to_string(),
        expected: format!("a multiple of {of}, which is {divisor}"),
        mend,
    })
}

fn check_number(field: &'static str, got: f64, good: bool, expected: &str) -> Result<(), ModelError> {
    if good {
        return Ok(());
    }
    Err(ModelError::Config {
        field,
        got: got.to_string(),
        expected: expected.to_owned(),
        mend: "correct the model's description",
    })
}

impl Architecture for VitConfig {
    type Model = Vit;

    fn validate(&self) -> Result<(), ModelError> {
        self.validate()
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn config(&self) -> ModelConfig {
        ModelConfig::Vit(*self)
    }

    fn build(
        &self,
        mean: &[f32],
        std: &[f32],
        device: &Device,
        rng: &mut impl Rng,
    ) -> Result<Vit, ModelError> {
        self.init(mean, std, device, rng)
    }
}

#[cfg(test)]
mod tests;
