//! What can go wrong in a method.

use unlearn_curvature::CurvatureError;
use unlearn_data::DataError;
use unlearn_models::LoraError;
use unlearn_prune::PruneError;
use unlearn_train::TrainError;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnlearnError {
    /// A hyperparameter is out of its range.
    #[error("{method}: {field} is {got}, but must be {expected}; {mend}")]
    Hyperparameter {
        /// The method.
        method: &'static str,
        /// The hyperparameter.
        field: &'static str,
        /// What was given.
        got: String,
        /// What is allowed.
        expected: String,
        /// What to do.
        mend: String,
    },
    /// There is no method of this name.
    #[error("there is no method {got:?}; methods are {known}{}", nearest.as_ref().map(|n| format!(". Did you mean {n:?}?")).unwrap_or_default())]
    UnknownMethod {
        /// The name given.
        got: String,
        /// All names, joined by commas.
        known: String,
        /// The nearest name.
        nearest: Option<String>,
    },
    /// A method has no hyperparameter of this name.
    #[error("{method} has no hyperparameter {got:?}; it has {known}{}", nearest.as_ref().map(|n| format!(". Did you mean {n:?}?")).unwrap_or_default())]
    UnknownHyperparameter {
        /// The method.
        method: &'static str,
        /// The name given.
        got: String,
        /// All names, joined by commas.
        known: String,
        /// The nearest name.
        nearest: Option<String>,
    },
    /// The hyperparameters of a method have another form than they must.
    #[error("{method}: {reason}; see the method's page for the form of each hyperparameter")]
    Form {
        /// The method.
        method: &'static str,
        /// What the reader says.
        reason: String,
    },
    /// A result is not finite.
    #[error("{method}: {what} is not finite; {mend}")]
    NonFinite {
        /// The method.
        method: &'static str,
        /// The quantity.
        what: String,
        /// What to do.
        mend: String,
    },
    /// Data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Pruning.
    #[error(transparent)]
    Prune(#[from] PruneError),
    /// Training.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Adapters.
    #[error(transparent)]
    Lora(#[from] LoraError),
    /// Curvature.
    #[error(transparent)]
    Curvature(#[from] CurvatureError),
}
