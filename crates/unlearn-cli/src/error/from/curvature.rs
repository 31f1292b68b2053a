//! Errors about curvature estimates.

use unlearn::curvature::CurvatureError;

use crate::error::{Exit, Failure};

impl From<CurvatureError> for Failure {
    fn from(error: CurvatureError) -> Self {
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
