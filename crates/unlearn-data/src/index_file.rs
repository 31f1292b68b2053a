//! Index lists as text: one number a line, `#` starts a comment.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::DataError;

/// Longest list that is read: over eight million indices of seven digits.
pub const LARGEST: u64 = 64 << 20;

/// Reads a list of indices. A byte-order mark and Windows line ends are understood.
///
/// # Errors
/// [`DataError::Io`] when the file cannot be read; [`DataError::Format`] for what is no regular file
/// (a pipe would be waited for, a device never ends) or longer than [`LARGEST`];
/// [`DataError::IndexFormat`] naming the line that is no whole number of at least zero.
pub fn read(path: &Path) -> Result<Vec<usize>, DataError> {
    let unreadable = |source| DataError::io(path, "read", source);
    let no_list = |got: String| {
        let expected = format!("a text file of at most {LARGEST} bytes");
        DataError::format(path, got, expected, "Name a list with one index a line")
    };
    let about = std::fs::metadata(path).map_err(unreadable)?;
    if !about.is_file() {
        return Err(no_list(if about.is_dir() { "a folder" } else { "a pipe or device" }.into()));
    }
    let mut bytes = Vec::new();
    // One byte more than may be, because a file can grow while it is read.
    File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err(no_list(format!("{} bytes", about.len())));
    }
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
