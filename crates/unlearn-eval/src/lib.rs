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
//!
//! ```
//! use unlearn_eval::Predictions;
//! use unlearn_eval::accuracy::Accuracy;
//!
//! // Two samples of class 0; probabilities `[n, classes]`, row by row.
//! let answers = Predictions::from_probabilities(&[0.9, 0.1, 0.2, 0.8], vec![0, 0], 2)?;
//! let right = Accuracy::of(&answers);
//! assert_eq!((right.correct, right.n), (1, 2));
//! # Ok::<(), unlearn_eval::EvalError>(())
//! ```

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
