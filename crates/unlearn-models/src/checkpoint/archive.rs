//! The ZIP container of `torch.save`, checked before the reader sees it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use tempfile::NamedTempFile;
use zip::read::{ArchiveOffset, Config};
use zip::{CompressionMethod, ZipArchive};

use super::CheckpointError;
use super::error::quote;
use super::file::io_error;

/// Names, shapes and where the tensors are; a thousand layers need a hundredth of it. Each of its bytes can ask for a
/// hundred of memory.
const MAX_PICKLE: u64 = 16 << 20;

/// An End Of Central Directory record without a comment.
const END: u64 = 22;

/// Checks the archive at `path`, when it is one. The answer is a copy to read in its place where
/// the reader would misjudge the original.
pub(super) fn check(path: &Path) -> Result<Option<NamedTempFile>, CheckpointError> {
    let failed = |e: io::Error| io_error(path, "read", e);
    let mut input = BufReader::new(File::open(path).map_err(failed)?);
    if !input.fill_buf().map_err(failed)?.starts_with(b"PK") {
        return Ok(None);
    }
    // torch.save writes nothing before the archive.
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let mut archive = ZipArchive::with_config(config, input).map_err(|e| damaged(path, &e.to_string()))?;
    if archive.has_duplicate_names() {
        return Err(damaged(path, "two entries of one name"));
    }
    // It also stores and never compresses, so an entry that says otherwise is a bomb or foreign.
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(|e| damaged(path, &e.to_string()))?;
        if entry.compression() != CompressionMethod::Stored || entry.size() != entry.compressed_size() {
            return Err(CheckpointError::Format {
                path: path.to_owned(),
                got: format!("an entry of {} bytes, compressed to {}", entry.size(), entry.compressed_size()),
                expected: "stored entries, as torch.save writes them",
                mend: "Load it in PyTorch and save it again",
            });
        }
        if entry.size() > MAX_PICKLE && entry.name().is_ok_and(|name| name.ends_with("data.pkl")) {
            return Err(long_pickle(path, entry.size()));
        }
    }
    let mut input = archive.into_inner();
    input.rewind().map_err(failed)?;
    match ZipArchive::new(&mut input) {
        Ok(detected) if detected.offset() == 0 => Ok(None),
        _ => without_zip64(input).map_err(failed),
    }
}

/// A copy without the two ZIP64 records that `torch.save` writes even where nothing needs them.
///
/// The `zip` crate (9.8.1) expects the central directory to end where the last record begins. The
/// ZIP64 records lie between, 76 bytes, and when the first entry of the directory is exactly that
/// long, which is so when its name has 30 letters (`pruned_checkpoint.pth/data.pkl`), it takes the
/// second entry for the first. `None` when the archive does need the records.
fn without_zip64(mut input: BufReader<File>) -> io::Result<Option<NamedTempFile>> {
    let length = input.seek(SeekFrom::End(0))?;
    let Some(end) = length.checked_sub(END) else { return Ok(None) };
    input.seek(SeekFrom::Start(end))?;
    let mut record = [0; END as usize];
    input.read_exact(&mut record)?;
    let word = |at: usize| u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]]);
    let (size, start) = (word(12), word(16));
    let directory_end = u64::from(start) + u64::from(size);
    let needed = size == u32::MAX || start == u32::MAX || record[10..12] == [0xff; 2];
    if !record.starts_with(b"PK\x05\x06") || record[20..] != [0, 0] || needed || directory_end > end {
        return Ok(None);
    }
    input.rewind()?;
    let mut copy = NamedTempFile::new()?;
    io::copy(&mut input.take(directory_end), &mut copy)?;
    copy.write_all(&record)?;
    copy.flush()?;
    Ok(Some(copy))
}

fn long_pickle(path: &Path, got: u64) -> CheckpointError {
    CheckpointError::TooLarge {
        path: path.to_owned(),
        what: "has a pickle of",
        got,
        limit: MAX_PICKLE,
        mend: "save the state dict alone, whose tensors lie outside of the pickle",
    }
}

fn damaged(path: &Path, got: &str) -> CheckpointError {
    CheckpointError::Format {
        path: path.to_owned(),
        got: quote(got),
        expected: "a whole archive that torch.save wrote",
        mend: "It is damaged or cut short: copy it again or use an earlier one",
    }
}
