//! Folders of Hugging Face: `config.json`, `model.safetensors`, and the constants of `preprocessor_config.json`.

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::Device;
use rand::Rng;
use serde_json::{Map, Value, json};

use super::{Activation, Pooling, Vit, VitConfig};
use crate::checkpoint::{self, CheckpointError, Metadata, StateDict, json};
use crate::error::ModelError;

const CONFIG: &str = "config.json";
const PREPROCESSOR: &str = "preprocessor_config.json";
const WEIGHTS: &str = "model.safetensors";
/// Where `save_pretrained` put the weights before safetensors.
const OLDER_WEIGHTS: &str = "pytorch_model.bin";
const HEAD: &str = "classifier.";

/// What a folder that `ViTForImageClassification.save_pretrained` wrote holds.
#[derive(Debug, Clone, PartialEq)]
pub struct HuggingFaceVit {
    /// The network.
    pub config: VitConfig,
    /// Mean of each colour channel for pixels in `[0, 1]`; 0.5 where the folder says nothing, which is Hugging Face's
    /// default for these models.
    pub mean: Vec<f32>,
    /// Deviation of each colour channel; 0.5 where the folder says nothing.
    pub std: Vec<f32>,
    /// The weights; in half precision on disk or not, float32 here.
    pub state: StateDict,
    new_head: bool,
}

impl HuggingFaceVit {
    /// Reads a folder. Files of a `ViTModel` alone, which have no classifier, are read too; the pooler that they may
    /// have is passed over, since the classifier does not see it.
    ///
    /// # Errors
    /// [`CheckpointError::MissingFile`] without `config.json` or weights, [`CheckpointError::ForeignConfig`] when
    /// `config.json` describes another model or asks for what would change the result and is not built here (another
    /// activation than the exact GELU, no bias of queries, keys and values, dropout of attention weights, pruned heads,
    /// quantised weights, oblong pictures), and what [`checkpoint::read`] says.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let folder = folder.as_ref();
        let path = folder.join(CONFIG);
        if !path.exists() {
            let mend =
                "name a folder that save_pretrained wrote, or copy the file from where the weights came from";
            return Err(CheckpointError::MissingFile { folder: folder.to_owned(), file: CONFIG, mend });
        }
        let keys = Keys { object: json::read(&path)?, path };
        let config = keys.config()?;
        let channels = keys.count("num_channels", 3)?;
        let (mean, std) = constants(folder, channels)?;
        let weights = [WEIGHTS, OLDER_WEIGHTS].map(|name| folder.join(name)).into_iter().find(|p| p.exists());
        let Some(weights) = weights else {
            let mend = "copy it there; weights in several files are to be joined first (save_pretrained with a larger max_shard_size)";
            return Err(CheckpointError::MissingFile { folder: folder.to_owned(), file: WEIGHTS, mend });
        };
        let state = classification_names(checkpoint::read(weights)?.state)?;
        Ok(Self { config, mean, std, state, new_head: false })
    }

    /// The same with a classifier of its own for `classes` classes, whose weights [`into_model`](Self::into_model)
    /// draws: what fine-tuning begins with.
    pub fn with_new_head(mut self, classes: usize) -> Self {
        (self.config.classes, self.new_head) = (classes, true);
        let head: Vec<String> = self
            .state
            .iter()
            .map(|(name, _)| name.to_owned())
            .filter(|name| name.starts_with(HEAD))
            .collect();
        for name in head {
            self.state.remove(&name);
        }
        self
    }

    /// The model. Only a [new head](Self::with_new_head) is drawn from `rng`.
    ///
    /// # Errors
    /// [`CheckpointError::ForeignConfig`] for numbers that describe no network, [`CheckpointError::Mismatch`] and
    /// [`CheckpointError::NonFinite`] as [`StateDict::load_into`].
    pub fn into_model(self, device: &Device, rng: &mut impl Rng) -> Result<Vit, CheckpointError> {
        let fresh = self
            .config
            .init(&self.mean, &self.std, device, rng)
            .map_err(|error| described(&PathBuf::from(CONFIG), error))?;
        self.load_into(fresh)
    }

    /// `model` with these weights, but for its normalisation and, where a [new head](Self::with_new_head) is wanted, its
    /// classifier.
    ///
    /// # Errors
    /// As [`StateDict::load_into`].
    pub fn load_into<M: Module>(mut self, model: M) -> Result<M, CheckpointError> {
        let of_its_own = StateDict::of(&model)?;
        self.state.complete_from(&of_its_own, "normalize.");
        if self.new_head {
            self.state.complete_from(&of_its_own, HEAD);
        }
        self.state.load_into(model)
    }

    /// Writes a folder that `ViTForImageClassification.from_pretrained` opens: `config.json`, `model.safetensors` and
    /// the constants of the pictures in `preprocessor_config.json`. The folder is made where it is not there.
    ///
    /// # Errors
    /// [`CheckpointError::ForeignConfig`] for a network without class token, which `transformers` cannot build, and
    /// what [`checkpoint::write()`] says.
    pub fn write(folder: impl AsRef<Path>, model: &Vit, config: &VitConfig) -> Result<(), CheckpointError> {
        let folder = folder.as_ref();
        if config.pooling != Pooling::ClassToken {
            return Err(CheckpointError::ForeignConfig {
                path: folder.join(CONFIG),
                key: "pooling".to_owned(),
                got: "mean".to_owned(),
                expected: "class-token".to_owned(),
                mend: "ViTForImageClassification has no other: save it with checkpoint::write",
            });
        }
        let mut state = StateDict::of(model)?;
        let constants = ["normalize.mean", "normalize.std"].map(|name| state.remove(name));
        let [mean, std] = constants.map(|tensor| tensor.map_or_else(Vec::new, |tensor| tensor.values));
        std::fs::create_dir_all(folder).map_err(|source| CheckpointError::Io {
            path: folder.to_owned(),
            action: "create",
            source,
        })?;
        checkpoint::write(folder.join(WEIGHTS), &state, &Metadata::new())?;
        let side = json!({ "height": config.image, "width": config.image });
        let preprocessor = json!({
            "do_normalize": true, "do_rescale": true, "do_resize": true, "image_mean": mean, "image_std": std,
            "image_processor_type": "ViTImageProcessor", "resample": 2, "rescale_factor": 1.0 / 255.0, "size": side,
        });
        json::write(&folder.join(PREPROCESSOR), &preprocessor)?;
        json::write(&folder.join(CONFIG), &description(config, mean.len()))
    }
}

/// A network as `config.json` describes it.
fn description(config: &VitConfig, channels: usize) -> Value {
    let label = |class: usize| format!("LABEL_{class}");
    let labels: Map<String, Value> =
        (0..config.classes).map(|class| (class.to_string(), label(class).into())).collect();
    let classes: Map<String, Value> = (0..config.classes).map(|class| (label(class), class.into())).collect();
    let Activation::Gelu = config.activation;
    json!({
        "architectures": ["ViTForImageClassification"], "model_type": "vit", "torch_dtype": "float32",
        "image_size": config.image, "patch_size": config.patch, "num_channels": channels,
        "hidden_size": config.hidden, "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads, "intermediate_size": config.mlp,
        "hidden_act": "gelu", "layer_norm_eps": config.layer_norm_eps, "qkv_bias": true,
        "hidden_dropout_prob": config.dropout, "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.02, "id2label": labels, "label2id": classes,
    })
}

/// The names of the classification model: those of the backbone alone get its prefix.
fn classification_names(mut state: StateDict) -> Result<StateDict, CheckpointError> {
    let names: Vec<String> = state.iter().map(|(name, _)| name.to_owned()).collect();
    let alone = names.iter().any(|name| name.starts_with("embeddings."));
    for name in names {
        if name.starts_with("pooler.") || name.starts_with("vit.pooler.") {
            state.remove(&name);
        } else if alone
            && !name.starts_with(HEAD)
            && let Some(tensor) = state.remove(&name)
        {
            state.insert(format!("vit.{name}"), tensor)?;
        }
    }
    Ok(state)
}

/// Mean and deviation of each channel.
fn constants(folder: &Path, channels: usize) -> Result<(Vec<f32>, Vec<f32>), CheckpointError> {
    let path = folder.join(PREPROCESSOR);
    let each = |value: f32| vec![value; channels];
    if !path.exists() {
        return Ok((each(0.5), each(0.5)));
    }
    let keys = Keys { object: json::read(&path)?, path };
    if keys.object.get("do_normalize") == Some(&Value::Bool(false)) {
        return Ok((each(0.0), each(1.0)));
    }
    Ok((keys.constants("image_mean", channels)?, keys.constants("image_std", channels)?))
}

/// A description and where it stands.
struct Keys {
    path: PathBuf,
    object: Map<String, Value>,
}

impl Keys {
    /// The network; what is not said is as `ViTConfig` has it.
    fn config(&self) -> Result<VitConfig, CheckpointError> {
        let elsewhere = "this crate builds ViTForImageClassification only";
        self.only("model_type", &"vit".into(), &Value::Null, elsewhere)?;
        let erf = "only the exact GELU (erf) is built: another activation gives other logits";
        self.only("hidden_act", &"gelu".into(), &"gelu".into(), erf)?;
        self.only("qkv_bias", &true.into(), &true.into(), "queries, keys and values have a bias here")?;
        let dropout = "set it to 0 in config.json: it only matters in training";
        self.only("attention_probs_dropout_prob", &0.0.into(), &0.0.into(), dropout)?;
        self.only("pruned_heads", &json!({}), &json!({}), "save the model without pruned heads")?;
        let whole = "save the model in float32, float16 or bfloat16";
        self.only("quantization_config", &Value::Null, &Value::Null, whole)?;
        let config = VitConfig {
            image: self.side("image_size", 224)?,
            patch: self.side("patch_size", 16)?,
            hidden: self.count("hidden_size", 768)?,
            layers: self.count("num_hidden_layers", 12)?,
            heads: self.count("num_attention_heads", 12)?,
            mlp: self.count("intermediate_size", 3072)?,
            classes: self.classes()?,
            pooling: Pooling::ClassToken,
            dropout: self.number("hidden_dropout_prob", 0.0)?,
            layer_norm_eps: self.number("layer_norm_eps", 1e-12)?,
            activation: Activation::Gelu,
        };
        config.validate().map_err(|error| described(&self.path, error))?;
        Ok(config)
    }

    fn fail(&self, key: &str, got: &Value, expected: &str, mend: &'static str) -> CheckpointError {
        CheckpointError::ForeignConfig {
            path: self.path.clone(),
            key: key.to_owned(),
            got: checkpoint::quote(&got.to_string()),
            expected: expected.to_owned(),
            mend,
        }
    }

    /// An error unless `key` (`default` where it is absent) is `needed`.
    fn only(
        &self,
        key: &str,
        needed: &Value,
        default: &Value,
        mend: &'static str,
    ) -> Result<(), CheckpointError> {
        let got = self.object.get(key).unwrap_or(default);
        // 0 and 0.0 are the same number.
        let same = got == needed || got.as_f64().is_some_and(|n| needed.as_f64() == Some(n));
        if same { Ok(()) } else { Err(self.fail(key, got, &needed.to_string(), mend)) }
    }

    fn count(&self, key: &str, default: usize) -> Result<usize, CheckpointError> {
        match self.object.get(key) {
            None => Ok(default),
            Some(got) => {
                let count = got.as_u64().and_then(|n| usize::try_from(n).ok());
                count.ok_or_else(|| self.fail(key, got, "a whole number", "correct it"))
            }
        }
    }

    fn number(&self, key: &str, default: f64) -> Result<f64, CheckpointError> {
        match self.object.get(key) {
            None => Ok(default),
            Some(got) => got.as_f64().ok_or_else(|| self.fail(key, got, "a number", "correct it")),
        }
    }

    /// Rows and columns, as one number or as a pair.
    fn side(&self, key: &str, default: usize) -> Result<usize, CheckpointError> {
        match self.object.get(key) {
            Some(Value::Array(pair)) if pair.len() == 2 && pair[0] == pair[1] && pair[0].is_u64() => {
                Ok(pair[0].as_u64().map_or(0, |n| n as usize))
            }
            Some(got @ Value::Array(_)) => {
                Err(self.fail(key, got, "one number", "only square pictures and patches are built here"))
            }
            _ => self.count(key, default),
        }
    }

    /// The labels are the classes; two where nothing is said.
    fn classes(&self) -> Result<usize, CheckpointError> {
        match self.object.get("id2label") {
            Some(Value::Object(labels)) => Ok(labels.len()),
            Some(got) => Err(self.fail("id2label", got, "a label for each class", "correct it")),
            None => self.count("num_labels", 2),
        }
    }

    fn constants(&self, key: &str, channels: usize) -> Result<Vec<f32>, CheckpointError> {
        let got = self.object.get(key).unwrap_or(&Value::Null);
        let values = match got {
            Value::Array(values) => values.iter().map(|v| v.as_f64().map(|v| v as f32)).collect(),
            _ => None,
        };
        values.filter(|v: &Vec<f32>| v.len() == channels).ok_or_else(|| {
            self.fail(key, got, &format!("{channels} numbers, one a colour channel"), "correct it")
        })
    }
}

/// A refusal of the numbers themselves.
fn described(path: &Path, error: ModelError) -> CheckpointError {
    match error {
        ModelError::Config { field, got, expected, mend } => CheckpointError::ForeignConfig {
            path: path.to_owned(),
            key: field.to_owned(),
            got,
            expected,
            mend,
        },
        other => CheckpointError::ForeignConfig {
            path: path.to_owned(),
            key: "model".to_owned(),
            got: other.to_string(),
            expected: "a network".to_owned(),
            mend: "correct it",
        },
    }
}
