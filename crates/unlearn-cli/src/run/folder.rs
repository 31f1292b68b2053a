//! The output folder of a run: one process at a time, stages that are whole or absent.
//!
//! ```text
//! out/
//!   LOCK  config.json            held while a process works here · what the run is
//!   recipe.toml                  the resolved recipe, for people
//!   base/                        COMMIT.json  model.safetensors  stage.json  [rewind-K.safetensors]
//!   NETWORK/METHOD/              COMMIT.json  model.safetensors  [mask.safetensors]  [adapter/]  stage.json
//!   NETWORK/METHOD.evaluation/   COMMIT.json  evaluation.json
//!   work/…                       checkpoints of the stage under way
//!   results.json  results.csv  results.md
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use unlearn::train::TrainError;
use unlearn::train::commit::{self, Commit, Pending};
use unlearn::train::run_dir::{Occupant, RunDir, check_free, check_identity, occupant};

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
        check_free(path)?;
        let there = occupant(path)?;
        if !self.resume {
            let ours = there == Occupant::Run;
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
        match there {
            Occupant::Other(got) => Err(unusable(path, got, "the folder of a run")),
            Occupant::Nothing | Occupant::Run => check_writable(path),
        }
    }

    /// Refuses a folder whose run is another one as far as `known` tells (see [`check_identity`]), which takes no time
    /// beside reading the data.
    pub(crate) fn check_run(&self, known: &[(&str, Value)]) -> Result<(), Failure> {
        Ok(check_identity(&self.out, known)?)
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
pub(crate) fn check_parent(path: &Path) -> Result<(), Failure> {
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
    // Without a name, so that a kill leaves nothing behind.
    tempfile::tempfile_in(folder)
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

    /// The committed stage `name`, every byte of it checked; `None` when it is not there or, with a
    /// warning, damaged.
    ///
    /// What no run made is refused here already, and not after the hours of training that its place is
    /// wanted for.
    pub(crate) fn committed(&self, name: &str) -> Result<Option<Commit>, Failure> {
        let path = self.path().join(name);
        if let Some(parent) = path.parent().filter(|parent| parent.exists() && !parent.is_dir()) {
            return Err(unusable(parent, "a file".into(), "a folder of this run, or nothing"));
        }
        let there = fs::symlink_metadata(&path).is_ok();
        if there && !fs::symlink_metadata(path.join(commit::COMMIT)).is_ok_and(|about| about.is_file()) {
            return Err(Failure::new(
                "E_OUTDIR",
                Exit::Environment,
                path.display().to_string(),
                format!("something without {}, which no run made", commit::COMMIT),
                "a stage of this run, or nothing",
                "move it elsewhere, then run again with --resume; it was not touched",
            ));
        }
        Ok(self.run.committed(name))
    }

    /// Fails where something that is no file has the name of one that is to be written at the end.
    pub(crate) fn check_files(&self, names: &[&str]) -> Result<(), Failure> {
        let paths = names.iter().map(|name| self.path().join(name));
        match paths.into_iter().find(|path| path.symlink_metadata().is_ok_and(|about| !about.is_file())) {
            Some(path) => Err(unusable(&path, "no file".into(), "a file of this run, or nothing")),
            None => Ok(()),
        }
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

    /// Removes the folders of stages that are all cleared. What is not ours in them stays.
    pub(crate) fn clear_all(&self) -> Result<(), Failure> {
        let work = self.path().join("work");
        let entries = match fs::read_dir(&work) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|error| Failure::io(&work, &error))?,
        };
        commit::remove_unfinished(&work)?;
        for entry in entries.flatten() {
            commit::remove_unfinished(&entry.path()).ok();
            // Fails for a file and for a folder that is not empty, as it should.
            fs::remove_dir(entry.path()).ok();
        }
        if let Err(error) = fs::remove_dir(&work) {
            tracing::warn!(folder = %work.display(), %error, "holds what is not of this run; it stays");
        }
        Ok(())
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
        assert_eq!(folder.committed("dense/x").unwrap().unwrap().read("a").unwrap(), b"1");
        assert!(folder.committed("dense/y").unwrap().is_none());
    }

    #[test]
    fn what_no_run_made_stays_in_the_folder_of_a_run() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(&place(&root.path().join("run"), false), &json!(1)).unwrap();
        let mine = |name: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "mine").unwrap();
            path
        };
        let kept = [mine("base/notes.txt"), mine("work/notes.txt"), mine("work/dense/notes.txt")];
        let refused = folder.committed("base").unwrap_err();
        assert_eq!((refused.code, refused.exit), ("E_OUTDIR", Exit::Environment));
        assert_eq!(folder.commit("base", &[("a".into(), b"1".to_vec())]).unwrap_err().code, "E_OUTDIR");
        folder.work("dense/x").unwrap();
        folder.clear("dense/x").unwrap();
        folder.clear_all().unwrap();
        for path in kept {
            assert_eq!(fs::read_to_string(&path).unwrap(), "mine", "{}", path.display());
        }
        fs::remove_dir_all(folder.path().join("work")).unwrap();
        folder.work("dense/x").unwrap();
        folder.clear("dense/x").unwrap();
        folder.clear_all().unwrap();
        assert!(!folder.path().join("work").exists());
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
