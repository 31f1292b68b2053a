//! A run directory: one run, one process at a time.
//!
//! ```text
//! run/
//!   LOCK          held while a process works here
//!   config.json   what the run is; another one is refused
//!   log.jsonl     append only, one record a line
//!   …             committed directories
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use crate::TrainError;
use crate::commit::{Commit, io, remove_unfinished, write_whole};

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
    /// [`TrainError::Locked`] at once when another process is at work here, with nothing written;
    /// [`TrainError::Io`].
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        fs::create_dir_all(path).map_err(io(path))?;
        let file = path.join("LOCK");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&file)
            .map_err(io(&file))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // What it says is a courtesy; it may be being written just now.
                let _ = lock.read_to_string(&mut holder);
                let holder = holder.lines().next().unwrap_or("unknown").to_owned();
                return Err(TrainError::Locked { path: path.to_owned(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(io(&file)(source)),
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "process {} since {since} s after 1970", std::process::id()))
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
        let path = self.path.join("config.json");
        let there = match fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let mut text =
                    serde_json::to_vec_pretty(&canonical(identity)).map_err(|e| io(&path)(e.into()))?;
                text.push(b'\n');
                return write_whole(&path, &text);
            }
            other => other.map_err(io(&path))?,
        };
        let there: Value = serde_json::from_slice(&there).map_err(|e| TrainError::RunDirectory {
            path: path.clone(),
            got: e.to_string(),
            expected: "the configuration of a run".into(),
            mend: "choose another directory, or delete this one and run again".into(),
        })?;
        let mut differences = Vec::new();
        compare("", &there, identity, &mut differences);
        if differences.is_empty() { Ok(()) } else { Err(TrainError::OtherRun { path, differences }) }
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

/// The same value with the keys of every object in order.
fn canonical(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<_> = map.keys().collect();
            keys.sort();
            Value::Object(keys.into_iter().map(|k| (k.clone(), canonical(&map[k]))).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.iter().map(canonical).collect()),
        other => other.clone(),
    }
}

/// Collects `key: there, asked for` of all leaves that differ.
fn compare(key: &str, there: &Value, asked: &Value, differences: &mut Vec<String>) {
    if let (Value::Object(a), Value::Object(b)) = (there, asked) {
        let mut keys: Vec<_> = a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))).collect();
        keys.sort();
        for k in keys {
            let inner = if key.is_empty() { k.clone() } else { format!("{key}.{k}") };
            let of = |map: &Map<String, Value>| map.get(k).cloned().unwrap_or(Value::Null);
            compare(&inner, &of(a), &of(b), differences);
        }
    } else if there != asked {
        differences.push(format!("{key} is {there} there, {asked} now"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_process_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("run");
        let first = RunDir::open(&path).unwrap();
        let error = RunDir::open(&path).unwrap_err();
        let TrainError::Locked { path: named, holder } = &error else { panic!("{error}") };
        assert_eq!(named, &path);
        assert!(holder.starts_with(&format!("process {} ", std::process::id())), "{holder}");
        drop(first);
        RunDir::open(&path).unwrap();
    }

    #[test]
    fn opening_clears_what_was_left_unfinished() {
        let parent = tempfile::tempdir().unwrap();
        fs::create_dir(parent.path().join(".tmp-abc")).unwrap();
        fs::write(parent.path().join("mine.txt"), "x").unwrap();
        let _held = RunDir::open(parent.path()).unwrap();
        assert!(!parent.path().join(".tmp-abc").exists());
        assert!(parent.path().join("mine.txt").exists());
    }

    #[test]
    fn another_configuration_is_refused_key_by_key() {
        let parent = tempfile::tempdir().unwrap();
        let run = RunDir::open(parent.path()).unwrap();
        let identity = json!({"fit": {"epochs": 3, "rate": 0.1}, "data": "abc", "old": 1});
        run.bind(&identity).unwrap();
        run.bind(&identity).unwrap();
        let text = fs::read_to_string(parent.path().join("config.json")).unwrap();
        assert!(text.find("\"data\"") < text.find("\"fit\""), "keys are in order: {text}");
        let other = json!({"fit": {"epochs": 4, "rate": 0.1}, "data": "abd", "new": true});
        let error = run.bind(&other).unwrap_err();
        let TrainError::OtherRun { differences, .. } = &error else { panic!("{error}") };
        assert_eq!(
            differences,
            &[
                "data is \"abc\" there, \"abd\" now",
                "fit.epochs is 3 there, 4 now",
                "new is null there, true now",
                "old is 1 there, null now",
            ]
        );
        fs::write(parent.path().join("config.json"), "{").unwrap();
        let error = run.bind(&identity).unwrap_err();
        assert!(matches!(error, TrainError::RunDirectory { .. }), "{error}");
    }

    #[test]
    fn a_cut_last_line_of_the_log_is_dropped() {
        let parent = tempfile::tempdir().unwrap();
        let run = RunDir::open(parent.path()).unwrap();
        run.log().unwrap().append(&json!({"a": 1})).unwrap();
        let path = parent.path().join("log.jsonl");
        for cut in ["{\"b\"", "\u{fffd}", ""] {
            let mut file = OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(cut.as_bytes()).unwrap();
            run.log().unwrap().append(&json!({"c": 2})).unwrap();
        }
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"a\":1}\n{\"c\":2}\n{\"c\":2}\n{\"c\":2}\n");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        fs::write(&file, "x").unwrap();
        for path in [file.clone(), file.join("run")] {
            let error = RunDir::open(&path).unwrap_err();
            let TrainError::Io { path: named, .. } = &error else { panic!("{error}") };
            assert!(named.starts_with(&file), "{error}");
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "x");
    }
}
