//! SynFlow: |w · ∂R/∂w|, R the sum of the logits of the net with all its entries made absolute, for
//! an input of ones (Tanaka et al. 2020, <https://arxiv.org/abs/2006.05467>, eq. 3 and algorithm 1).
//!
//! No data are needed. Pruning in many small parts keeps any layer from being emptied early, which
//! is the point of the method: 100 rounds on an exponential schedule.

use burn::Tensor;
use burn::module::{ModuleMapper, Param};
use burn::tensor::DType;
use unlearn_curvature::{ParamInfo, ParamTree};
use unlearn_data::ImageShape;
use unlearn_models::Classifier;

use super::gradient::{Precision, Probe, to_scores};
use super::{Score, Scores};
use crate::PruneError;
use crate::edit::edit;

/// A weight is worth |w · ∂R/∂w|.
///
/// All float entries are made absolute: weights, biases, norms and their running statistics, and
/// constants that the model carries as buffers. Batch norms and dropout are in inference mode. The
/// ones go in where pictures do, before the model's own normalisation.
#[derive(Debug, Clone, Copy)]
pub struct SynFlow {
    /// Shape of the data's pictures.
    pub input: ImageShape,
    /// Parts of the schedule; the paper takes 100.
    pub rounds: u32,
    /// In which type it is computed. Products over many layers can leave float32's range; `Auto`
    /// computes in float32 and turns to float64 only when they do.
    pub precision: Precision,
}

impl SynFlow {
    /// The paper's score for pictures of shape `input`.
    pub fn new(input: ImageShape) -> Self {
        Self { input, rounds: 100, precision: Precision::Auto }
    }

    fn flow<M: Classifier>(
        &self,
        model: &M,
        prunable: &[ParamInfo],
        dtype: Option<DType>,
    ) -> Result<Scores, PruneError> {
        let probe = Probe::new(&model.valid().map(&mut Absolute), prunable, dtype)?;
        let ImageShape { channels, height, width } = self.input;
        let ones = probe.cast(Tensor::ones([1, channels, height, width], &probe.device));
        let gradient = probe.gradient(probe.model.forward(ones).sum());
        let score: ParamTree = gradient.zip(&probe.weights(), |g, w| (g * w).abs())?;
        to_scores(&score)
    }
}

impl<M: Classifier> Score<M> for SynFlow {
    fn scores(&self, model: &M, prunable: &[ParamInfo]) -> Result<Scores, PruneError> {
        if self.input.is_empty() {
            return Err(PruneError::Config {
                field: "input of SynFlow",
                got: format!("{:?}", self.input),
                expected: "at least one pixel".into(),
                mend: "give the shape of the data's pictures".into(),
            });
        }
        if self.precision != Precision::Auto {
            return self.flow(model, prunable, self.precision.cast(model)?);
        }
        let scores = self.flow(model, prunable, None)?;
        let finite = scores.iter().all(|(_, values)| values.iter().all(|s| s.is_finite()));
        match Precision::Auto.cast(model)? {
            Some(wide) if !finite => self.flow(model, prunable, Some(wide)),
            _ => Ok(scores),
        }
    }

    fn rounds(&self) -> u32 {
        self.rounds
    }
}

/// Makes every float entry absolute, buffers too.
struct Absolute;

impl ModuleMapper for Absolute {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        edit(param, Tensor::abs)
    }
}
