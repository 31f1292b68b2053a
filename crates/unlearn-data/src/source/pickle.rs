//! Batches of the python layout: a pickled dictionary with a NumPy array of pixels and a list of
//! labels.
//!
//! A pickle is a program for a small stack machine that may call any Python function. This reader
//! runs none: it knows the few instructions that `pickle` uses for such a dictionary, and the
//! three NumPy names in it as mere words. Everything else is refused by name and byte. Byte
//! strings are ranges of the file, containers are neither shared nor deeper than
//! [`MAX_DEPTH`], so memory stays within a small multiple of the file's length.

use std::io::Read as _;
use std::ops::Range;
use std::path::Path;

use super::open_file;
use super::records::{Collected, PIXELS};
use crate::DataError;

mod machine;

use machine::{Machine, Value};

/// Deepest nesting of lists, tuples and dictionaries.
const MAX_DEPTH: usize = 8;

/// Appends the `records` pictures of the batch in `file`; `label_key` names its list of labels.
pub(super) fn read_batch(
    file: &Path,
    label_key: &str,
    records: usize,
    classes: usize,
    out: &mut Collected,
) -> Result<(), DataError> {
    let bytes = read_capped(file, records)?;
    let batch = Batch::parse(&bytes, label_key, records)
        .map_err(|got| DataError::format(file, got, expected(label_key, records), MEND))?;
    if batch.rows != records || batch.labels.len() != records {
        return Err(DataError::format(
            file,
            format!("{} rows of pixels and {} labels", batch.rows, batch.labels.len()),
            expected(label_key, records),
            MEND,
        ));
    }
    for (record, label) in batch.labels.into_iter().enumerate() {
        match u16::try_from(label) {
            Ok(label) if usize::from(label) < classes => out.labels.push(label),
            _ => {
                return Err(DataError::LabelRange {
                    file: file.display().to_string(),
                    record,
                    offset: None,
                    got: label,
                    classes,
                });
            }
        }
    }
    out.images.extend_from_slice(&bytes[batch.pixels]);
    Ok(())
}

const MEND: &str =
    "The file is damaged or of another kind: fetch the data set again, or use its binary layout";

fn expected(label_key: &str, records: usize) -> String {
    format!(
        "a pickled dictionary with `data`, {records} × {PIXELS} bytes, and `{label_key}`, {records} labels"
    )
}

/// The whole file; a name or two a picture beside the pixels is all that may be in it.
fn read_capped(file: &Path, records: usize) -> Result<Vec<u8>, DataError> {
    let cap = (records * (PIXELS + 256) + 4_096) as u64;
    let unreadable = |source| DataError::io(file, "read", source);
    let handle = open_file(file)?;
    let got = handle.metadata().map_err(unreadable)?.len();
    let mut bytes = Vec::new();
    handle.take(cap + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > cap {
        return Err(DataError::Length {
            file: file.to_owned(),
            got: got.max(bytes.len() as u64),
            expected: format!("at most {cap} for {records} pictures"),
        });
    }
    Ok(bytes)
}

/// What is wanted of the dictionary.
struct Batch {
    rows: usize,
    /// Where in the file the pixels are, `[rows, 3072]`.
    pixels: Range<usize>,
    labels: Vec<i64>,
}

impl Batch {
    /// Errors are the `got` part of a message.
    fn parse(bytes: &[u8], label_key: &str, records: usize) -> Result<Self, String> {
        let Value::Dict(entries) = Machine::run(bytes, 8 * records + 1_000)? else {
            return Err("a pickle that holds no dictionary".into());
        };
        let find = |wanted: &str| {
            let mut found = entries.iter().filter(|(key, _)| key.text(bytes) == Some(wanted.as_bytes()));
            match (found.next(), found.next()) {
                (Some((_, value)), None) => Ok(value),
                (None, _) => Err(format!("a dictionary without `{wanted}`")),
                _ => Err(format!("a dictionary with `{wanted}` twice")),
            }
        };
        let (rows, pixels) = array(find("data")?).ok_or("`data` that is no plain array of bytes")?;
        let Value::List(labels) = find(label_key)? else {
            return Err(format!("`{label_key}` that is no list"));
        };
        let labels = labels
            .iter()
            .map(|label| match label {
                Value::Int(label) => Ok(*label),
                _ => Err(format!("`{label_key}` with an entry that is no whole number")),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { rows, pixels, labels })
    }
}

/// Rows and place of an array `[rows, 3072]` of bytes in C order: the state that NumPy's
/// `__setstate__` takes, (version, shape, dtype, is Fortran order, bytes).
fn array(value: &Value) -> Option<(usize, Range<usize>)> {
    let Value::Built(object, state) = value else { return None };
    let (Value::Call(function, _), Value::Tuple(state)) = (&**object, &**state) else { return None };
    if !matches!(&**function, Value::Global(name) if name.ends_with("multiarray _reconstruct")) {
        return None;
    }
    let [Value::Int(1), Value::Tuple(shape), dtype, Value::Bool(false), Value::Bytes(bytes)] = &state[..]
    else {
        return None;
    };
    let [Value::Int(rows), Value::Int(columns)] = shape[..] else { return None };
    let rows = usize::try_from(rows).ok()?;
    let fits = columns == PIXELS as i64 && rows.checked_mul(PIXELS)? == bytes.len();
    (fits && is_bytes(dtype)).then(|| (rows, bytes.clone()))
}

/// Whether a dtype is NumPy's `uint8`: `dtype('u1', …)`, then its state.
fn is_bytes(dtype: &Value) -> bool {
    let call = match dtype {
        Value::Built(call, _) => call,
        other => other,
    };
    let Value::Call(function, arguments) = call else { return false };
    matches!(&**function, Value::Global(name) if name == "numpy dtype")
        && matches!(&**arguments, Value::Tuple(arguments) if matches!(&arguments[..], [Value::Word(word), ..] if word == "u1"))
}

#[cfg(test)]
mod tests;
