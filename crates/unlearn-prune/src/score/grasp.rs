//! GraSP: keep the weights whose removal would lower the gradient flow most
//! (Wang, Zhang and Grosse 2020, <https://arxiv.org/abs/2002.07376>, eq. 8).
//!
//! Removing weight q changes ‖g‖² by S_q = −w_q (Hg)_q to first order (up to a factor 2), and the
//! weights with the *largest* S go. [`Score`] ranks the other way round, so a weight is worth −S.
//!
//! # The Hessian product
//! Burn differentiates once, so Hg is a difference of gradients along g. Two things spoil it: each
//! ReLU that switches on the way adds the whole jump of the gradient divided by the step, which for
//! logits / 200 is thousands of times larger than Hg itself, and rounding grows with one over the
//! step. Hence
//!
//! * float64, so that the step can be tiny: the weights move by 3·10⁻¹¹ of their norm;
//! * the median of three neighbouring intervals, weight by weight, so that one with a switch in it is
//!   outvoted; and few samples at a time, so that switches are rare.
//!
//! In float32 no step gives a usable product, so a device without float64 is an error.

use burn::Tensor;
use serde::{Deserialize, Serialize};
use unlearn_curvature::{ParamInfo, ParamPath, ParamTree, parameters};
use unlearn_models::Classifier;

use super::gradient::{Precision, Probe, to_scores};
use super::{Score, Scores, ScoringData};
use crate::PruneError;

/// Length of one interval, relative to the norm of the weights.
const STEP: f64 = 3e-11;
/// Ends of the three intervals, in steps.
const ENDS: [f64; 4] = [-1.5, -0.5, 0.5, 1.5];
/// Samples whose product is taken at a time.
const PIECE: usize = 8;

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

/// Along which parameters the gradient flow ‖g‖² is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GradientFlow {
    /// Everything that training moves.
    #[default]
    Trainable,
    /// Only the parameters that may be pruned.
    Prunable,
}

/// A weight is worth w · (Hg), with g and H of the mean cross-entropy of logits / temperature over
/// `data`, with respect to the parameters that `flow` names, batch norms and dropout in inference
/// mode. The flow along prunable weights that are exactly zero does not count: those are pruned already and stay there.
///
/// It is computed in float64: the device must have it, and the model may bring no float32 constants
/// of its own.
#[derive(Debug, Clone)]
pub struct Grasp {
    /// The samples; the paper takes 10 a class ([`ScoringData::per_class`]).
    pub data: ScoringData,
    /// What the logits are divided by, above zero; the paper's code takes 200.
    pub temperature: f64,
    /// How the values are ranked.
    pub ranking: GraspRanking,
    /// Along which parameters the gradient flow is measured.
    pub flow: GradientFlow,
}

impl Grasp {
    /// The paper's score over `data`.
    pub fn new(data: ScoringData) -> Self {
        Self { data, temperature: 200.0, ranking: GraspRanking::Paper, flow: GradientFlow::default() }
    }

    /// w · (Hg), by path.
    fn product<M: Classifier>(&self, model: &M, prunable: &[ParamInfo]) -> Result<ParamTree, PruneError> {
        let probe = Probe::new(model, &self.tracked(model, prunable), Precision::Double.cast(model)?)?;
        let weights = probe.weights();
        let pieces = self.data.pieces(PIECE)?;
        let gradient = probe.mean_gradient(&pieces, self.temperature)?;
        // What is pruned already is zero and stays there: no flow goes along it.
        let known = |path: &ParamPath| prunable.iter().any(|p| p.path == *path);
        let moving = weights.map(|path, w| {
            if known(path) { w.clone().not_equal_elem(0.0).float().cast(w.dtype()) } else { w.ones_like() }
        });
        let gradient = gradient.zip(&moving, Tensor::mul)?;
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
        let step = STEP * size / slope;
        let moved = |end: f64| {
            let weights = weights.zip(&gradient, |w, g| w + g.mul_scalar(end * step))?;
            probe.with_model(|model| Ok(weights.write_into(model)?))
        };
        let ends = [moved(ENDS[0])?, moved(ENDS[1])?, moved(ENDS[2])?, moved(ENDS[3])?];
        let mut sum = weights.zeros_like();
        for batch in pieces.batches(&probe.device) {
            let [a, b, c, d] = ends.each_ref().map(|end| end.sum_gradient(&batch, self.temperature));
            let (x, y, z) = (b.sub(&a)?, c.sub(&b)?, d.sub(&c)?);
            let low = x.zip(&y, Tensor::min_pair)?;
            let high = x.zip(&y, Tensor::max_pair)?;
            // The median of three: max(min(x, y), min(max(x, y), z)).
            sum = sum.add(&low.zip(&high.zip(&z, Tensor::min_pair)?, Tensor::max_pair)?)?;
        }
        let change = sum.scale(1.0 / (step * self.data.num_samples() as f64));
        Ok(weights.zip(&change, Tensor::mul)?)
    }

    /// The parameters along which g is taken.
    fn tracked<M: Classifier>(&self, model: &M, prunable: &[ParamInfo]) -> Vec<ParamInfo> {
        let known = |p: &ParamInfo| prunable.iter().any(|q| q.path == p.path);
        let others = match self.flow {
            GradientFlow::Prunable => Vec::new(),
            GradientFlow::Trainable => parameters(model),
        };
        let others = others.into_iter().filter(|p| p.trainable && !known(p));
        prunable.iter().cloned().chain(others).collect()
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
        let all = to_scores(&match self.ranking {
            GraspRanking::Paper => product,
            GraspRanking::Reference => product.map(|_, x| x.abs()),
        })?;
        let of = |p: &ParamInfo| Some((p.path.clone(), all.get(&p.path)?.to_vec()));
        Ok(prunable.iter().filter_map(of).collect())
    }
}
