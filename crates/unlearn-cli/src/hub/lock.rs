//! One process at a time fetches a commit; whoever comes second waits, and finds it there.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Exit, Failure};

/// How often a waiting process looks.
const STEP: Duration = Duration::from_millis(50);

/// Held until it is dropped; a killed process gives it back. The file stays, because one that is removed and made anew
/// could be held by two.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock at `path`. While another process holds it and the files in `folder` grow, it is waited for;
    /// `patience` is how long nothing may arrive there.
    pub(super) fn take(path: &Path, folder: &Path, patience: Duration) -> Result<Self, Failure> {
        let io = |error: std::io::Error| Failure::io(path, &error);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(io)?;
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(io)?;
        let (mut arrived, mut since, mut told) = (bytes(folder), Instant::now(), false);
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::Error(error)) => return Err(io(error)),
                Err(TryLockError::WouldBlock) => {}
            }
            if !told {
                told = true;
                tracing::warn!("another process fetches the same model; waiting for it");
            }
            let now = bytes(folder);
            if now != arrived {
                (arrived, since) = (now, Instant::now());
            } else if since.elapsed() > patience {
                return Err(stuck(path, patience));
            }
            std::thread::sleep(STEP);
        }
    }
}

fn stuck(path: &Path, patience: Duration) -> Failure {
    Failure::new(
        "E_LOCKED",
        Exit::Environment,
        path.display().to_string(),
        format!(
            "another process that fetches this model, and no byte of it for {:.0} s",
            patience.as_secs_f64()
        ),
        "the model, or its turn",
        "end the other process and run the command again: it goes on where that one was",
    )
}

/// What has arrived, unfinished files too.
fn bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|about| about.len()).sum()
}
