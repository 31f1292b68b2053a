//! What is known of a file's content before it is there.

use std::fs::File;
use std::io::{self, Read};

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use sha2::{Digest, Sha256};

use super::hex;

/// In lower-case hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known<'a> {
    /// SHA-256 of the content.
    Sha256(&'a str),
    /// git's name of the content: SHA-1 of its length and itself. A mistake shows in it; it is no seal against somebody
    /// who makes two files of one name.
    GitBlob(&'a str),
}

impl<'a> Known<'a> {
    /// What kind of word it is.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sha256(_) => "SHA-256",
            Self::GitBlob(_) => "git blob",
        }
    }

    /// The word itself.
    pub(crate) fn value(self) -> &'a str {
        match self {
            Self::Sha256(value) | Self::GitBlob(value) => value,
        }
    }

    /// The same of `file`, from where it stands; at most `cap` bytes and one are read.
    pub(super) fn of(self, file: &mut File, cap: u64) -> io::Result<String> {
        match self {
            Self::Sha256(_) => sha256(file, cap),
            Self::GitBlob(_) => git_blob(file, cap),
        }
    }
}

/// Hash of what is left of `file`, of at most `cap` bytes and one.
pub(crate) fn sha256(file: &mut File, cap: u64) -> io::Result<String> {
    let mut hash = Sha256::new();
    each(file, cap, |bytes| hash.update(bytes))?;
    Ok(hex(&hash.finalize()))
}

fn git_blob(file: &mut File, cap: u64) -> io::Result<String> {
    let mut hash = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(format!("blob {}\0", file.metadata()?.len()).as_bytes());
    each(file, cap, |bytes| hash.update(bytes))?;
    Ok(hex(hash.finish().as_ref()))
}

fn each(file: &mut File, cap: u64, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut file = file.take(cap.saturating_add(1));
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            read => take(&buffer[..read]),
        }
    }
}
