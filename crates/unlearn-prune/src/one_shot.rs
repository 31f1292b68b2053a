//! Pruning in one go (OMP, and every score that needs no training).

use serde::{Deserialize, Serialize};
use unlearn_curvature::ParamInfo;
use unlearn_models::Classifier;

use crate::select::{Target, prune_lowest};
use crate::{EmptyLayers, Mask, MaskSet, Prunable, PruneError, Scope, Score};

/// How much is pruned, where, and what is ranked against what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PruneConfig {
    /// Share of the *remaining* prunable weights to remove, between 0 and 1, both excluded.
    pub rate: f64,
    /// What is ranked against what.
    #[serde(default)]
    pub scope: Scope,
    /// Which parameters may be pruned.
    #[serde(default)]
    pub prunable: Prunable,
    /// What happens when a layer would lose its last weight.
    #[serde(default)]
    pub empty_layers: EmptyLayers,
}

impl PruneConfig {
    /// Removes `rate` of the convolution weights by one global ranking, as the published
    /// unlearning code does.
    pub fn new(rate: f64) -> Self {
        Self {
            rate,
            scope: Scope::default(),
            prunable: Prunable::default(),
            empty_layers: EmptyLayers::default(),
        }
    }

    /// Checks the rate.
    ///
    /// # Errors
    /// [`PruneError::Rate`] unless it lies between 0 and 1.
    pub fn validate(&self) -> Result<(), PruneError> {
        if self.rate > 0.0 && self.rate < 1.0 { Ok(()) } else { Err(PruneError::Rate { got: self.rate }) }
    }

    /// Checks what can be known of `rounds` prunings of `model` before any training or scoring: rate,
    /// rule and patterns, that at least one weight is left and, where layers are ranked one by one, in each of them.
    /// `mask` says what is pruned already.
    ///
    /// # Errors
    /// Those of [`validate`](Self::validate) and [`Prunable::select`];
    /// [`PruneError::NothingLeft`]; [`PruneError::LayerEmpty`] unless [`EmptyLayers::Allow`] is chosen.
    pub fn check<M: Classifier>(
        &self,
        model: &M,
        rounds: u32,
        mask: Option<&MaskSet>,
    ) -> Result<(), PruneError> {
        self.validate()?;
        let now = |parameter: &ParamInfo| {
            let mask = mask.and_then(|mask| mask.get(&parameter.path));
            mask.map_or_else(|| parameter.shape.iter().product(), Mask::kept)
        };
        let prunable = self.prunable.select(model)?;
        let layers: Vec<usize> = prunable.iter().map(now).collect();
        let total = layers.iter().sum();
        let left = match self.scope {
            Scope::Global => self.left(total, rounds),
            Scope::PerLayer => layers.iter().map(|n| self.left(*n, rounds)).sum(),
        };
        if left == 0 {
            return Err(PruneError::NothingLeft { total, rate: self.rate, rounds });
        }
        if self.scope == Scope::PerLayer && self.empty_layers != EmptyLayers::Allow {
            let mut emptied =
                prunable.iter().zip(&layers).filter(|(_, n)| **n > 0 && self.left(**n, rounds) == 0);
            if let Some((first, total)) = emptied.next() {
                let (path, total) = (first.path.to_string(), *total);
                return Err(PruneError::LayerEmpty { path, total, others: emptied.count() });
            }
        }
        Ok(())
    }

    /// How many of `n` weights that are ranked together are left after so many prunings.
    fn left(&self, mut n: usize, rounds: u32) -> usize {
        for _ in 0..rounds {
            let gone = Target { rate: self.rate, part: 1, parts: 1 }.gone(n);
            if gone == 0 {
                break;
            }
            n -= gone;
        }
        n
    }
}

/// Removes the weights with the lowest scores.
///
/// Of the `n` prunable weights that `mask` still keeps (all, when it is absent) exactly
/// `round(rate · n)` go, halves to even; `n` is counted over all of them or layer by layer, as
/// [`Scope`] says. Equal scores go in the order of paths, then of places. The result masks every
/// prunable parameter, and whatever else `mask` did.
///
/// A score that wants several rounds ([`Score::rounds`], SynFlow) is asked again after each part
/// of an exponential schedule; the last part ends at the same exact count.
///
/// `model` is not changed: [`MaskSet::apply`] makes the sparse one.
///
/// # Errors
/// [`PruneError::Rate`]; what [`Prunable::select`] and [`MaskSet::check`] say;
/// [`PruneError::NonFinite`] for a score without an order; [`PruneError::LayerEmpty`] unless
/// [`EmptyLayers::Allow`] is chosen, and [`PruneError::NothingLeft`] even then when all layers would
/// be empty; and what the score itself reports.
pub fn one_shot<M: Classifier>(
    model: &M,
    score: &dyn Score<M>,
    config: &PruneConfig,
    mask: Option<&MaskSet>,
) -> Result<MaskSet, PruneError> {
    config.validate()?;
    let prunable = config.prunable.select(model)?;
    if config.empty_layers == EmptyLayers::Allow {
        config.check(model, 1, mask)?;
    }
    let mut start = mask.cloned().unwrap_or_default();
    start.check(model)?;
    for parameter in &prunable {
        if start.get(&parameter.path).is_none() {
            let n = parameter.shape.iter().product();
            start.insert(parameter.path.clone(), parameter.shape.clone(), vec![true; n])?;
        }
    }
    let mut pruned = start.clone();
    let parts = score.rounds().max(1);
    for part in 1..=parts {
        let scores = score.scores(&pruned.apply(model)?, &prunable)?;
        let target = Target { rate: config.rate, part, parts };
        let (scope, empty) = (config.scope, config.empty_layers);
        prune_lowest(&mut pruned, &start, &scores, &prunable, scope, target, empty)?;
    }
    tracing::debug!(kept = pruned.kept(), total = pruned.total(), "pruned");
    Ok(pruned)
}
