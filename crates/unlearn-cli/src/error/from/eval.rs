//! Errors about evaluation and results.

use unlearn::eval::EvalError;

use crate::error::{Exit, Failure};

impl From<EvalError> for Failure {
    fn from(error: EvalError) -> Self {
        let code = error.code();
        match error {
            EvalError::Data(error) => error.into(),
            EvalError::Config { field, got, expected, mend } => Self::config(field, got, expected, mend),
            EvalError::Io { path, source } => Self::io(&path, &source),
            EvalError::Classes { .. } => Self::new(
                code,
                Exit::Checkpoint,
                "model",
                error.to_string(),
                "a model with as many classes as the data",
                "use the data that the model was trained on",
            ),
            EvalError::NonFinite { .. } => Self::new(
                code,
                Exit::Diverged,
                "logits",
                error.to_string(),
                "finite numbers",
                "the model is damaged or diverged: lower the learning rate or choose another method",
            ),
            EvalError::NotConverged { .. } => Self::new(
                code,
                Exit::Internal,
                "membership inference",
                error.to_string(),
                "a support vector machine within its tolerance",
                "leave the attack out of evaluation.attacks, and report this",
            ),
            EvalError::Incomparable { metric, got, expected } => Self::new(
                code,
                Exit::Verification,
                metric,
                got,
                expected,
                "evaluate both models on the same data in the same way",
            ),
            EvalError::Schema { got, expected, mend } => {
                Self::new(code, Exit::Verification, "results", format!("schema {got:?}"), expected, mend)
            }
            EvalError::Format { what, reason, mend } => {
                Self::new(code, Exit::Verification, what, reason, "a whole results file", mend)
            }
            other => Self::new(
                code,
                Exit::Internal,
                "evaluation",
                other.to_string(),
                "a number",
                "see the message",
            ),
        }
    }
}
