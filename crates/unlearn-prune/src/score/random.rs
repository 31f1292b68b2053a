//! Uniform noise: the baseline that every score has to beat.

use rand::RngExt as _;
use unlearn_curvature::{ParamInfo, ParamPath};
use unlearn_data::{Seed, Stream};
use unlearn_models::Classifier;

use super::{Score, Scores};
use crate::PruneError;

/// A weight is worth a uniform draw from `[0, 1)`, a pure function of (seed, path, place): it does
/// not depend on which other parameters are prunable, and pruning in several rounds with one seed
/// removes what pruning at once would.
#[derive(Debug, Clone, Copy, Default)]
pub struct Random {
    /// The seed.
    pub seed: Seed,
}

impl<M: Classifier> Score<M> for Random {
    fn scores(&self, _model: &M, prunable: &[ParamInfo]) -> Result<Scores, PruneError> {
        let draw = |p: &ParamInfo| {
            let mut rng = self.seed.rng(Stream::Prune, 0, hash(&p.path));
            let n = p.shape.iter().product();
            (p.path.clone(), (0..n).map(|_| rng.random::<f32>()).collect())
        };
        Ok(prunable.iter().map(draw).collect())
    }
}

/// 64-bit FNV-1a of a path (<https://www.rfc-editor.org/rfc/rfc9923>).
fn hash(path: &ParamPath) -> u64 {
    path.as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
