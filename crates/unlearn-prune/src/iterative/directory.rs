//! The folder of an iterative run: whose it is, and the masks in it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use unlearn_train::CheckpointConfig;

use super::IterativeConfig;
use crate::mask_file::write_whole;
use crate::{MaskSet, PruneError};

/// Writes the mask of a round, or checks that a resumed run has come to the same one.
pub(super) fn keep_mask(path: &Path, mask: &MaskSet) -> Result<(), PruneError> {
    if !path.exists() {
        return mask.save(path);
    }
    let stored = MaskSet::load(path)?;
    if stored == *mask {
        return Ok(());
    }
    Err(other_run(path.to_owned(), stored.fingerprint(), mask.fingerprint()))
}

/// Makes the directory this run's own, or checks that it is.
pub(super) fn claim(directory: &Path, config: &IterativeConfig) -> Result<(), PruneError> {
    let path = directory.join("iterative.json");
    let io = |reason: String| PruneError::Io { path: path.clone(), reason };
    let mut config = config.clone();
    // How often a run saves changes no result.
    config.fit.checkpoint = CheckpointConfig::default();
    if let Some(fit) = &mut config.retrain {
        fit.checkpoint = CheckpointConfig::default();
    }
    let wanted = serde_json::to_value(&config).map_err(|e| io(e.to_string()))?;
    // A pipe in its place would be waited for.
    if std::fs::metadata(&path).is_ok_and(|about| !about.is_file()) {
        return Err(other_run(path, "no regular file".into(), "the settings of a run".into()));
    }
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let stored: Value = serde_json::from_str(&text)
                .map_err(|e| other_run(path.clone(), e.to_string(), "the settings of a run".into()))?;
            let mut differ = Vec::new();
            differences("", &stored, &wanted, &mut differ);
            match differ.first() {
                None => Ok(()),
                Some((field, got, expected)) => {
                    Err(other_run(path, format!("{field} = {got}"), format!("{expected}, as asked for now")))
                }
            }
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {
            std::fs::create_dir_all(directory).map_err(|e| io(e.to_string()))?;
            let text = serde_json::to_string_pretty(&wanted).map_err(|e| io(e.to_string()))?;
            write_whole(&path, text.as_bytes())
        }
        Err(e) => Err(io(e.to_string())),
    }
}

/// The fields at which two settings differ.
fn differences<'a>(at: &str, a: &'a Value, b: &'a Value, found: &mut Vec<(String, &'a Value, &'a Value)>) {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            for key in x.keys().chain(y.keys().filter(|key| !x.contains_key(*key))) {
                let of = |map: &'a Map<String, Value>| map.get(key).unwrap_or(&Value::Null);
                let dot = if at.is_empty() { "" } else { "." };
                differences(&format!("{at}{dot}{key}"), of(x), of(y), found);
            }
        }
        _ if a == b => {}
        _ => found.push((at.to_owned(), a, b)),
    }
}

fn other_run(path: PathBuf, got: String, expected: String) -> PruneError {
    PruneError::OtherRun {
        path,
        got,
        expected,
        mend: "The directory belongs to another run: choose another one, or the settings it was begun with"
            .into(),
    }
}
