//! What a run is: written once into its directory, compared ever after.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::TrainError;
use crate::commit::{io, write_whole};

/// The file that says what the run is.
pub(super) const CONFIG: &str = "config.json";

/// Compares what is known of a run already with what the run in the directory `path` is, before everything about it is
/// known: `known` has JSON pointers into the identity of [`RunDir::bind`](super::RunDir::bind) and their values. A
/// directory whose run has not said yet what it is, or that is not there, is like any. Nothing is changed there.
///
/// # Errors
/// As [`RunDir::bind`](super::RunDir::bind).
///
/// ```
/// use serde_json::json;
/// use unlearn_train::run_dir::{RunDir, check_identity};
///
/// let parent = tempfile::tempdir()?;
/// RunDir::open(parent.path())?.bind(&json!({"recipe": {"epochs": 3}, "data": "1f0c"}))?;
/// check_identity(parent.path(), &[("/recipe", json!({"epochs": 3}))])?;
/// assert!(check_identity(parent.path(), &[("/recipe", json!({"epochs": 4}))]).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn check_identity(path: &Path, known: &[(&str, Value)]) -> Result<(), TrainError> {
    let path = path.join(CONFIG);
    let Some(there) = read(&path)? else { return Ok(()) };
    let mut differences = Vec::new();
    for (pointer, asked) in known {
        let key = pointer.trim_start_matches('/').replace('/', ".");
        compare(&key, there.pointer(pointer).unwrap_or(&Value::Null), asked, &mut differences);
    }
    same(path, differences)
}

/// Writes `identity` into a directory that has none, or compares it with the one that is there.
pub(super) fn bind(directory: &Path, identity: &Value) -> Result<(), TrainError> {
    let path = directory.join(CONFIG);
    let Some(there) = read(&path)? else {
        let mut text = serde_json::to_vec_pretty(&canonical(identity)).map_err(|e| io(&path)(e.into()))?;
        text.push(b'\n');
        return write_whole(&path, &text);
    };
    let mut differences = Vec::new();
    compare("", &there, identity, &mut differences);
    same(path, differences)
}

fn same(path: PathBuf, differences: Vec<String>) -> Result<(), TrainError> {
    if differences.is_empty() { Ok(()) } else { Err(TrainError::OtherRun { path, differences }) }
}

/// What stands in the file at `path`; `None` when there is no such file.
fn read(path: &Path) -> Result<Option<Value>, TrainError> {
    let unusable = |got: String| TrainError::RunDirectory {
        path: path.to_owned(),
        got,
        expected: "the configuration of a run".into(),
        mend: "choose another directory, or delete this one and run again".into(),
    };
    match fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        // A pipe would be waited for.
        Ok(about) if !about.is_file() => return Err(unusable("no regular file".into())),
        other => other.map_err(io(path))?,
    };
    let text = fs::read(path).map_err(io(path))?;
    serde_json::from_slice(&text).map(Some).map_err(|error| unusable(error.to_string()))
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
    } else if let (Value::Array(a), Value::Array(b)) = (there, asked)
        && a.len() == b.len()
    {
        for (index, (there, asked)) in a.iter().zip(b).enumerate() {
            compare(&format!("{key}.{}", element(index, there, asked)), there, asked, differences);
        }
    } else if there != asked {
        let (there, asked) = shown(there, asked);
        differences.push(format!("{key} is {there} there, {asked} now"));
    }
}

/// What an element of a list is called: its label or name, where both have the same.
fn element(index: usize, there: &Value, asked: &Value) -> String {
    let same = |key: &str| {
        let (there, asked) = (there.get(key)?.as_str()?, asked.get(key)?.as_str()?);
        (there == asked).then_some(there)
    };
    same("label").or_else(|| same("name")).map_or_else(|| index.to_string(), str::to_owned)
}

/// Two values to be read in a message: of long ones, what stands around the first difference.
fn shown(there: &Value, asked: &Value) -> (String, String) {
    const LONGEST: usize = 80;
    const BEFORE: usize = 20;
    let (there, asked) = (there.to_string(), asked.to_string());
    let same = there.chars().zip(asked.chars()).take_while(|(a, b)| a == b).count();
    let excerpt = |text: String| {
        let length = text.chars().count();
        if length <= LONGEST {
            return text;
        }
        let from = same.saturating_sub(BEFORE).min(length - LONGEST);
        let middle: String = text.chars().skip(from).take(LONGEST).collect();
        let begins = if from > 0 { "…" } else { "" };
        let ends = if from + LONGEST < length { "…" } else { "" };
        format!("{begins}{middle}{ends}")
    };
    (excerpt(there), excerpt(asked))
}
