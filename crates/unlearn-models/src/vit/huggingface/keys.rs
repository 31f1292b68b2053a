//! What the keys of `config.json` and `preprocessor_config.json` say, and a refusal of what is not built here.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::checkpoint::{self, CheckpointError};
use crate::error::ModelError;
use crate::vit::{Activation, Pooling, VitConfig};

/// A description and where it stands.
pub(super) struct Keys {
    pub(super) path: PathBuf,
    pub(super) object: Map<String, Value>,
}

impl Keys {
    /// The network; what is not said is as `ViTConfig` has it.
    pub(super) fn config(&self) -> Result<VitConfig, CheckpointError> {
        let elsewhere = match self.object.get("model_type") {
            Some(_) => "this crate builds ViTForImageClassification only",
            None => "this is another program's file: name a folder that save_pretrained wrote",
        };
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

    pub(super) fn fail(&self, key: &str, got: &Value, expected: &str, mend: &'static str) -> CheckpointError {
        CheckpointError::ForeignConfig {
            path: self.path.clone(),
            key: key.to_owned(),
            got: checkpoint::quote(&got.to_string()),
            expected: expected.to_owned(),
            mend,
        }
    }

    /// An error unless `key` (`default` where it is absent) is `needed`.
    pub(super) fn only(
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

    pub(super) fn count(&self, key: &str, default: usize) -> Result<usize, CheckpointError> {
        match self.object.get(key) {
            None => Ok(default),
            Some(got) => {
                let count = got.as_u64().and_then(|n| usize::try_from(n).ok());
                count.ok_or_else(|| self.fail(key, got, "a whole number", "correct it"))
            }
        }
    }

    pub(super) fn number(&self, key: &str, default: f64) -> Result<f64, CheckpointError> {
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

    pub(super) fn constants(&self, key: &str, channels: usize) -> Result<Vec<f32>, CheckpointError> {
        let got = self.object.get(key).unwrap_or(&Value::Null);
        let values = match got {
            // The processor's own default, IMAGENET_STANDARD_MEAN and _STD.
            Value::Null => Some(vec![0.5; channels]),
            Value::Array(values) => values.iter().map(|v| v.as_f64().map(|v| v as f32)).collect(),
            _ => None,
        };
        values.filter(|v: &Vec<f32>| v.len() == channels).ok_or_else(|| {
            self.fail(key, got, &format!("{channels} numbers, one a colour channel"), "correct it")
        })
    }
}

/// A refusal of the numbers themselves.
pub(super) fn described(path: &Path, error: ModelError) -> CheckpointError {
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
