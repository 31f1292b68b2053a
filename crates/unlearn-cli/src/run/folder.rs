//! The output folder of a run: one process at a time, stages that are whole or absent.
//!
//! ```text
//! out/
//!   LOCK  config.json            held while a process works here · what the run is
//!   recipe.toml                  the resolved recipe, for people
//!   base/                        COMMIT.json  model.safetensors  stage.json  [rewind-K.safetensors]
//!   NETWORK/METHOD/              COMMIT.json  model.safetensors  [mask.safetensors]  stage.json
//!   NETWORK/METHOD.evaluation/   COMMIT.json  evaluation.json
//!   work/…                       checkpoints of the stage under way
//!   results.json  results.csv  results.md
//! ```

use std::fs::{self, File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;
use unlearn::train::TrainError;
use unlearn::train::commit::{self, Commit, Pending};
use unlearn::train::run_dir::RunDir;

use crate::error::{Exit, Failure};

/// What of a command line says where a run lives.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The output folder.
    pub(crate) out: PathBuf,
    /// Whether to go on with the run that is there.
    pub(crate) resume: bool,
}

impl Place {
    /// Refuses a folder that cannot take this run. Nothing is written, so that it can be asked
    /// before the data are read.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let path = &self.out;
        let about = match fs::metadata(path) {
            Ok(about) => about,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return check_parent(path),
            Err(error) => return Err(unusable(path, error.to_string(), "a folder, or a name that is free")),
        };
        if !about.is_dir() {
            return Err(unusable(path, "a file".into(), "a folder, or a name that is free"));
        }
        let entries = fs::read_dir(path).map_err(|e| unusable(path, e.to_string(), "a folder"))?.count();
        if entries == 0 {
            return check_writable(path);
        }
        self.check_lock()?;
        let ours = path.join("LOCK").exists();
        if !self.resume {
            let mend = if ours { "add --resume to go on with it, or choose" } else { "choose" };
            return Err(Failure::new(
                "E_OUTDIR",
                Exit::Environment,
                path.display().to_string(),
                format!("a folder with {entries} entries"),
                "an empty folder, or a name that is free",
                format!("{mend} another folder with --out"),
            ));
        }
        if !ours {
            return Err(unusable(
                path,
                "a folder that no run made".into(),
                "the folder of a run (with a LOCK)",
            ));
        }
        check_writable(path)
    }

    fn check_lock(&self) -> Result<(), Failure> {
        let Ok(mut lock) = File::open(self.out.join("LOCK")) else { return Ok(()) };
        let Err(TryLockError::WouldBlock) = lock.try_lock_shared() else { return Ok(()) };
        let mut holder = String::new();
        // A courtesy for the message; it may be being written just now.
        let _ = lock.by_ref().take(200).read_to_string(&mut holder);
        let holder = holder.lines().next().unwrap_or("unknown").to_owned();
        Err(TrainError::Locked { path: self.out.clone(), holder }.into())
    }
}

fn unusable(path: &Path, got: String, expected: &str) -> Failure {
    Failure::new(
        "E_OUTDIR",
        Exit::Environment,
        path.display().to_string(),
        got,
        expected,
        "choose another folder with --out",
    )
}

/// The nearest ancestor that exists must be a folder that takes new entries.
fn check_parent(path: &Path) -> Result<(), Failure> {
    let here = PathBuf::from(".");
    let ancestor = path.ancestors().skip(1).find(|a| a.exists()).filter(|a| !a.as_os_str().is_empty());
    let ancestor = ancestor.unwrap_or(&here);
    if !ancestor.is_dir() {
        return Err(unusable(
            path,
            format!("a path through the file {}", ancestor.display()),
            "a path of folders",
        ));
    }
    check_writable(ancestor)
}

/// Tries, because permissions alone do not say (read-only mounts, quotas, root).
fn check_writable(folder: &Path) -> Result<(), Failure> {
    tempfile::Builder::new()
        .prefix(".tmp-")
        .tempfile_in(folder)
        .map(drop)
        .map_err(|error| unusable(folder, error.to_string(), "a folder that takes new files"))
}

/// The folder, held by this process.
#[derive(Debug)]
pub(crate) struct Folder {
    run: RunDir,
}

impl Folder {
    /// Takes the folder; [`Place::check`] comes first.
    pub(crate) fn open(place: &Place, identity: &Value) -> Result<Self, Failure> {
        place.check()?;
        let run = RunDir::open(&place.out).map_err(|error| match error {
            TrainError::Io { path, source } => {
                unusable(&path, source.to_string(), "a folder that takes new files")
            }
            other => other.into(),
        })?;
        run.bind(identity)?;
        Ok(Self { run })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.run.path()
    }

    /// The committed stage `name`, every byte of it checked.
    pub(crate) fn committed(&self, name: &str) -> Option<Commit> {
        self.run.committed(name)
    }

    /// Where the stage `name` keeps its checkpoints until it is done.
    pub(crate) fn work(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.path().join("work").join(name);
        fs::create_dir_all(&path).map_err(|error| Failure::io(&path, &error))?;
        Ok(path)
    }

    /// Makes the stage `name` of `files`, whole or not at all.
    pub(crate) fn commit(&self, name: &str, files: &[(String, Vec<u8>)]) -> Result<Commit, Failure> {
        let target = self.path().join(name);
        let (Some(parent), Some(last)) = (target.parent(), target.file_name().and_then(|n| n.to_str()))
        else {
            return Err(unusable(&target, "no name".into(), "the name of a stage"));
        };
        commit::remove_unfinished(parent)?;
        let mut pending = Pending::new(parent)?;
        for (name, content) in files {
            pending.write(name, content)?;
        }
        let commit = pending.commit(last)?;
        tracing::info!(stage = name, "done");
        Ok(commit)
    }

    /// Removes the checkpoints of the stage `name`.
    pub(crate) fn clear(&self, name: &str) -> Result<(), Failure> {
        Ok(commit::remove(&self.path().join("work").join(name))?)
    }

    /// Removes the checkpoints of all stages.
    pub(crate) fn clear_all(&self) -> Result<(), Failure> {
        Ok(commit::remove(&self.path().join("work"))?)
    }

    /// Writes a file of the run, whole or not at all.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        Ok(commit::write_whole(&self.path().join(name), text.as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn place(out: &Path, resume: bool) -> Place {
        Place { out: out.to_owned(), resume }
    }

    #[test]
    fn a_used_folder_needs_resume_and_the_same_run() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("a/b");
        let folder = Folder::open(&place(&out, false), &json!({"epochs": 1})).unwrap();
        folder.commit("dense/x", &[("a".into(), b"1".to_vec())]).unwrap();
        let locked = place(&out, true).check().unwrap_err();
        assert_eq!(locked.code, "E_LOCKED");
        drop(folder);
        assert_eq!(place(&out, false).check().unwrap_err().code, "E_OUTDIR");
        let other = Folder::open(&place(&out, true), &json!({"epochs": 2})).unwrap_err();
        assert_eq!(other.code, "E_RESUME_CONFIG");
        let folder = Folder::open(&place(&out, true), &json!({"epochs": 1})).unwrap();
        assert_eq!(folder.committed("dense/x").unwrap().read("a").unwrap(), b"1");
        assert!(folder.committed("dense/y").is_none());
    }

    #[test]
    fn files_and_foreign_folders_are_refused_untouched() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "x").unwrap();
        for out in [file.clone(), file.join("below")] {
            assert_eq!(place(&out, true).check().unwrap_err().code, "E_OUTDIR", "{}", out.display());
        }
        for resume in [false, true] {
            assert_eq!(place(root.path(), resume).check().unwrap_err().code, "E_OUTDIR");
        }
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(&file).unwrap(), "x");
    }
}
