//! Index lists as text: one number a line, `#` starts a comment.

use std::path::Path;

use crate::DataError;

/// Reads a list of indices.
///
/// # Errors
/// [`DataError::Io`] when the file cannot be read, [`DataError::Format`] naming the line that is
/// no whole number of at least zero.
pub fn read(path: &Path) -> Result<Vec<usize>, DataError> {
    let text = std::fs::read_to_string(path).map_err(|source| DataError::io(path, "read", source))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut indices = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let value = line.split('#').next().unwrap_or("").trim();
        if value.is_empty() {
            continue;
        }
        indices.push(value.parse().map_err(|_| DataError::Format {
            file: path.to_owned(),
            got: format!("line {} reads {:?}", number + 1, value.chars().take(40).collect::<String>()),
            expected: "a whole number of at least zero".into(),
            mend: "write one index a line".into(),
        })?);
    }
    Ok(indices)
}
