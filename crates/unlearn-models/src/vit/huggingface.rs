//! Folders of Hugging Face: `config.json`, `model.safetensors`, and the constants of `preprocessor_config.json`.

mod keys;

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::Device;
use rand::Rng;
use serde_json::{Map, Value, json};

use self::keys::{Keys, described};
use super::{Activation, Pooling, Vit, VitConfig};
use crate::MAX_CHANNELS;
use crate::checkpoint::{self, Checkpoint, CheckpointError, Mask, MaskMap, Metadata, StateDict, json};

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
    /// The masks of weights that `torch.nn.utils.prune` had pruned when they were saved.
    pub masks: MaskMap,
    new_head: bool,
}

impl HuggingFaceVit {
    /// Whether a folder is one of `transformers`, of whatever model: its `config.json` says `model_type` or
    /// `architectures`. Other programs have files of that name too. One that is no JSON and stands beside weights counts
    /// as well, so that [`read`](Self::read) can say what is wrong with it.
    pub fn is_folder(folder: impl AsRef<Path>) -> bool {
        let folder = folder.as_ref();
        let path = folder.join(CONFIG);
        if !path.is_file() {
            return false;
        }
        match json::read(&path) {
            Ok(object) => ["model_type", "architectures"].iter().any(|key| object.contains_key(*key)),
            Err(_) => [WEIGHTS, OLDER_WEIGHTS].iter().any(|name| folder.join(name).is_file()),
        }
    }

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
        if channels > MAX_CHANNELS {
            let expected = format!("at most {MAX_CHANNELS}");
            return Err(keys.fail(
                "num_channels",
                &channels.into(),
                &expected,
                "it is no picture's number: correct it",
            ));
        }
        let (mean, std) = constants(folder, channels)?;
        let weights = [WEIGHTS, OLDER_WEIGHTS].map(|name| folder.join(name)).into_iter().find(|p| p.exists());
        let Some(weights) = weights else {
            let mend = "copy it there; weights in several files are to be joined first (save_pretrained with a larger max_shard_size)";
            return Err(CheckpointError::MissingFile { folder: folder.to_owned(), file: WEIGHTS, mend });
        };
        let Checkpoint { mut state, masks, .. } = checkpoint::read(weights)?;
        let names: Vec<String> = state.iter().map(|(name, _)| name.to_owned()).collect();
        let alone = names.iter().any(|name| name.starts_with("embeddings."));
        let mut whole = StateDict::new();
        for name in names {
            if let (Some(tensor), Some(name)) = (state.remove(&name), classification_name(&name, alone)) {
                whole.insert(name, tensor)?;
            }
        }
        let named = |(name, mask): (&str, &Mask)| Some((classification_name(name, alone)?, mask.clone()));
        let masks = masks.iter().filter_map(named).collect();
        Ok(Self { config, mean, std, state: whole, masks, new_head: false })
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
        let body = self.masks.iter().filter(|(name, _)| !name.starts_with(HEAD));
        self.masks = body.map(|(name, mask)| (name.to_owned(), mask.clone())).collect();
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
    /// [`CheckpointError::ForeignConfig`] for a network without class token, which `transformers` cannot build, and for
    /// a configuration that is another network's; what [`checkpoint::write()`] says.
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
        if let Some((key, here, there)) = model.difference(config) {
            return Err(CheckpointError::ForeignConfig {
                path: folder.join(CONFIG),
                key: key.to_owned(),
                got: there,
                expected: format!("{here}, which the network has"),
                mend: "give the configuration that the network was built of",
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

/// A name in the classification model: those of the backbone alone get its prefix, and its pooler has none.
fn classification_name(name: &str, alone: bool) -> Option<String> {
    if name.starts_with("pooler.") || name.starts_with("vit.pooler.") {
        None
    } else if alone && !name.starts_with(HEAD) {
        Some(format!("vit.{name}"))
    } else {
        Some(name.to_owned())
    }
}

/// Mean and deviation of each channel.
fn constants(folder: &Path, channels: usize) -> Result<(Vec<f32>, Vec<f32>), CheckpointError> {
    let path = folder.join(PREPROCESSOR);
    let each = |value: f32| vec![value; channels];
    if !path.exists() {
        return Ok((each(0.5), each(0.5)));
    }
    let keys = Keys { object: json::read(&path)?, path };
    let scaled = "have pixels scaled to [0, 1] first, as ViTImageProcessor does unless told otherwise";
    keys.only("do_rescale", &true.into(), &true.into(), scaled)?;
    let factor = keys.number("rescale_factor", 1.0 / 255.0)?;
    if (factor * 255.0 - 1.0).abs() > 1e-6 {
        return Err(keys.fail("rescale_factor", &factor.into(), "1/255", scaled));
    }
    if keys.object.get("do_normalize") == Some(&Value::Bool(false)) {
        return Ok((each(0.0), each(1.0)));
    }
    Ok((keys.constants("image_mean", channels)?, keys.constants("image_std", channels)?))
}
