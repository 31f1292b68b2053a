//! The transformer itself. Field names are those of Hugging Face's `ViTForImageClassification`, so that its checkpoints
//! fit as they are.

use burn::module::{Module, Param};
use burn::nn::conv::Conv2d;
use burn::nn::{Dropout, DropoutConfig, LayerNorm, Linear};
use burn::tensor::{Device, Tensor};
use rand::Rng;
use unlearn_curvature::tape::{Tape, TokenPool, Var};

use super::{Pooling, VitConfig};
use crate::classifier::{Classifier, Taped, forward_plain};
use crate::init::transformer::{layer_norm, linear, patches, token};
use crate::stable_ids::with_stable_ids;
use crate::{ModelError, Normalize};

/// A vision transformer with its classifier.
#[derive(Module, Debug)]
pub struct Vit {
    /// Scales the pictures.
    pub normalize: Normalize,
    /// Everything but the classifier.
    pub vit: Backbone,
    /// From the pooled token, `[d]`, to logits.
    pub classifier: Linear,
    pub(crate) classes: usize,
    /// ε of the layer norms, which Burn's do not show.
    epsilon: f64,
}

/// Pictures to normalised tokens.
#[derive(Module, Debug)]
pub struct Backbone {
    /// Pictures to tokens.
    pub embeddings: Embeddings,
    /// The blocks.
    pub encoder: Encoder,
    /// After the last block.
    pub layernorm: LayerNorm,
}

/// Patches, class token and positions.
#[derive(Module, Debug)]
pub struct Embeddings {
    /// `[1, 1, d]`; none where tokens are averaged.
    pub cls_token: Option<Param<Tensor<3>>>,
    /// `[1, t, d]`.
    pub position_embeddings: Param<Tensor<3>>,
    /// Patches to tokens.
    pub patch_embeddings: PatchEmbeddings,
    /// Behind the positions.
    pub dropout: Dropout,
}

/// Patches to tokens.
#[derive(Module, Debug)]
pub struct PatchEmbeddings {
    /// A convolution whose stride is its kernel.
    pub projection: Conv2d,
}

/// All blocks.
#[derive(Module, Debug)]
pub struct Encoder {
    /// First to last.
    pub layer: Vec<EncoderLayer>,
}

/// A block: attention and perceptron, each behind a layer norm and past a shortcut.
#[derive(Module, Debug)]
pub struct EncoderLayer {
    /// Between the tokens.
    pub attention: Attention,
    /// First layer of the perceptron.
    pub intermediate: FeedForward,
    /// Second layer of the perceptron.
    pub output: FeedForward,
    /// Before the attention.
    pub layernorm_before: LayerNorm,
    /// Before the perceptron.
    pub layernorm_after: LayerNorm,
    /// Behind the attention's and the perceptron's last layer.
    pub dropout: Dropout,
    pub(crate) heads: usize,
}

/// Attention with its projections.
#[derive(Module, Debug)]
pub struct Attention {
    /// To queries, keys and values.
    pub attention: SelfAttention,
    /// From the heads.
    pub output: FeedForward,
}

/// The projections to queries, keys and values.
#[derive(Module, Debug)]
pub struct SelfAttention {
    /// `[d]` → `[d]`
    pub query: Linear,
    /// `[d]` → `[d]`
    pub key: Linear,
    /// `[d]` → `[d]`
    pub value: Linear,
}

/// One linear layer, under the name that pruning rules and adapters know.
#[derive(Module, Debug)]
pub struct FeedForward {
    /// The layer.
    pub dense: Linear,
}

impl Vit {
    /// A new network of a checked configuration; see [`VitConfig::init`].
    pub(super) fn init(
        config: &VitConfig,
        mean: &[f32],
        std: &[f32],
        device: &Device,
        rng: &mut impl Rng,
    ) -> Result<Self, ModelError> {
        let plain = device.clone().without_autodiff();
        let normalize = Normalize::new(mean, std, &plain)?;
        let d = config.hidden;
        let dropout = DropoutConfig::new(config.dropout).init();
        let norm = || layer_norm(d, config.layer_norm_eps, &plain);
        let with_class = config.pooling == Pooling::ClassToken;
        let embeddings = Embeddings {
            cls_token: with_class.then(|| token(1, d, &plain, rng)),
            position_embeddings: token(config.tokens(), d, &plain, rng),
            patch_embeddings: PatchEmbeddings {
                projection: patches([mean.len(), d], config.patch, &plain, rng),
            },
            dropout: dropout.clone(),
        };
        let layer = (0..config.layers)
            .map(|_| {
                let attention = SelfAttention {
                    query: linear(d, d, &plain, rng),
                    key: linear(d, d, &plain, rng),
                    value: linear(d, d, &plain, rng),
                };
                EncoderLayer {
                    attention: Attention {
                        attention,
                        output: FeedForward { dense: linear(d, d, &plain, rng) },
                    },
                    intermediate: FeedForward { dense: linear(d, config.mlp, &plain, rng) },
                    output: FeedForward { dense: linear(config.mlp, d, &plain, rng) },
                    layernorm_before: norm(),
                    layernorm_after: norm(),
                    dropout: dropout.clone(),
                    heads: config.heads,
                }
            })
            .collect();
        let model = Self {
            normalize,
            vit: Backbone { embeddings, encoder: Encoder { layer }, layernorm: norm() },
            classifier: linear(d, config.classes, &plain, rng),
            classes: config.classes,
            epsilon: config.layer_norm_eps,
        };
        let model = with_stable_ids(model).valid();
        Ok(if device.is_autodiff() { model.train() } else { model })
    }
}

impl EncoderLayer {
    /// `[n, t, d]` → the same shape.
    fn forward_on(&self, x: Var<3>, tape: &mut dyn Tape) -> Var<3> {
        let y = tape.layer_norm(&self.layernorm_before, x.clone());
        let SelfAttention { query, key, value } = &self.attention.attention;
        let q = tape.linear(query, y.clone());
        let k = tape.linear(key, y.clone());
        let v = tape.linear(value, y);
        let y = tape.attention(self.heads, q, k, v);
        let y = tape.linear(&self.attention.output.dense, y);
        let y = tape.dropout(&self.dropout, y);
        let x = tape.add(y, x);
        let y = tape.layer_norm(&self.layernorm_after, x.clone());
        let y = tape.linear(&self.intermediate.dense, y);
        let y = tape.gelu(y);
        let y = tape.linear(&self.output.dense, y);
        let y = tape.dropout(&self.dropout, y);
        tape.add(y, x)
    }
}

impl Taped for Vit {
    fn forward_on(&self, images: Var<4>, tape: &mut dyn Tape) -> Var<2> {
        let x = self.normalize.forward_on(images, tape);
        let Embeddings { cls_token, position_embeddings, patch_embeddings, dropout } = &self.vit.embeddings;
        let mut x = tape.patch_embedding(&patch_embeddings.projection, x);
        if let Some(class) = cls_token {
            x = tape.class_token(class, x);
        }
        x = tape.position(position_embeddings, x);
        x = tape.dropout(dropout, x);
        for layer in &self.vit.encoder.layer {
            x = layer.forward_on(x, tape);
        }
        let pool = if cls_token.is_some() { TokenPool::First } else { TokenPool::Mean };
        let x = tape.layer_norm(&self.vit.layernorm, x);
        let x = tape.pool_tokens(pool, x);
        tape.linear(&self.classifier, x)
    }
}

impl Vit {
    /// Heads of the attention, where there is a block.
    fn heads(&self) -> Option<usize> {
        self.vit.encoder.layer.first().map(|layer| layer.heads)
    }

    /// The first of these numbers that `config` has and this network has not: its key, here and there.
    pub(super) fn difference(&self, config: &VitConfig) -> Option<(&'static str, String, String)> {
        let blocks = &self.vit.encoder.layer;
        let embeddings = &self.vit.embeddings;
        let [hidden, .., patch] = embeddings.patch_embeddings.projection.weight.dims();
        let tokens = embeddings.position_embeddings.dims()[1];
        let mlp = blocks.first().map(|block| block.intermediate.dense.weight.dims()[1]);
        let numbers = [
            ("layers", blocks.len(), config.layers),
            ("hidden", hidden, config.hidden),
            ("heads", self.heads().unwrap_or(config.heads), config.heads),
            ("mlp", mlp.unwrap_or(config.mlp), config.mlp),
            ("classes", self.classes, config.classes),
            ("patch", patch, config.patch),
            ("image", tokens, config.tokens()),
        ];
        let number = numbers.into_iter().find(|(_, here, there)| here != there);
        let number = number.map(|(key, here, there)| match key {
            "image" => (key, format!("{here} positions"), format!("{there} positions")),
            _ => (key, here.to_string(), there.to_string()),
        });
        number.or_else(|| {
            let (here, there) = (self.epsilon, config.layer_norm_eps);
            (here.to_bits() != there.to_bits())
                .then(|| ("layer_norm_eps", here.to_string(), there.to_string()))
        })
    }
}

impl Classifier for Vit {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        forward_plain(self, images)
    }

    fn num_classes(&self) -> usize {
        self.classes
    }

    fn taped(&self) -> Option<&dyn Taped> {
        Some(self)
    }

    fn settings(&self) -> String {
        let heads = self.heads().unwrap_or_default();
        format!("dropout {}, {heads} heads, ε {}", self.vit.embeddings.dropout.prob, self.epsilon)
    }
}
