//! A run directory: one run, one process at a time.
//!
//! ```text
//! run/
//!   LOCK          held while a process works here
//!   config.json   what the run is; another one is refused
//!   log.jsonl     append only, one record a line
//!   …             committed directories
//! ```

mod identity;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

pub use identity::check_identity;
use serde_json::Value;

use self::identity::CONFIG;

use crate::TrainError;
use crate::commit::{Commit, TEMPORARY, io, regular, remove_unfinished};

/// The name of the lock file.
const LOCK: &str = "LOCK";

/// How the line in a lock file begins: what tells it from the `LOCK` of another program.
const MARK: &str = "unlearn run directory, ";

/// What stands where a run directory is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Occupant {
    /// Nothing, or a folder without entries.
    Nothing,
    /// A run directory, at work or not.
    Run,
    /// Something else; the words say what.
    Other(String),
}

/// Says what stands at `path`, and changes nothing there.
///
/// A run directory has a `LOCK` that a [`RunDir`] wrote. Other programs have files of that name, so
/// the name alone says nothing; an empty one counts only where nothing stands beside it, as a kill
/// right after its making leaves it.
///
/// # Errors
/// [`TrainError::Io`].
pub fn occupant(path: &Path) -> Result<Occupant, TrainError> {
    let entries = match fs::read_dir(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Occupant::Nothing),
        other => other.map_err(io(path))?,
    };
    let (mut count, mut bound, mut others) = (0_usize, false, false);
    for entry in entries {
        let name = entry.map_err(io(path))?.file_name();
        count += 1;
        bound |= name == CONFIG;
        others |= name != LOCK && !name.to_string_lossy().starts_with(TEMPORARY);
    }
    if count == 0 {
        return Ok(Occupant::Nothing);
    }
    let other = |what: String| Ok(Occupant::Other(what));
    let lock = path.join(LOCK);
    match fs::symlink_metadata(&lock) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return other(format!("a folder with {count} entries that no run made"));
        }
        Err(e) => return Err(io(&lock)(e)),
        // Opening a pipe would wait for ever, and a link leads out of the folder.
        Ok(about) if !about.is_file() => return other("a folder whose LOCK is no regular file".into()),
        Ok(_) => {}
    }
    let mut line = Vec::new();
    File::open(&lock)
        .and_then(|file| file.take(MARK.len() as u64).read_to_end(&mut line))
        .map_err(io(&lock))?;
    match line.as_slice() {
        [] if count == 1 => Ok(Occupant::Run),
        [] => other(format!("a folder with an empty LOCK and {} other entries", count - 1)),
        line if line != MARK.as_bytes() => other("a folder whose LOCK no run wrote".into()),
        // The configuration comes before everything else.
        _ if others && !bound => other(format!("a folder with a LOCK but no {CONFIG}")),
        _ => Ok(Occupant::Run),
    }
}

/// Fails when a process is at work in the run directory `path`; changes nothing there.
///
/// # Errors
/// [`TrainError::Locked`].
pub fn check_free(path: &Path) -> Result<(), TrainError> {
    let lock = path.join(LOCK);
    // A pipe of that name would be waited for.
    if !fs::symlink_metadata(&lock).is_ok_and(|about| about.is_file()) {
        return Ok(());
    }
    let Ok(file) = File::open(lock) else { return Ok(()) };
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Err(held(path, &file)),
        _ => Ok(()),
    }
}

/// The refusal, with what the lock file says of its holder: a courtesy, because it may be being written
/// just now.
fn held(path: &Path, lock: &File) -> TrainError {
    let mut text = String::new();
    let _ = lock.take(200).read_to_string(&mut text);
    let line = text.lines().next().unwrap_or("unknown");
    let holder = line.strip_prefix(MARK).unwrap_or(line).to_owned();
    TrainError::Locked { path: path.to_owned(), holder }
}

/// A run directory that this process holds until the value is dropped.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// The lock lives as long as the open file; a killed process gives it back.
    _lock: File,
}

impl RunDir {
    /// Makes the directory when it is not there, takes its lock and clears what a killed process
    /// left unfinished in it.
    ///
    /// # Errors
    /// [`TrainError::Locked`] at once when another process is at work here, and
    /// [`TrainError::RunDirectory`] for a folder with entries that is no run's (see [`occupant`]), with
    /// nothing written or removed; [`TrainError::Io`].
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        if let Occupant::Other(got) = occupant(path)? {
            return Err(TrainError::RunDirectory {
                path: path.to_owned(),
                got,
                expected: "an empty folder, or that of a run".into(),
                mend: "choose another directory; nothing was touched".into(),
            });
        }
        fs::create_dir_all(path).map_err(io(path))?;
        let file = path.join(LOCK);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&file)
            .map_err(io(&file))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(path, &lock)),
            Err(TryLockError::Error(source)) => return Err(io(&file)(source)),
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
        let line = format!("{MARK}process {} since {since} s after 1970\n", std::process::id());
        // Written over the old line before the rest is cut off, so that the file is never empty again.
        lock.write_all(line.as_bytes())
            .and_then(|()| lock.set_len(line.len() as u64))
            // Before anything stands beside it: after a power cut an empty one would count as another program's.
            .and_then(|()| lock.sync_all())
            .map_err(io(&file))?;
        remove_unfinished(path)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Says what the run is: writes `identity` into `config.json` in a new directory, and compares
    /// it with what stands there in an old one.
    ///
    /// # Errors
    /// [`TrainError::OtherRun`] with every key that differs; [`TrainError::RunDirectory`] when the
    /// file is no JSON; [`TrainError::Io`].
    pub fn bind(&self, identity: &Value) -> Result<(), TrainError> {
        identity::bind(&self.path, identity)
    }

    /// The committed directory `name`; `None` when it is not there or, with a warning, damaged.
    pub fn committed(&self, name: &str) -> Option<Commit> {
        whole(&self.path.join(name))
    }

    /// Opens the log at its end.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn log(&self) -> Result<Log, TrainError> {
        Log::open(&self.path.join("log.jsonl"))
    }
}

/// A committed directory whose files all are as they were written; `None` when it is not there or,
/// with a warning, damaged.
pub(crate) fn whole(path: &Path) -> Option<Commit> {
    if !path.exists() {
        return None;
    }
    let commit = Commit::open(path).and_then(|commit| commit.verify().map(|()| commit));
    commit.inspect_err(|error| tracing::warn!(%error, "passed over")).ok()
}

/// A log with one JSON record a line. A last line that a kill cut short is dropped when it is
/// opened.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    fn open(path: &Path) -> Result<Self, TrainError> {
        match regular(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(path)(e)),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io(path))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(io(path))?;
        let whole = text.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1) as u64;
        file.set_len(whole).and_then(|()| file.seek(SeekFrom::Start(whole))).map_err(io(path))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends a record.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn append(&mut self, record: &Value) -> Result<(), TrainError> {
        let mut line = record.to_string();
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(io(&self.path))
    }
}

#[cfg(test)]
mod tests;
