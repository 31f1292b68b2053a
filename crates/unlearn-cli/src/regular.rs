//! Files that end.

use std::fs::{self, File};
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;

/// Opens a regular file: a pipe would be waited for, and a device has no end.
pub(crate) fn open(path: &Path) -> Result<File> {
    if fs::metadata(path)?.is_file() {
        return File::open(path);
    }
    Err(Error::new(ErrorKind::InvalidInput, "not a regular file"))
}

/// The whole content of a regular file of at most `most` bytes.
pub(crate) fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    open(path)?.take(most + 1).read_to_end(&mut content)?;
    if content.len() as u64 > most {
        return Err(Error::new(ErrorKind::InvalidData, format!("more than {most} bytes")));
    }
    Ok(content)
}
