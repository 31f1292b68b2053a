//! SNIP: |w · ∂L/∂w|, how much the loss would move if the connection were cut
//! (Lee, Ajanthan and Torr 2019, <https://arxiv.org/abs/1810.02340>, eq. 6, before its
//! normalisation, which no ranking sees).

use serde::{Deserialize, Serialize};
use unlearn_curvature::{Engine, ParamInfo};
use unlearn_models::Classifier;

use super::gradient::{Precision, Probe, to_scores};
use super::{Score, Scores, ScoringData};
use crate::PruneError;

/// What is taken of the gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnipForm {
    /// |w · g|, as the paper has it.
    #[default]
    Connection,
    /// |g| without the weight, as the published unlearning code has it.
    Reference,
}

/// A weight is worth |w · g|, with g the gradient of the mean cross-entropy over `data`, batch norms
/// and dropout in inference mode.
#[derive(Debug, Clone)]
pub struct Snip {
    /// The samples.
    pub data: ScoringData,
    /// What is taken of the gradient.
    pub form: SnipForm,
    /// In which type it is computed. The engine computes in float32, so that float64 means [`Engine::Autodiff`].
    pub precision: Precision,
    /// How the gradient is come by; no score depends on it beyond rounding.
    pub engine: Engine,
}

impl Snip {
    /// The paper's score over `data`, in the weights' own type.
    pub fn new(data: ScoringData) -> Self {
        Self { data, form: SnipForm::Connection, precision: Precision::Single, engine: Engine::Auto }
    }
}

impl<M: Classifier> Score<M> for Snip {
    fn scores(&self, model: &M, prunable: &[ParamInfo]) -> Result<Scores, PruneError> {
        self.data.check(model.num_classes())?;
        let dtype = self.precision.cast(model)?;
        let probe = Probe::new(model, prunable, dtype)?;
        let gradient = match self.engine {
            Engine::Tape if dtype.is_some() => {
                return Err(PruneError::Config {
                    field: "engine of the score",
                    got: "tape, in float64".into(),
                    expected: "float32 with the engine `tape`".into(),
                    mend: "choose the precision `single`, or the engine `autodiff`".into(),
                });
            }
            engine => engine.run(
                model.taped().is_some() && dtype.is_none(),
                || probe.taped_gradient(&self.data),
                || probe.mean_gradient(&self.data, 1.0),
            )?,
        };
        let score = match self.form {
            SnipForm::Connection => gradient.zip(&probe.weights(), |g, w| (g * w).abs())?,
            SnipForm::Reference => gradient.map(|_, g| g.abs()),
        };
        to_scores(&score)
    }
}
