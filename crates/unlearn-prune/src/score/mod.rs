//! What a weight is worth. One file a score; to add one, write a file, implement [`Score`] and name
//! it here.

use std::collections::BTreeMap;

use unlearn_curvature::{ParamInfo, ParamPath};
use unlearn_models::Classifier;

use crate::PruneError;

mod data;
mod gradient;
mod grasp;
mod magnitude;
mod random;
mod snip;
mod synflow;

pub use data::ScoringData;
pub use gradient::Precision;
pub use grasp::{GradientFlow, Grasp, GraspRanking};
pub use magnitude::Magnitude;
pub use random::Random;
pub use snip::{Snip, SnipForm};
pub use synflow::SynFlow;

/// What each weight of a model is worth: the lowest are pruned first.
///
/// # Contract
/// * `model` lies on a plain device, its pruned weights are zero, and it is not changed (batch-norm
///   statistics included).
/// * The result has one value a weight, row-major, for each of `prunable`, pruned weights included
///   (theirs are not looked at), and depends on nothing but model and score: equal calls give
///   equal scores.
pub trait Score<M: Classifier>: Send + Sync {
    /// The scores of the weights of `prunable`.
    ///
    /// # Errors
    /// Whatever the score needs and does not get.
    fn scores(&self, model: &M, prunable: &[ParamInfo]) -> Result<Scores, PruneError>;

    /// In how many parts the weights are removed, with new scores before each.
    fn rounds(&self) -> u32 {
        1
    }
}

/// One value a weight: the higher, the more it is worth.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scores {
    values: BTreeMap<ParamPath, Vec<f32>>,
}

impl Scores {
    /// No scores yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts the scores of the parameter at `path`, row-major, replacing what was there.
    pub fn insert(&mut self, path: ParamPath, values: Vec<f32>) {
        self.values.insert(path, values);
    }

    /// The scores of the parameter at `path`, row-major.
    pub fn get(&self, path: &ParamPath) -> Option<&[f32]> {
        self.values.get(path).map(Vec::as_slice)
    }

    /// All scores in path order.
    pub fn iter(&self) -> impl Iterator<Item = (&ParamPath, &[f32])> {
        self.values.iter().map(|(path, values)| (path, values.as_slice()))
    }
}

impl FromIterator<(ParamPath, Vec<f32>)> for Scores {
    fn from_iter<I: IntoIterator<Item = (ParamPath, Vec<f32>)>>(entries: I) -> Self {
        Self { values: entries.into_iter().collect() }
    }
}
