//! Errors about unlearning methods.

use unlearn::algos::UnlearnError;

use crate::error::{Exit, Failure};

impl From<UnlearnError> for Failure {
    fn from(error: UnlearnError) -> Self {
        match error {
            UnlearnError::Hyperparameter { method, field, got, expected, mend } => {
                Self::config(format!("method {method}: {field}"), got, expected, mend)
            }
            UnlearnError::UnknownMethod { got, known, nearest } => Self::new(
                "E_METHOD",
                Exit::Usage,
                "method",
                format!("{got:?}"),
                format!("one of {known}"),
                nearest.map_or_else(
                    || "`unlearn methods` lists them".to_owned(),
                    |near| format!("did you mean {near:?}?"),
                ),
            ),
            UnlearnError::NonFinite { method, what, mend } => Self::new(
                "E_DIVERGED",
                Exit::Diverged,
                format!("method {method}"),
                format!("a {what} that is not finite"),
                "finite numbers",
                mend,
            ),
            UnlearnError::UnknownHyperparameter { method, got, known, nearest } => Self::new(
                "E_KEY",
                Exit::Usage,
                format!("method {method}: {got}"),
                format!("the unknown key {got:?}"),
                format!("one of {known}"),
                nearest.map_or_else(|| "remove the key".into(), |near| format!("did you mean {near:?}?")),
            ),
            UnlearnError::Form { method, reason } => Self::config(
                format!("method {method}"),
                reason,
                "hyperparameters in the form of the method's page",
                format!("`unlearn methods {method}` prints it"),
            ),
            UnlearnError::Data(error) => error.into(),
            UnlearnError::Prune(error) => error.into(),
            UnlearnError::Train(error) => error.into(),
            UnlearnError::Curvature(error) => error.into(),
            UnlearnError::Lora(error) => error.into(),
            other => Self::new(
                "E_METHOD",
                Exit::Internal,
                "method",
                other.to_string(),
                "a result",
                "see the message",
            ),
        }
    }
}
