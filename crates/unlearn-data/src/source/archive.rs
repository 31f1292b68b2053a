//! Files out of a gzip-compressed tar archive: those on a list, and nothing else.
//!
//! An archive from the net can name files outside the target, links, devices, or terabytes of
//! zeros. Therefore nothing is unpacked as the archive says: wanted members are known by their
//! full name and exact length beforehand, must be regular files, and are written under names of
//! our own into a folder that takes its place only when all are there.

use std::fs::File;
use std::io::{Read, Write as _};
use std::path::Path;

use flate2::read::GzDecoder;

use crate::DataError;
use crate::error::ArchiveFault;

/// A file wanted from an archive.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// Full name inside the archive, `folder/file`.
    pub name: &'a str,
    /// File name to write.
    pub file: &'a str,
    /// Exact length in bytes.
    pub bytes: u64,
}

/// Most members that an archive may list.
const MAX_MEMBERS: usize = 1_000;

/// Writes `members` of the archive `file` into the new folder `dir`, all or none.
///
/// # Errors
/// [`DataError::Exists`] when `dir` is taken; [`DataError::Archive`] when the archive cannot be
/// read, a member is missing, doubled, no regular file or of another length;
/// [`DataError::Io`].
pub fn unpack(file: &Path, members: &[Member<'_>], dir: &Path) -> Result<(), DataError> {
    if dir.symlink_metadata().is_ok() {
        return Err(DataError::Exists { path: dir.to_owned() });
    }
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let unwritable = |source| DataError::io(dir, "write", source);
    std::fs::create_dir_all(parent).map_err(unwritable)?;
    let scratch = super::scratch(".unpacking-", 0o777).tempdir_in(parent).map_err(unwritable)?;
    extract(file, members, scratch.path())?;
    #[cfg(unix)]
    File::open(scratch.path()).and_then(|d| d.sync_all()).map_err(unwritable)?;
    // From here on the folder is no longer scratch: nothing removes it.
    let scratch = scratch.keep();
    if let Err(source) = std::fs::rename(&scratch, dir) {
        // The rename's failure is what matters; a leftover is only untidy.
        drop(std::fs::remove_dir_all(&scratch));
        return Err(unwritable(source));
    }
    #[cfg(unix)]
    File::open(parent).and_then(|d| d.sync_all()).map_err(unwritable)?;
    Ok(())
}

fn extract(file: &Path, members: &[Member<'_>], into: &Path) -> Result<(), DataError> {
    let fault = |fault, got: String, expected: String| DataError::Archive {
        file: file.to_owned(),
        fault,
        got: got.escape_debug().to_string(),
        expected,
    };
    let broken = |e: std::io::Error| {
        fault(ArchiveFault::Format, e.to_string(), "an undamaged gzip-compressed tar archive".into())
    };
    let handle = super::open_file(file)?;
    // Everything that is wanted, headers, and other small files: far below any bomb.
    let cap = members.iter().map(|m| m.bytes).sum::<u64>() + (MAX_MEMBERS as u64 + 64) * 1_024 + (1 << 20);
    let mut archive = tar::Archive::new(GzDecoder::new(handle).take(cap));
    let mut found = vec![false; members.len()];
    // `raw`: GNU long names, sparse files and PAX headers are seen as the odd entries they are
    // instead of being interpreted.
    for (number, entry) in archive.entries().map_err(broken)?.raw(true).enumerate() {
        let mut entry = entry.map_err(broken)?;
        if number >= MAX_MEMBERS {
            return Err(fault(
                ArchiveFault::Size,
                format!("over {MAX_MEMBERS} members"),
                format!("{} files", members.len()),
            ));
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let Some(place) = members.iter().position(|m| m.name == name) else { continue };
        let member = members[place];
        if std::mem::replace(&mut found[place], true) {
            return Err(fault(ArchiveFault::Member, format!("{name} twice"), "it once".into()));
        }
        if !entry.header().entry_type().is_file() {
            let kind = entry.header().entry_type();
            return Err(fault(
                ArchiveFault::Member,
                format!("{name} is a {kind:?}"),
                "a regular file".into(),
            ));
        }
        if entry.size() != member.bytes {
            return Err(fault(
                ArchiveFault::Size,
                format!("{name} with {} bytes", entry.size()),
                format!("{} bytes", member.bytes),
            ));
        }
        let target = into.join(member.file);
        let unwritable = |source| DataError::io(&target, "write", source);
        let mut out = File::create_new(&target).map_err(unwritable)?;
        let mut buffer = vec![0; 1 << 16];
        let mut written = 0;
        loop {
            let read = entry.read(&mut buffer).map_err(broken)?;
            if read == 0 {
                break;
            }
            written += read as u64;
            out.write_all(&buffer[..read]).map_err(unwritable)?;
        }
        if written != member.bytes {
            return Err(fault(
                ArchiveFault::Size,
                format!("{name} ends after {written} bytes"),
                format!("{} bytes", member.bytes),
            ));
        }
        out.sync_all().map_err(unwritable)?;
    }
    // To the end, for gzip's check sum comes last.
    let mut rest = archive.into_inner();
    std::io::copy(&mut rest, &mut std::io::sink()).map_err(broken)?;
    if rest.limit() == 0 {
        return Err(fault(
            ArchiveFault::Size,
            format!("over {cap} bytes unpacked"),
            "at most that many".into(),
        ));
    }
    if let Some(place) = found.iter().position(|found| !found) {
        return Err(fault(
            ArchiveFault::Member,
            format!("no {}", members[place].name),
            "all files of the data set".into(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
