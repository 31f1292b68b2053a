//! Index lists as text: one number a line, `#` starts a comment.

use std::path::Path;

use crate::DataError;

/// Reads a list of indices. A byte-order mark and Windows line ends are understood.
///
/// # Errors
/// [`DataError::Io`] when the file cannot be read, [`DataError::IndexFormat`] naming the line that
/// is no whole number of at least zero.
pub fn read(path: &Path) -> Result<Vec<usize>, DataError> {
    let bytes = std::fs::read(path).map_err(|source| DataError::io(path, "read", source))?;
    let wrong = |got: String| DataError::IndexFormat { file: path.to_owned(), got };
    let text = std::str::from_utf8(&bytes)
        .map_err(|e| wrong(format!("byte {} is not UTF-8 text", e.valid_up_to())))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut indices = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let value = line.split('#').next().unwrap_or("").trim();
        if value.is_empty() {
            continue;
        }
        indices.push(value.parse().map_err(|_| {
            wrong(format!("line {} reads {:?}", number + 1, value.chars().take(40).collect::<String>()))
        })?);
    }
    Ok(indices)
}

#[cfg(test)]
mod tests;
