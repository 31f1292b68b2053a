//! Which weights go, given their scores: exact counts, deterministic ties.

use serde::{Deserialize, Serialize};
use unlearn_curvature::{ParamInfo, ParamPath};

use crate::{MaskSet, PruneError, Scores};

/// What is ranked against what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// One ranking over all prunable weights: layers end with different sparsities.
    #[default]
    Global,
    /// One ranking a layer: every layer loses the same share.
    PerLayer,
}

/// What happens when a layer would lose its last weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EmptyLayers {
    /// An error: nothing flows through an empty layer, and the network is cut there unless a
    /// shortcut leads around it.
    #[default]
    Refuse,
    /// The layer is emptied, with a warning in the log.
    Allow,
}

/// How many of the weights that were there at the start are to be gone after `part` of `parts`
/// equal steps of an exponential schedule that ends at `rate`: with `n` weights at the start,
/// `round(n · (1 − (1 − rate)^(part/parts)))`, halves to even. The last step gives exactly
/// `round(n · rate)`, however many steps there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) rate: f64,
    pub(crate) part: u32,
    pub(crate) parts: u32,
}

impl Target {
    pub(crate) fn gone(self, at_start: usize) -> usize {
        let rate = if self.part == self.parts {
            self.rate
        } else {
            1.0 - (1.0 - self.rate).powf(f64::from(self.part) / f64::from(self.parts))
        };
        ((at_start as f64 * rate).round_ties_even() as usize).min(at_start)
    }
}

/// Prunes from `mask`, which has an entry for every one of `prunable`, the weights with the lowest
/// scores until `target` is met; `start` is the mask before the first part. Equal scores go in the
/// order of paths, then of places.
pub(crate) fn prune_lowest(
    mask: &mut MaskSet,
    start: &MaskSet,
    scores: &Scores,
    prunable: &[ParamInfo],
    scope: Scope,
    target: Target,
    empty: EmptyLayers,
) -> Result<(), PruneError> {
    check(scores, prunable, mask)?;
    let paths: Vec<_> = prunable.iter().map(|p| &p.path).collect();
    match scope {
        Scope::Global => prune_group(mask, start, scores, &paths, target),
        Scope::PerLayer => {
            for path in &paths {
                prune_group(mask, start, scores, std::slice::from_ref(path), target);
            }
        }
    }
    let emptied: Vec<_> = paths
        .iter()
        .filter_map(|path| Some((*path, start.get(path)?, mask.get(path)?)))
        .filter(|(_, before, now)| before.kept() > 0 && now.kept() == 0)
        .map(|(path, before, _)| (path, before.total()))
        .collect();
    match (emptied.first(), empty) {
        (None, _) => Ok(()),
        (Some((path, total)), EmptyLayers::Refuse) => {
            Err(PruneError::LayerEmpty { path: path.to_string(), total: *total, others: emptied.len() - 1 })
        }
        (Some(_), EmptyLayers::Allow) => {
            for (path, total) in emptied {
                tracing::warn!(%path, total, "pruning removed every weight of a layer");
            }
            Ok(())
        }
    }
}

/// Scores of the weights that `mask` keeps are finite; what is pruned already has any.
fn check(scores: &Scores, prunable: &[ParamInfo], mask: &MaskSet) -> Result<(), PruneError> {
    for parameter in prunable {
        let expected = parameter.shape.iter().product();
        let values = scores.get(&parameter.path).unwrap_or(&[]);
        if values.len() != expected {
            return Err(PruneError::ScoreShape {
                path: parameter.path.to_string(),
                got: values.len(),
                expected,
            });
        }
        let keep = mask.get(&parameter.path).map(super::Mask::keep);
        let kept = |index: usize| keep.is_none_or(|keep| keep[index]);
        let count = values.iter().enumerate().filter(|(index, s)| !s.is_finite() && kept(*index)).count();
        if count > 0 {
            return Err(PruneError::NonFinite {
                path: parameter.path.to_string(),
                count,
                mend: "check the weights and the data for values that are not finite",
            });
        }
    }
    Ok(())
}

/// One ranking over the parameters at `paths`. Scores are finite and complete.
fn prune_group(mask: &mut MaskSet, start: &MaskSet, scores: &Scores, paths: &[&ParamPath], target: Target) {
    let kept = |set: &MaskSet| paths.iter().filter_map(|p| set.get(p)).map(super::Mask::kept).sum::<usize>();
    let (at_start, now) = (kept(start), kept(mask));
    let count = target.gone(at_start).saturating_sub(at_start - now);
    if count == 0 {
        return;
    }
    let entry = |path: &ParamPath| scores.get(path).unwrap_or(&[]);
    let mut left: Vec<f32> = Vec::with_capacity(now);
    for path in paths {
        if let Some(m) = mask.get(path) {
            left.extend(
                entry(path).iter().zip(m.keep()).filter(|(_, k)| **k).map(|(s, _)| positive_zero(*s)),
            );
        }
    }
    let (_, &mut threshold, _) = left.select_nth_unstable_by(count - 1, f32::total_cmp);
    let mut ties = count - left.iter().filter(|s| **s < threshold).count();
    drop(left);
    for path in paths {
        let Some(m) = mask.get_mut(path) else { continue };
        for (score, keep) in entry(path).iter().zip(m.keep_mut()).filter(|(_, keep)| **keep) {
            let score = positive_zero(*score);
            if score < threshold {
                *keep = false;
            } else if score == threshold && ties > 0 {
                *keep = false;
                ties -= 1;
            }
        }
    }
}

/// `total_cmp` puts −0 before +0; as scores they are equal.
fn positive_zero(score: f32) -> f32 {
    score + 0.0
}
