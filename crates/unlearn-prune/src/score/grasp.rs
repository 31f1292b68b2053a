//! GraSP: keep the weights whose removal would lower the gradient flow most
//! (Wang, Zhang and Grosse 2020, <https://arxiv.org/abs/2002.07376>, eq. 8).
//!
//! Removing weight q changes ‖g‖² by S_q = −w_q (Hg)_q to first order (up to a factor 2), and the
//! weights with the *largest* S go. [`Score`] ranks the other way round, so a weight is worth −S.
//!
//! # The Hessian product
//! Burn differentiates once, so Hg is a central difference of gradients,
//! (∇L(w + εg) − ∇L(w − εg)) / 2ε, along the direction itself, with ε = δ‖w‖/‖g‖: δ is how far the
//! weights move, relative to their norm. Truncation errs by O(δ²), and by O(δ) for each ReLU that
//! switches on the way; rounding errs by O(u/δ) with u the type's unit. Float32 leaves a poor
//! compromise, so the default computes in float64 where it can, with δ = 10⁻⁶ (both errors then
//! vanish beside float32), and takes δ = 2·10⁻³ in float32.

use serde::{Deserialize, Serialize};
use unlearn_curvature::{ParamInfo, ParamTree};
use unlearn_models::Classifier;

use super::gradient::{Precision, Probe, to_scores};
use super::{Score, Scores, ScoringData};
use crate::PruneError;

/// Relative length of the step, by type.
const STEP_DOUBLE: f64 = 1e-6;
const STEP_SINGLE: f64 = 2e-3;

/// How the values are ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GraspRanking {
    /// By w · Hg with its sign, as the paper has it.
    #[default]
    Paper,
    /// By |w · Hg|, as the published unlearning code has it.
    Reference,
}

/// A weight is worth w · (Hg), with g and H of the mean cross-entropy of logits / temperature over
/// `data`, with respect to the prunable weights, batch norms and dropout in inference mode.
#[derive(Debug, Clone)]
pub struct Grasp {
    /// The samples; the paper takes 10 a class ([`ScoringData::per_class`]).
    pub data: ScoringData,
    /// What the logits are divided by, above zero; the paper's code takes 200.
    pub temperature: f64,
    /// How the values are ranked.
    pub ranking: GraspRanking,
    /// In which type it is computed.
    pub precision: Precision,
}

impl Grasp {
    /// The paper's score over `data`.
    pub fn new(data: ScoringData) -> Self {
        Self { data, temperature: 200.0, ranking: GraspRanking::Paper, precision: Precision::Auto }
    }

    /// w · (Hg), by path.
    fn product<M: Classifier>(&self, model: &M, prunable: &[ParamInfo]) -> Result<ParamTree, PruneError> {
        let dtype = self.precision.cast(model)?;
        let probe = Probe::new(model, prunable, dtype)?;
        let weights = probe.weights();
        let gradient = probe.mean_gradient(&self.data, self.temperature)?;
        let norm = |tree: &ParamTree| tree.dot(tree).map(f64::sqrt);
        let (size, slope) = (norm(&weights)?, norm(&gradient)?);
        if !size.is_finite() || !slope.is_finite() {
            return Err(PruneError::NonFinite {
                path: prunable.first().map_or_else(String::new, |p| p.path.to_string()),
                count: 1,
                mend: "the gradient itself is not finite: check the weights and the data",
            });
        }
        if size == 0.0 || slope == 0.0 {
            return Ok(weights.zeros_like());
        }
        let step = if dtype.is_some() { STEP_DOUBLE } else { STEP_SINGLE } * size / slope;
        let gradient_at = |step: f64| {
            let moved = weights.zip(&gradient, |w, g| w + g.mul_scalar(step))?;
            let probe = probe.with_model(|model| Ok(moved.write_into(model)?))?;
            probe.mean_gradient(&self.data, self.temperature)
        };
        let change = gradient_at(step)?.sub(&gradient_at(-step)?)?;
        Ok(weights.zip(&change, |w, d| w * d.div_scalar(2.0 * step))?)
    }
}

impl<M: Classifier> Score<M> for Grasp {
    fn scores(&self, model: &M, prunable: &[ParamInfo]) -> Result<Scores, PruneError> {
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return Err(PruneError::Config {
                field: "temperature",
                got: self.temperature.to_string(),
                expected: "above zero".into(),
                mend: "the paper's code takes 200".into(),
            });
        }
        self.data.check(model.num_classes())?;
        let product = self.product(model, prunable)?;
        to_scores(&match self.ranking {
            GraspRanking::Paper => product,
            GraspRanking::Reference => product.map(|_, x| x.abs()),
        })
    }
}
