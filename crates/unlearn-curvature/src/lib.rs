//! Fisher information for Burn modules, and the tape that a model's forward pass is written on.
//!
//! This crate knows no data set and no unlearning method. It holds
//!
//! * [`path`]: dotted parameter names, read off any Burn module;
//! * [`tape`]: the [`Tape`](tape::Tape) trait with its plain implementation;
//! * [`tree`]: values shaped like a module's parameters;
//! * [`oracle`]: Fisher diagonals, Gram matrices and per-sample gradients of any module, slowly;
//! * [`inverse`]: products with the inverse of a damped Fisher matrix.

pub mod error;
pub mod inverse;
pub mod oracle;
pub mod path;
pub mod tape;
pub mod tree;

pub use error::CurvatureError;
pub use path::{ParamInfo, ParamPath, PathTracker, parameters};
pub use tree::{Leaf, ParamTree};
