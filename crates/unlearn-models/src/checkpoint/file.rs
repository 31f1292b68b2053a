//! Files: told apart by their first bytes, read under a limit, written whole.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use burn_pack::AtomicFile;

use super::{CheckpointError, Limits};

/// The formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Safetensors,
    Torch,
}

/// Where the TAR format has its magic word.
const TAR_MAGIC: std::ops::Range<usize> = 257..262;

/// Tells the format of a file.
pub(super) fn sniff(path: &Path, limits: Limits) -> Result<Format, CheckpointError> {
    let length = check(path, limits)?;
    format_of(path, &read_first(path, TAR_MAGIC.end as u64)?, length)
}

/// Refuses what is not a regular file (opening a pipe would wait for ever) and what is too large.
pub(super) fn check(path: &Path, limits: Limits) -> Result<u64, CheckpointError> {
    let about = fs::metadata(path).map_err(|e| io_error(path, "read", e))?;
    if !about.is_file() {
        let got = if about.is_dir() { "a directory" } else { "neither a file nor a directory" };
        return Err(CheckpointError::NotAFile { path: path.to_owned(), got });
    }
    if about.len() > limits.max_bytes {
        return Err(CheckpointError::TooLarge {
            path: path.to_owned(),
            what: "holds",
            got: about.len(),
            limit: limits.max_bytes,
            mend: "raise the limit if this is a checkpoint",
        });
    }
    Ok(about.len())
}

/// Reads a whole file that is no longer than the limit, even when it grows meanwhile.
pub(crate) fn read_whole(path: &Path, limits: Limits) -> Result<Vec<u8>, CheckpointError> {
    let length = check(path, limits)?;
    let mut bytes = Vec::new();
    open(path)?.take(length).read_to_end(&mut bytes).map_err(|e| io_error(path, "read", e))?;
    Ok(bytes)
}

/// The first `count` bytes of a regular file, or all of a shorter one.
pub(super) fn read_first(path: &Path, count: u64) -> Result<Vec<u8>, CheckpointError> {
    let mut bytes = Vec::new();
    open(path)?.take(count).read_to_end(&mut bytes).map_err(|e| io_error(path, "read", e))?;
    Ok(bytes)
}

fn format_of(path: &Path, head: &[u8], length: u64) -> Result<Format, CheckpointError> {
    let fail = |got: String, mend: &'static str| {
        Err(CheckpointError::Format {
            path: path.to_owned(),
            got,
            expected: "a safetensors file, or what torch.save writes",
            mend,
        })
    };
    if head.is_empty() {
        return fail("the file is empty".to_owned(), "The write of it was cut short: use an earlier one");
    }
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return Ok(Format::Torch);
    }
    // The header's length, then the brace that its JSON begins with. Torch files come after this
    // test, because a header of 128 bytes begins with a pickle's first byte.
    if let (Some(prefix), Some(b'{')) = (head.first_chunk::<8>(), head.get(8))
        && u64::from_le_bytes(*prefix) <= length.max(super::safetensors::MAX_HEADER)
    {
        return Ok(Format::Safetensors);
    }
    if head.get(TAR_MAGIC) == Some(b"ustar") {
        return fail(
            "a TAR archive, as PyTorch wrote before version 0.1.10 (2017)".to_owned(),
            "Load it in PyTorch and save it again",
        );
    }
    if matches!(head[0], 0x80 | b'(' | b'}' | b']' | b'c' | b'L' | b'l') {
        return Ok(Format::Torch);
    }
    let first: Vec<String> = head.iter().take(8).map(|b| format!("{b:02x}")).collect();
    fail(format!("it begins with the bytes {}", first.join(" ")), "Name a checkpoint file")
}

/// Writes beside `path`, flushes to disk and renames, so that `path` is always whole.
pub(crate) fn write_whole(
    path: &Path,
    encode: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), CheckpointError> {
    let failed = |e: io::Error| io_error(path, "write", e);
    let packed = |e: burn_pack::Error| io_error(path, "write", io::Error::other(e.to_string()));
    if path.is_dir() {
        return Err(CheckpointError::NotAFile { path: path.to_owned(), got: "a directory" });
    }
    let (scratch, file) = AtomicFile::create(path).map_err(packed)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    encode(&mut out).map_err(failed)?;
    let file = out.into_inner().map_err(|e| failed(e.into_error()))?;
    file.sync_all().map_err(failed)?;
    drop(file);
    scratch.commit().map_err(packed)
}

fn open(path: &Path) -> Result<File, CheckpointError> {
    File::open(path).map_err(|e| io_error(path, "open", e))
}

pub(super) fn io_error(path: &Path, action: &'static str, source: io::Error) -> CheckpointError {
    CheckpointError::Io { path: path.to_owned(), action, source }
}
