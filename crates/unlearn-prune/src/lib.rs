//! Pruning with masks that hold.
//!
//! ```text
//! model ─► Score ─► one_shot ─► MaskSet ─► apply ─► sparse model
//!                                  └─► constraint ─► fit(): pruned weights stay exactly zero
//! iterative: train ─► prune ─► rewind ─► train ─► …
//! ```
//!
//! A mask is explicit state: it is made by a [`Score`] over the [`Prunable`] weights, stored in a
//! file of its own, and never inferred from zeros in the weights.
//!
//! ```
//! use burn::module::Module;
//! use burn::nn::{Linear, LinearConfig};
//! use burn::tensor::Device;
//! use unlearn_prune::MaskSet;
//!
//! let model: Linear = LinearConfig::new(2, 2).with_bias(false).init(&Device::flex());
//! let mut mask = MaskSet::new();
//! mask.insert("weight", vec![2, 2], vec![true, false, true, true])?;
//! let sparse = mask.apply(&model)?;
//! assert_eq!(sparse.weight.val().into_data().try_to_vec::<f32>().unwrap()[1], 0.0);
//! assert_eq!(mask.sparsity(), 0.25);
//! # let _ = sparse.num_params();
//! # Ok::<(), unlearn_prune::PruneError>(())
//! ```

pub mod constraint;
mod edit;
pub mod error;
pub mod iterative;
pub mod mask;
mod mask_file;
pub mod one_shot;
pub mod prunable;
pub mod report;
pub mod rewind;
pub mod score;
pub mod select;
#[cfg(test)]
mod tests;

pub use constraint::MaskConstraint;
pub use error::PruneError;
pub use iterative::{
    IterativeConfig, IterativeRun, MOST_ROUNDS, RetrainLength, Round, RoundRecord, Start, iterative,
    iterative_from,
};
pub use mask::{Mask, MaskSet};
pub use one_shot::{PruneConfig, one_shot};
pub use prunable::{Prunable, PrunableRule};
pub use report::{LayerSparsity, SparsityReport};
pub use rewind::Rewind;
pub use score::{Grasp, Magnitude, Random, Score, Scores, ScoringData, Snip, SynFlow};
pub use select::{EmptyLayers, Scope};
