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
        if let CurvatureError::NonFinite { what, mend } = error {
            return Self::new(
                "E_DIVERGED",
                Exit::Diverged,
                "curvature",
                format!("{what} is not finite"),
                "finite numbers",
                mend,
            );
        }
        if let CurvatureError::Solve { got, mend } = error {
            return Self::new(
                "E_SOLVE",
                Exit::Diverged,
                "curvature",
                got,
                "a system that can be solved to working precision",
                mend,
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
