//! Where training goes on after pruning.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::PruneError;

/// The weights that training goes on from after pruning. Batch-norm statistics and everything that
/// is not pruned come from there too. In recipes `init`, `epoch:8`, `final`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rewind {
    /// The weights before the first step (Frankle and Carbin 2019,
    /// <https://arxiv.org/abs/1803.03635>).
    #[default]
    Init,
    /// The weights after `k` whole epochs of the first, dense run, with the learning rate of that
    /// moment (Frankle et al. 2020, <https://arxiv.org/abs/1912.05671>).
    Epoch(u64),
    /// The weights as they are, with the learning rate from its start: "learning-rate rewinding"
    /// (Renda, Frankle and Carbin 2020, <https://arxiv.org/abs/2003.02389>).
    Final,
}

impl fmt::Display for Rewind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Init => f.write_str("init"),
            Self::Epoch(k) => write!(f, "epoch:{k}"),
            Self::Final => f.write_str("final"),
        }
    }
}

impl FromStr for Rewind {
    type Err = PruneError;

    fn from_str(text: &str) -> Result<Self, PruneError> {
        match text {
            "init" => Some(Self::Init),
            "final" => Some(Self::Final),
            _ => text.strip_prefix("epoch:").and_then(|k| k.parse().ok()).map(Self::Epoch),
        }
        .ok_or_else(|| PruneError::Config {
            field: "rewind",
            got: format!("\"{text}\""),
            expected: "init, epoch:K with a whole number K, or final".into(),
            mend: "choose one of them".into(),
        })
    }
}

impl Serialize for Rewind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rewind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
