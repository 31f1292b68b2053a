//! What adapters cost and what merging them changed.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How many of a model's parameters train. Running statistics and normalisation constants are no parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainableReport {
    /// Scalars that training moves.
    pub trainable: usize,
    /// All scalars, those of the adapters included.
    pub total: usize,
}

impl TrainableReport {
    /// `trainable / total`, 0–1.
    pub fn share(&self) -> f64 {
        if self.total == 0 { 0.0 } else { self.trainable as f64 / self.total as f64 }
    }
}

impl fmt::Display for TrainableReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (part, all) = (self.trainable, self.total);
        write!(f, "{part} of {all} parameters train ({:.2} %)", 100.0 * self.share())
    }
}

/// How far the logits of a merged network are from those of the network with branches.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OutputChange {
    /// Largest |difference| of a logit.
    pub largest: f64,
    /// Mean |difference|.
    pub mean: f64,
}
