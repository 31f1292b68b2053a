//! Fisher information for Burn modules, and the tape that a model's forward pass is written on.
//!
//! This crate knows no data set and no unlearning method. It holds
//!
//! * [`path`]: dotted parameter names, read off any Burn module;
//! * [`tape`]: the [`Tape`](tape::Tape) trait with its plain and its recording implementation;
//! * [`tree`]: values shaped like a module's parameters;
//! * [`fisher`], [`per_sample`]: Fisher diagonals, norms, inner products and weighted sums of per-sample
//!   gradients of a model on a tape, in batches and in bounded memory;
//! * [`way`], [`probes`]: the same for a forward pass in plain Burn whose layers are marked;
//! * [`estimate`], [`sweep`], [`reduce`]: what those are made of;
//! * [`engine`]: the choice between a tape and the oracle, for methods that take any model;
//! * [`oracle`]: Fisher diagonals, Gram matrices and per-sample gradients of any module, slowly;
//! * [`inverse`]: products with the inverse of a damped Fisher matrix, by either;
//! * [`fused`]: gradient descent and norms of parameters in one pass over memory;
//! * [`watch`]: what a run tells while it goes, and how it is stopped.

pub mod engine;
pub mod error;
pub mod estimate;
pub mod fisher;
#[cfg(feature = "flex")]
mod flex;
pub mod fused;
pub mod inverse;
mod layer;
mod one_by_one;
pub mod oracle;
pub mod path;
pub mod per_sample;
pub mod plan;
pub mod probes;
pub mod reduce;
mod store;
pub mod sweep;
pub mod tape;
pub mod tree;
pub mod watch;
pub mod way;

pub use engine::Engine;
pub use error::CurvatureError;
pub use estimate::Estimator;
pub use fisher::FisherDiag;
pub use inverse::InverseFisher;
pub use path::{ParamInfo, ParamPath, PathTracker, parameters};
pub use per_sample::PerSample;
pub use probes::Probes;
pub use tree::{Leaf, ParamTree};
pub use watch::{Progress, Watch};
pub use way::{Forward, Marked, OnTape, OneByOne, Way};
