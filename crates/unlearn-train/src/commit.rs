//! Directories that are there whole or not at all.
//!
//! ```text
//! .unlearn-tmp-<random>/   file, fsync · file, fsync · COMMIT.json, fsync · folder, fsync
//!        └─ rename ─► name/ ─► fsync of the parent ─► read back and compared
//! ```
//!
//! `COMMIT.json` holds the length and SHA-256 of every file and is written last. Under its name a
//! directory is whole at any moment or not there. Where one is replaced (a damaged one that is made
//! anew) the old one goes first, so that a kill in between leaves neither, and it is made once more;
//! what a kill leaves beside it is an `.unlearn-tmp-` folder at most. Nothing is replaced that holds
//! a file which no commit wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::TrainError;

/// The file that makes a directory whole.
pub const COMMIT: &str = "COMMIT.json";

/// How the names of unfinished directories begin.
pub(crate) const TEMPORARY: &str = ".unlearn-tmp-";

/// What is known of a committed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileDigest {
    /// Its length in bytes.
    pub length: u64,
    /// SHA-256 of its content, in hex.
    pub sha256: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    files: BTreeMap<String, FileDigest>,
}

const FORMAT: u32 = 1;

/// A directory being written. Dropped before [`commit`](Self::commit), it takes its files along.
#[derive(Debug)]
pub struct Pending {
    parent: PathBuf,
    temporary: tempfile::TempDir,
    files: BTreeMap<String, FileDigest>,
}

impl Pending {
    /// Begins a directory that will stand in `parent`, which is made when it is not there.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn new(parent: &Path) -> Result<Self, TrainError> {
        fs::create_dir_all(parent).map_err(io(parent))?;
        let temporary = temporary(0o777).tempdir_in(parent).map_err(io(parent))?;
        Ok(Self { parent: parent.to_owned(), temporary, files: BTreeMap::new() })
    }

    /// Writes a file and waits until the disk has it. A name may lead through folders inside: `adapter/a.json`.
    ///
    /// # Errors
    /// [`TrainError::Io`], also for a name that was written before; [`TrainError::RunDirectory`] for one that would
    /// lead elsewhere (`../a`, `/a`, `a//b`).
    pub fn write(&mut self, name: &str, content: &[u8]) -> Result<(), TrainError> {
        let path = self.temporary.path().join(name);
        if !stays_inside(name) {
            return Err(TrainError::RunDirectory {
                path,
                got: format!("the file name {name:?}"),
                expected: "plain names with / between them".into(),
                mend: "name the file by a path inside the folder".into(),
            });
        }
        for folder in folders(name) {
            let folder = self.temporary.path().join(folder);
            fs::create_dir_all(&folder).map_err(io(&folder))?;
        }
        write_new(&path, content)?;
        let digest = FileDigest { length: content.len() as u64, sha256: sha256(content) };
        self.files.insert(name.to_owned(), digest);
        Ok(())
    }

    /// Puts the directory in place as `name`, instead of an older one that may stand there, and reads
    /// it back.
    ///
    /// # Errors
    /// [`TrainError::Io`]; [`TrainError::RunDirectory`] when something stands there that was not
    /// committed (it is left as it is), or when the disk gives back something else than was written.
    pub fn commit(self, name: &str) -> Result<Commit, TrainError> {
        let Self { parent, temporary, files } = self;
        let manifest = Manifest { format: FORMAT, files };
        let path = temporary.path();
        let text = serde_json::to_vec_pretty(&manifest).map_err(|e| io(path)(e.into()))?;
        write_new(&path.join(COMMIT), &text)?;
        let inside: BTreeSet<&str> = manifest.files.keys().flat_map(|name| folders(name)).collect();
        for folder in inside {
            sync_directory(&path.join(folder))?;
        }
        sync_directory(path)?;
        let target = parent.join(name);
        check_replaceable(&target, &manifest)?;
        remove(&target)?;
        fs::rename(path, &target).map_err(io(&target))?;
        // Nothing is left under the temporary name to be removed.
        let _ = temporary.keep();
        sync_directory(&parent)?;
        let commit = Commit::open(&target)?;
        commit.verify()?;
        Ok(commit)
    }
}

/// A directory that was committed.
#[derive(Debug, Clone)]
pub struct Commit {
    path: PathBuf,
    manifest: Manifest,
}

impl Commit {
    /// Opens a committed directory. Its files are checked when they are [read](Self::read).
    ///
    /// # Errors
    /// [`TrainError::RunDirectory`] when `COMMIT.json` is missing or no manifest,
    /// [`TrainError::Io`].
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        let file = path.join(COMMIT);
        let damaged = |got: String| TrainError::RunDirectory {
            path: file.clone(),
            got,
            expected: "the manifest that is written last".into(),
            mend: "the folder was cut short or altered: delete it and run again".into(),
        };
        let text = match regular(&file).and_then(|()| fs::read(&file)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(damaged("missing".into())),
            other => other.map_err(io(&file))?,
        };
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        if manifest.format != FORMAT {
            return Err(damaged(format!("format {}", manifest.format)));
        }
        if let Some(name) = manifest.files.keys().find(|name| !stays_inside(name)) {
            return Err(damaged(format!("the file name {name:?}")));
        }
        Ok(Self { path: path.to_owned(), manifest })
    }

    /// Where it stands.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files and what is known of them.
    pub fn files(&self) -> &BTreeMap<String, FileDigest> {
        &self.manifest.files
    }

    /// One SHA-256 for the whole content.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (name, file) in &self.manifest.files {
            hash.update(format!("{name}\n{}\n{}\n", file.length, file.sha256));
        }
        hex(&hash.finalize())
    }

    /// The content of a file, compared with the manifest.
    ///
    /// # Errors
    /// [`TrainError::RunDirectory`] when the file is not in the manifest, or does not have the
    /// length or hash that stand there; [`TrainError::Io`].
    pub fn read(&self, name: &str) -> Result<Vec<u8>, TrainError> {
        let path = self.path.join(name);
        let fault = |got: String, expected: String| TrainError::RunDirectory {
            path: path.clone(),
            got,
            expected,
            mend: "the file was cut short or altered: delete its folder and run again".into(),
        };
        let Some(known) = self.manifest.files.get(name) else {
            return Err(fault(format!("not in {COMMIT}"), "an entry there".into()));
        };
        let mut file = match regular(&path).and_then(|()| File::open(&path)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(fault("missing".into(), format!("{} bytes", known.length)));
            }
            other => other.map_err(io(&path))?,
        };
        // The length comes first, so that an altered file is never read whole.
        let length = file.metadata().map_err(io(&path))?.len();
        if length != known.length {
            return Err(fault(format!("{length} bytes"), format!("{} bytes", known.length)));
        }
        let mut content = Vec::new();
        // A length is only a number, of a sparse file too.
        content
            .try_reserve_exact(length as usize)
            .map_err(|_| fault(format!("{length} bytes"), "what fits into memory".into()))?;
        file.read_to_end(&mut content).map_err(io(&path))?;
        let hash = sha256(&content);
        if hash != known.sha256 {
            return Err(fault(format!("SHA-256 {hash}"), format!("SHA-256 {}", known.sha256)));
        }
        Ok(content)
    }

    /// Reads every file.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn verify(&self) -> Result<(), TrainError> {
        self.manifest.files.keys().try_for_each(|name| self.read(name).map(drop))
    }
}

/// Removes a directory so that a kill leaves it whole or unfinished, never half and under its name.
///
/// # Errors
/// [`TrainError::Io`]; that it was not there is no error.
pub fn remove(path: &Path) -> Result<(), TrainError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let aside = parent.join(format!("{TEMPORARY}old-{}", name.to_string_lossy()));
    for old in [&aside, path] {
        match fs::symlink_metadata(old) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.map_err(io(old))?,
        };
        if old == path {
            fs::rename(path, &aside).map_err(io(path))?;
        }
        remove_entry(&aside)?;
    }
    Ok(())
}

/// Removes the unfinished directories that a kill left in `parent`.
///
/// # Errors
/// [`TrainError::Io`]; that `parent` is not there is no error.
pub fn remove_unfinished(parent: &Path) -> Result<(), TrainError> {
    let entries = match fs::read_dir(parent) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(io(parent))?,
    };
    for entry in entries {
        let entry = entry.map_err(io(parent))?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            remove_entry(&entry.path())?;
        }
    }
    Ok(())
}

/// The folders that lead to a file inside, outermost first: `a` and `a/b` for `a/b/c`.
fn folders(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('/').map(|(at, _)| &name[..at])
}

/// Whether every part of `name` is a plain name, so that it cannot lead elsewhere.
fn stays_inside(name: &str) -> bool {
    let plain = |part: &str| Path::new(part).file_name().is_some_and(|n| n == part);
    name.split('/').all(plain)
}

/// What stands at `target` may only go when a commit wrote it: all its entries are files of its own
/// manifest or, where that is damaged or gone, of the one that comes instead, and the folders that lead to them.
fn check_replaceable(target: &Path, new: &Manifest) -> Result<(), TrainError> {
    let refuse = |path: &Path, got: String| TrainError::RunDirectory {
        path: path.to_owned(),
        got,
        expected: "what an earlier commit wrote, or nothing".into(),
        mend: "move it elsewhere and run again; it was not touched".into(),
    };
    match fs::symlink_metadata(target) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io(target)(e)),
        Ok(about) if !about.is_dir() => return Err(refuse(target, "no folder".into())),
        Ok(_) => {}
    }
    let old = Commit::open(target).ok();
    let known: BTreeSet<&str> = old
        .iter()
        .flat_map(|commit| commit.manifest.files.keys())
        .chain(new.files.keys())
        .map(String::as_str)
        .chain([COMMIT])
        .collect();
    let inside: BTreeSet<&str> = known.iter().flat_map(|name| folders(name)).collect();
    let mut todo = vec![String::new()];
    while let Some(prefix) = todo.pop() {
        let folder = target.join(&prefix);
        for entry in fs::read_dir(&folder).map_err(io(&folder))? {
            let entry = entry.map_err(io(&folder))?;
            let kind = entry.file_type().map_err(io(&folder))?;
            let name = entry.file_name().to_str().map(|name| format!("{prefix}{name}"));
            match name {
                Some(name) if kind.is_file() && known.contains(name.as_str()) => {}
                Some(name) if kind.is_dir() && inside.contains(name.as_str()) => todo.push(name + "/"),
                _ => return Err(refuse(&entry.path(), "something that no commit wrote".into())),
            }
        }
    }
    Ok(())
}

/// A builder of unfinished files and folders. They get the rights that the umask leaves of `mode`,
/// as everything else that a program makes, and not those of a private scratch file.
fn temporary(mode: u32) -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    builder
}

fn remove_entry(path: &Path) -> Result<(), TrainError> {
    let folder = fs::symlink_metadata(path).map_err(io(path))?.is_dir();
    if folder { fs::remove_dir_all(path) } else { fs::remove_file(path) }.map_err(io(path))
}

/// Writes a small file whole: aside, fsync, rename, fsync of the folder.
///
/// # Errors
/// [`TrainError::Io`].
pub fn write_whole(path: &Path, content: &[u8]) -> Result<(), TrainError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = temporary(0o666).tempfile_in(parent).map_err(io(path))?;
    file.write_all(content).and_then(|()| file.as_file().sync_all()).map_err(io(path))?;
    file.persist(path).map_err(|e| io(path)(e.error))?;
    sync_directory(parent)
}

fn write_new(path: &Path, content: &[u8]) -> Result<(), TrainError> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(io(path))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(io(path))
}

/// Makes the names in a folder durable. Only Unix opens folders as files.
fn sync_directory(path: &Path) -> Result<(), TrainError> {
    if cfg!(unix) {
        File::open(path).and_then(|folder| folder.sync_all()).map_err(io(path))?;
    }
    Ok(())
}

/// Names the path in an error of the operating system.
pub(crate) fn io(path: &Path) -> impl Fn(std::io::Error) -> TrainError + use<> {
    let path = path.to_owned();
    move |source| TrainError::Io { path: path.clone(), source }
}

/// Refuses what is no regular file: a pipe in its place would be waited for.
pub(crate) fn regular(path: &Path) -> std::io::Result<()> {
    if fs::metadata(path)?.is_file() {
        return Ok(());
    }
    Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file"))
}

/// SHA-256 of `content`, in hex.
pub(crate) fn sha256(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
