//! |w|: small weights matter least (Han et al. 2015, <https://arxiv.org/abs/1506.02626>).

use unlearn_curvature::ParamInfo;
use unlearn_models::Classifier;

use super::{Score, Scores};
use crate::PruneError;
use crate::edit::read_values;

/// A weight is worth its absolute value.
#[derive(Debug, Clone, Copy, Default)]
pub struct Magnitude;

impl<M: Classifier> Score<M> for Magnitude {
    fn scores(&self, model: &M, prunable: &[ParamInfo]) -> Result<Scores, PruneError> {
        let paths = prunable.iter().map(|p| p.path.clone()).collect();
        let mut values = read_values(model, &paths)?;
        values.values_mut().flatten().for_each(|w| *w = w.abs());
        Ok(values.into_iter().collect())
    }
}
