//! Which layers get adapters, and of which kind.

use serde::{Deserialize, Serialize};

use super::LoraError;

/// Adapters to be added: how large, how strong and where.
///
/// ```
/// use unlearn_models::LoraConfig;
/// let config: LoraConfig = serde_json::from_str(r#"{"rank": 4, "targets": ["query", "value"]}"#)?;
/// assert_eq!((config.alpha, config.scale()), (16.0, 4.0));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// r, the width of a branch; at least 1 and at most the smaller side of the layer's weight matrix.
    #[serde(default = "eight")]
    pub rank: usize,
    /// α: the branch is multiplied by α / r. Finite and above zero.
    #[serde(default = "sixteen")]
    pub alpha: f64,
    /// Share of the branch's inputs that are zero in a training step, from 0 up to, not including, 1.
    #[serde(default)]
    pub dropout: f64,
    /// α / √r instead of α / r (rsLoRA).
    #[serde(default)]
    pub rs_lora: bool,
    /// Layers that get an adapter: the end of a module's path, from a dot on (`conv1` means `conv1` and
    /// `layer1.0.conv1`, not `preconv1`).
    pub targets: Vec<String>,
    /// Modules that are trained in full, by the end of their paths (`fc`).
    #[serde(default)]
    pub modules_to_save: Vec<String>,
    /// What batch norms do.
    #[serde(default)]
    pub norms: Norms,
}

/// What the batch norms of an adapted network do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Norms {
    /// They use their running statistics, and nothing of them moves.
    #[default]
    Frozen,
    /// They are trained in full, statistics included: the same as naming each in
    /// [`modules_to_save`](LoraConfig::modules_to_save).
    Train,
}

fn eight() -> usize {
    8
}

fn sixteen() -> f64 {
    16.0
}

impl LoraConfig {
    /// Adapters of `rank` and `alpha` on `targets`; change the other fields as needed.
    pub fn new(rank: usize, alpha: f64, targets: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            rank,
            alpha,
            dropout: 0.0,
            rs_lora: false,
            targets: targets.into_iter().map(Into::into).collect(),
            modules_to_save: Vec::new(),
            norms: Norms::Frozen,
        }
    }

    /// The keys of a `lora` table.
    pub const KEYS: [&'static str; 7] =
        ["alpha", "dropout", "modules_to_save", "norms", "rank", "rs_lora", "targets"];

    /// What the branch is multiplied by.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.rs_lora { rank.sqrt() } else { rank }
    }

    /// Checks what can be checked without a model; [`add_adapters`](super::add_adapters) does so too.
    ///
    /// # Errors
    /// [`LoraError::Config`] with the first field that is out of range.
    pub fn validate(&self) -> Result<(), LoraError> {
        let refuse =
            |field, got: String, expected, mend| Err(LoraError::Config { field, got, expected, mend });
        if self.rank == 0 {
            return refuse("rank", "0".into(), "at least 1", "4 to 16 is usual");
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return refuse("alpha", self.alpha.to_string(), "finite and above 0", "twice the rank is usual");
        }
        if !(0.0..1.0).contains(&self.dropout) {
            let expected = "a number from 0 up to, not including, 1";
            return refuse("dropout", self.dropout.to_string(), expected, "use 0 for none");
        }
        if self.targets.is_empty() {
            let mend = "`conv1`, `conv2` and `fc` for a ResNet, `query`, `value` and `dense` for a vision transformer";
            return refuse("targets", "empty".into(), "at least one pattern", mend);
        }
        let blank = |list: &[String]| list.iter().any(|p| p.trim_matches('.').is_empty());
        for (field, list) in [("targets", &self.targets), ("modules_to_save", &self.modules_to_save)] {
            if blank(list) {
                let expected = "the end of a module's path in each";
                return refuse(field, "a pattern without a name".into(), expected, "remove it");
            }
        }
        Ok(())
    }
}
