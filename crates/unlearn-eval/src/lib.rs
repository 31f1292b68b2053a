//! Evaluation of unlearning: accuracies, membership inference and the gap to retraining.
//!
//! ```text
//! model ─► predict ─► Tables (logits, on the host) ─► Evaluation ─► Gap to Retrain ─► Report
//!                                                       UA RA TA MIA                 JSON CSV Markdown
//! ```
//!
//! A model is run once on each set; every metric is a pure function of the resulting tables, carries
//! its definition and the number of samples behind it, and is absent with a reason where it cannot
//! be computed.

pub mod accuracy;
pub mod attack;
pub mod error;
pub mod evaluation;
pub mod gap;
pub mod interval;
pub mod metric;
pub mod predict;
pub mod report;
pub mod svm;
#[cfg(test)]
mod testing;

pub use attack::{Feature, MembershipInference, ModifiedEntropy};
pub use error::EvalError;
pub use evaluation::{AttackSamples, EvalConfig, Evaluation, EvaluationData, Tables, evaluate};
pub use gap::Gap;
pub use metric::Metric;
pub use predict::{Predictions, predict};
pub use report::{Network, Report, Row, State};
