//! What has arrived of a file: it grows under another name until it is whole.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::Known;
use crate::error::{Exit, Failure};

/// The file that grows. It is locked, so that two downloads never write into one another.
pub(super) struct Part {
    path: PathBuf,
    file: File,
}

impl Part {
    pub(super) fn open(whole: &Path) -> Result<Self, Failure> {
        let mut name = whole.as_os_str().to_owned();
        name.push(".part");
        let path = PathBuf::from(name);
        // Not `append`: that cannot be truncated on every system.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| Failure::io(&path, &e))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path, file }),
            Err(TryLockError::WouldBlock) => Err(Failure::new(
                "E_LOCKED",
                Exit::Environment,
                path.display().to_string(),
                "a file that another download is writing",
                "a file of our own",
                "wait for the other download, or choose another folder with --out",
            )),
            Err(TryLockError::Error(e)) => Err(Failure::io(&path, &e)),
        }
    }

    fn io(&self, error: &io::Error) -> Failure {
        Failure::io(&self.path, error)
    }

    pub(super) fn len(&self) -> Result<u64, Failure> {
        Ok(self.file.metadata().map_err(|e| self.io(&e))?.len())
    }

    pub(super) fn clear(&self) -> Result<(), Failure> {
        self.file.set_len(0).map_err(|e| self.io(&e))
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.file.seek(SeekFrom::End(0)).and_then(|_| self.file.write_all(bytes));
        written.map_err(|e| self.io(&e))
    }

    /// What `known` says of the right file, of what has arrived.
    pub(super) fn digest(&mut self, known: Known<'_>) -> Result<String, Failure> {
        let hashed = self.file.seek(SeekFrom::Start(0)).and_then(|_| known.of(&mut self.file, u64::MAX));
        hashed.map_err(|e| self.io(&e))
    }

    pub(super) fn remove(&self) -> Result<(), Failure> {
        std::fs::remove_file(&self.path).map_err(|e| self.io(&e))
    }

    /// On disk first, then under its name.
    pub(super) fn become_whole(self, name: &Path) -> Result<(), Failure> {
        self.file.sync_all().map_err(|e| self.io(&e))?;
        std::fs::rename(&self.path, name).map_err(|e| Failure::io(name, &e))?;
        #[cfg(unix)]
        if let Some(folder) = name.parent() {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            File::open(folder).and_then(|f| f.sync_all()).map_err(|e| Failure::io(folder, &e))?;
        }
        Ok(())
    }
}
