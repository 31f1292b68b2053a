//! Fisher information for Burn modules, and the tape that a model's forward pass is written on.
//!
//! This crate knows no data set and no unlearning method. It holds
//!
//! * [`path`]: dotted parameter names, read off any Burn module;
//! * [`tape`]: the [`Tape`](tape::Tape) trait with its plain implementation;
//! * [`tree`]: values shaped like a module's parameters.

pub mod error;
pub mod path;
pub mod tape;
pub mod tree;

pub use error::CurvatureError;
pub use path::{ParamInfo, ParamPath, PathTracker, parameters};
pub use tree::{Leaf, ParamTree};
