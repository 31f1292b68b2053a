//! One training loop: an objective on a data stream under a constraint.
//!
//! ```text
//! Loader ─► Objective::loss ─► backward ─► Constraint::gradients ─► optimizer
//!                                   ─► Objective::proximal ─► Constraint::project
//! ```

mod batch_norm;
mod checkpoint;
pub mod commit;
pub mod config;
pub mod constraint;
pub mod cross_entropy;
pub mod error;
mod fit;
mod fit_in;
pub mod objective;
pub mod observer;
mod optimizer;
mod optimizer_state;
pub mod run_dir;
mod schedule;
mod step;
mod tensor_file;
#[cfg(test)]
mod testing;

pub use config::{BatchNormMode, CheckpointConfig, FitConfig, OptimizerConfig, Schedule};
pub use constraint::{Constraint, Unconstrained};
pub use cross_entropy::{CrossEntropy, cross_entropy};
pub use error::TrainError;
pub use fit::{EpochRecord, Fit, fit};
pub use fit_in::fit_in;
pub use objective::{Loss, Moment, Objective};
pub use observer::{Event, Observer, Silent};
