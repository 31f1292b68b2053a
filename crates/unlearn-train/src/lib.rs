//! One training loop: an objective on a data stream under a constraint.
//!
//! ```text
//! Loader ─► Objective::loss ─► backward ─► Constraint::gradients ─► optimizer
//!                                   ─► Objective::proximal ─► Constraint::project
//! ```

pub mod config;
pub mod constraint;
pub mod error;
mod fit;
pub mod objective;
pub mod observer;

pub use config::{BatchNormMode, FitConfig, OptimizerConfig, Schedule};
pub use constraint::{Constraint, Unconstrained};
pub use error::TrainError;
pub use fit::{EpochRecord, Fit, fit};
pub use objective::{Loss, Moment, Objective};
pub use observer::{Event, Observer, Silent};
