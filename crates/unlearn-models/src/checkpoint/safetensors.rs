//! safetensors, both ways.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::assemble::{Element, Raw, assemble};
use super::error::quote;
use super::{Checkpoint, CheckpointError, Limits, Metadata, StateDict, file};

/// Longest header that is parsed. A thousand layers need a hundredth of it.
pub(super) const MAX_HEADER: u64 = 16 << 20;

pub(super) fn read(path: &Path, limits: Limits) -> Result<Checkpoint, CheckpointError> {
    check_length(path, limits)?;
    let bytes = file::read_whole(path, limits)?;
    decode(path, &bytes)
}

/// Refuses a file that is far longer than its header says before all of it is read; whatever else is wrong shows then.
fn check_length(path: &Path, limits: Limits) -> Result<(), CheckpointError> {
    #[derive(Deserialize)]
    struct Place {
        data_offsets: Option<[u64; 2]>,
    }

    let length = file::check(path, limits)?;
    let head = file::read_first(path, 8)?;
    let Some(prefix) = head.first_chunk::<8>() else { return Ok(()) };
    let header = u64::from_le_bytes(*prefix);
    if header > MAX_HEADER {
        return Ok(());
    }
    let head = file::read_first(path, 8 + header)?;
    let Ok(places) = serde_json::from_slice::<BTreeMap<String, Place>>(head.get(8..).unwrap_or_default())
    else {
        return Ok(());
    };
    let end = places.values().filter_map(|place| place.data_offsets).map(|[_, end]| end).max().unwrap_or(0);
    let expected = end.saturating_add(8 + header);
    if length > expected.saturating_add(1 << 20) {
        return Err(format_error(path, format!("{length} bytes, though its header describes {expected}")));
    }
    Ok(())
}

fn decode(path: &Path, bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    let header = header(path, bytes)?;
    check_unique(path, header)?;
    let damaged = |got: String| format_error(path, got);
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| damaged(quote(&e.to_string())))?;
    let (_, about) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(quote(&e.to_string())))?;
    let metadata = about.metadata().clone().unwrap_or_default().into_iter().collect::<Metadata>();
    let mut raw: Vec<Raw<'_>> = tensors
        .iter()
        .map(|(name, view)| Raw {
            name: name.to_owned(),
            shape: view.shape().to_vec(),
            element: element(view.dtype()),
            bytes: Cow::Borrowed(view.data()),
        })
        .collect();
    raw.sort_by(|a, b| a.name.cmp(&b.name));
    let (state, masks) = assemble(path, raw)?;
    Ok(Checkpoint { state, masks, metadata })
}

fn element(dtype: Dtype) -> Element {
    match dtype {
        Dtype::F64 => Element::F64,
        Dtype::F32 => Element::F32,
        Dtype::F16 => Element::F16,
        Dtype::BF16 => Element::BF16,
        Dtype::U8 | Dtype::BOOL => Element::Byte,
        other => Element::Other(format!("{other:?}")),
    }
}

/// The header's text, with its length checked against the file before it is looked at.
fn header<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a [u8], CheckpointError> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(format_error(path, format!("{} bytes, too few for a header's length", bytes.len())));
    };
    let length = u64::from_le_bytes(*prefix);
    if length > MAX_HEADER {
        return Err(CheckpointError::TooLarge {
            path: path.to_owned(),
            what: "claims a header of",
            got: length,
            limit: MAX_HEADER,
            mend: "the file is damaged or not a checkpoint",
        });
    }
    rest.get(..length as usize).ok_or_else(|| {
        format_error(path, format!("a header of {length} bytes in a file of {} bytes", bytes.len()))
    })
}

/// The safetensors crate keeps the last of two equal names; here they are an error.
fn check_unique(path: &Path, header: &[u8]) -> Result<(), CheckpointError> {
    let mut parser = serde_json::Deserializer::from_slice(header);
    let repeated =
        parser.deserialize_map(FirstRepeated).map_err(|e| format_error(path, quote(&e.to_string())))?;
    match repeated {
        Some(name) => Err(CheckpointError::Duplicate { name: quote(&name) }),
        None => Ok(()),
    }
}

struct FirstRepeated;

impl<'de> Visitor<'de> for FirstRepeated {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut seen = BTreeSet::new();
        let mut repeated = None;
        while let Some((name, _)) = map.next_entry::<String, IgnoredAny>()? {
            if !seen.insert(name.clone()) {
                repeated.get_or_insert(name);
            }
        }
        Ok(repeated)
    }
}

fn format_error(path: &Path, got: String) -> CheckpointError {
    CheckpointError::Format {
        path: path.to_owned(),
        got,
        expected: "a whole safetensors file",
        mend: "It is damaged or cut short: copy it again or use an earlier one",
    }
}

#[derive(Serialize)]
struct Entry<'a> {
    dtype: &'static str,
    shape: &'a [usize],
    data_offsets: [usize; 2],
}

#[derive(Serialize)]
#[serde(untagged)]
enum Field<'a> {
    Metadata(BTreeMap<&'a str, &'a str>),
    Tensor(Entry<'a>),
}

/// Writes the format itself: the crate orders metadata by chance, and equal states are to give
/// equal bytes. `format: pt` is what PyTorch's tools look for.
pub(super) fn encode(out: &mut dyn Write, state: &StateDict, metadata: &Metadata) -> io::Result<()> {
    let mut about: BTreeMap<&str, &str> = metadata.iter().collect();
    about.entry("format").or_insert("pt");
    let mut header = BTreeMap::from([("__metadata__", Field::Metadata(about))]);
    let mut end = 0;
    for (name, tensor) in state.iter() {
        let start = end;
        end += tensor.values.len() * size_of::<f32>();
        header.insert(
            name,
            Field::Tensor(Entry { dtype: "F32", shape: &tensor.shape, data_offsets: [start, end] }),
        );
    }
    let mut text = serde_json::to_vec(&header)?;
    // Spaces bring the data to a multiple of eight bytes.
    text.resize(text.len().next_multiple_of(8), b' ');
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(&text)?;
    for (_, tensor) in state.iter() {
        for value in &tensor.values {
            out.write_all(&value.to_le_bytes())?;
        }
    }
    Ok(())
}
