//! How sparse each layer is.

use std::fmt;

use serde::{Deserialize, Serialize};
use unlearn_curvature::ParamPath;

use crate::MaskSet;
use crate::mask::share;

/// Kept and total counts of every masked parameter, and of all together. `Display` writes a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SparsityReport {
    /// One entry a masked parameter, in path order.
    pub layers: Vec<LayerSparsity>,
    /// Weights kept in all of them.
    pub kept: usize,
    /// Weights in all of them.
    pub total: usize,
    /// Share pruned in all of them, 0–1.
    pub sparsity: f64,
}

/// What is left of one parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerSparsity {
    /// The parameter.
    pub path: ParamPath,
    /// Its shape, in Burn's layout.
    pub shape: Vec<usize>,
    /// Weights kept.
    pub kept: usize,
    /// Weights, kept or not.
    pub total: usize,
    /// Share pruned, 0–1.
    pub sparsity: f64,
}

impl SparsityReport {
    /// Counts the entries of `masks`.
    pub fn of(masks: &MaskSet) -> Self {
        let layers: Vec<_> = masks
            .iter()
            .map(|(path, mask)| {
                let (kept, total) = (mask.kept(), mask.total());
                let shape = mask.shape().to_vec();
                LayerSparsity { path: path.clone(), shape, kept, total, sparsity: share(kept, total) }
            })
            .collect();
        let kept = layers.iter().map(|l| l.kept).sum();
        let total = layers.iter().map(|l| l.total).sum();
        Self { layers, kept, total, sparsity: share(kept, total) }
    }
}

impl fmt::Display for SparsityReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.layers.iter().map(|l| l.path.as_str().len()).max().unwrap_or(0).max(9);
        writeln!(f, "{:width$}  {:>10}  {:>10}  pruned", "parameter", "kept", "of")?;
        for l in &self.layers {
            let pruned = 100.0 * l.sparsity;
            writeln!(f, "{:width$}  {:>10}  {:>10}  {pruned:5.1} %", l.path.as_str(), l.kept, l.total)?;
        }
        let pruned = 100.0 * self.sparsity;
        write!(f, "{:width$}  {:>10}  {:>10}  {pruned:5.1} %", "all", self.kept, self.total)
    }
}
