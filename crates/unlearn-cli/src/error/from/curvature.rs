//! Errors about curvature estimates.

use unlearn::curvature::CurvatureError;

use crate::error::{Exit, Failure};

impl From<CurvatureError> for Failure {
    fn from(error: CurvatureError) -> Self {
        if let CurvatureError::Interrupted { stage, done, total } = error {
            return Self::new(
                "E_INTERRUPTED",
                Exit::Interrupted,
                "run",
                format!("a request to stop after {done} of {total} ({stage})"),
                "to reach the end",
                "run the same command with --resume: this stage starts over",
            );
        }
        Self::new(
            "E_CURVATURE",
            Exit::Internal,
            "curvature",
            error.to_string(),
            "a curvature estimate of this model",
            "see the message",
        )
    }
}
