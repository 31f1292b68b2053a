//! What was fetched of a commit: length and SHA-256 of every file, so that each later use sees a change.
//!
//! It stands beside the snapshots, where Python's libraries do not look, and goes with the model when they delete it:
//! `CACHE/models--ORG--NAME/unlearn/COMMIT.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use unlearn::train::commit::{FileDigest, write_whole};

use super::info::READ;
use crate::download::sha256;
use crate::error::{Exit, Failure};
use crate::regular;

const FORMAT: u32 = 1;
/// Far above what a record of a handful of files takes.
const LARGEST: u64 = 1 << 20;

/// The files of a commit that are read; written when all of them are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    format: u32,
    files: BTreeMap<String, FileDigest>,
}

impl Record {
    /// Of these files in `folder`.
    pub(super) fn of(folder: &Path, names: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let digest = |name: String| {
            let path = folder.join(&name);
            digest(&path).map(|digest| (name, digest)).map_err(|error| Failure::io(&path, &error))
        };
        Ok(Self { format: FORMAT, files: names.map(digest).collect::<Result<_, _>>()? })
    }

    /// `None` where there is none, and where it is damaged: the files are then compared with what the hub says.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let text = regular::read(path, LARGEST).ok()?;
        let record = serde_json::from_slice::<Self>(&text).ok();
        // A name leads into the snapshot and nowhere else.
        let sound = |record: &Self| {
            record.format == FORMAT && record.files.keys().all(|name| READ.contains(&name.as_str()))
        };
        let record = record.filter(sound);
        if record.is_none() {
            tracing::warn!(file = %path.display(), "damaged or of another version; passed over");
        }
        record
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), Failure> {
        let io = |error: std::io::Error| Failure::io(path, &error);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(io)?;
        }
        let text = serde_json::to_vec_pretty(self).map_err(|error| io(error.into()))?;
        Ok(write_whole(path, &text)?)
    }

    /// SHA-256 of a file when it was fetched.
    pub(super) fn sha256(&self, name: &str) -> Option<&str> {
        self.files.get(name).map(|digest| digest.sha256.as_str())
    }

    /// The first file that is not in `folder`; an error when one is not what it was.
    pub(super) fn missing(&self, folder: &Path) -> Result<Option<PathBuf>, Failure> {
        for (name, known) in &self.files {
            let path = folder.join(name);
            match digest(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Some(path)),
                Err(error) => return Err(Failure::io(&path, &error)),
                Ok(there) if there == *known => {}
                Ok(there) => return Err(changed(&path, &there, known)),
            }
        }
        Ok(None)
    }
}

fn digest(path: &Path) -> std::io::Result<FileDigest> {
    let mut file = regular::open(path)?;
    let length = file.metadata()?.len();
    Ok(FileDigest { length, sha256: sha256(&mut file, length)? })
}

fn changed(path: &Path, there: &FileDigest, known: &FileDigest) -> Failure {
    Failure::new(
        "E_CHECKSUM",
        Exit::Data,
        path.display().to_string(),
        format!("{} bytes with SHA-256 {}", there.length, there.sha256),
        format!("{} bytes with SHA-256 {}, as they were fetched", known.length, known.sha256),
        "delete the file and run the command again; to use a changed model, copy its folder and name the copy",
    )
}
