//! `results.json`; the schema is described in `docs/results-schema.md`.

use serde::Deserialize;

use super::{RESULTS_SCHEMA, Report};
use crate::EvalError;

impl Report {
    /// The report as JSON, with a newline at its end. Numbers are written so that they read back
    /// to the same bits.
    ///
    /// # Errors
    /// [`EvalError::Format`] when it cannot be written.
    pub fn to_json(&self) -> Result<String, EvalError> {
        let mut text = serde_json::to_string_pretty(self).map_err(|error| broken(&error))?;
        text.push('\n');
        Ok(text)
    }

    /// Reads what [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    /// [`EvalError::Schema`] for another version, [`EvalError::Format`] for anything that is not a
    /// report.
    pub fn from_json(text: &str) -> Result<Self, EvalError> {
        #[derive(Deserialize)]
        struct Head {
            schema: String,
        }
        let head: Head = serde_json::from_str(text).map_err(|error| broken(&error))?;
        if head.schema != RESULTS_SCHEMA {
            return Err(EvalError::Schema {
                got: head.schema,
                expected: RESULTS_SCHEMA,
                mend: "read it with the version of this library that wrote it, or evaluate again",
            });
        }
        serde_json::from_str(text).map_err(|error| broken(&error))
    }
}

fn broken(error: &serde_json::Error) -> EvalError {
    EvalError::Format {
        what: "results.json".into(),
        reason: error.to_string(),
        mend: "give a results.json that this library wrote",
    }
}
