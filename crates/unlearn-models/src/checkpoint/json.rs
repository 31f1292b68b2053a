//! Small JSON files beside weights.

use std::path::Path;

use serde_json::{Map, Value};

use super::error::quote;
use super::{CheckpointError, Limits, file};

/// Largest description that is read: labels of a hundred thousand classes fit.
const LIMITS: Limits = Limits { max_bytes: 16 << 20 };

/// Reads a file that holds one JSON object.
pub(crate) fn read(path: &Path) -> Result<Map<String, Value>, CheckpointError> {
    let bytes = file::read_whole(path, LIMITS)?;
    let damaged = |got: String| CheckpointError::Format {
        path: path.to_owned(),
        got,
        expected: "a JSON object",
        mend: "It is damaged or another file: copy it again",
    };
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(damaged("JSON, but no object".to_owned())),
        Err(error) => Err(damaged(quote(&error.to_string()))),
    }
}

/// Writes a JSON object, whole or not at all.
pub(crate) fn write(path: &Path, object: &Value) -> Result<(), CheckpointError> {
    file::write_whole(path, |out| {
        serde_json::to_writer_pretty(&mut *out, object)?;
        out.write_all(b"\n")
    })
}
