//! What `torch.save` writes, in one direction.
//!
//! The pickle inside is interpreted by the `pytorch-reader` crate, which knows a handful of
//! constructors and runs no code. What it does not guard against is checked here before it sees
//! the file.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use pytorch_reader::{DType, PickleValue, PytorchError, PytorchReader, Tensor};

use super::assemble::{Element, Raw, assemble, is_ignored};
use super::error::quote;
use super::{Checkpoint, CheckpointError, Limits, Metadata, archive, file};

/// Where training scripts put the weights beside optimizer and epoch.
const STATE_DICT: &str = "state_dict";

pub(super) fn read(path: &Path, limits: Limits) -> Result<Checkpoint, CheckpointError> {
    // Also refuses the TAR container, whose reader can be made to ask for any amount of memory.
    if file::sniff(path, limits)? != file::Format::Torch {
        return Err(format_error(path, "a safetensors file".to_owned()));
    }
    let length = file::check(path, limits)?;
    let copy = archive::check(path)?;
    let source = copy.as_ref().map_or(path, |copy| copy.path());
    let root = PytorchReader::read_pickle_data(source, None).map_err(|e| reader_error(path, e))?;
    let key = match &root {
        PickleValue::Dict(entries) if entries.contains_key(STATE_DICT) => Some(STATE_DICT),
        _ => None,
    };
    check_flat(path, &root, key)?;
    let reader = match key {
        Some(key) => PytorchReader::with_top_level_key(source, key),
        None => PytorchReader::new(source),
    }
    .map_err(|e| reader_error(path, e))?;
    let tensors = reader.into_tensors();
    if tensors.is_empty() {
        return Err(format_error(path, "no tensor at the top or under `state_dict`".to_owned()));
    }
    check_claims(path, &tensors, length, limits)?;
    let (state, masks) = assemble(path, materialise(path, tensors)?)?;
    Ok(Checkpoint { state, masks, metadata: Metadata::new() })
}

/// A state dict is flat. Names that the reader would join from nested dictionaries could collide.
fn check_flat(path: &Path, root: &PickleValue, key: Option<&str>) -> Result<(), CheckpointError> {
    let entries = match (root, key) {
        (PickleValue::Dict(entries), Some(key)) => match entries.get(key) {
            Some(PickleValue::Dict(entries)) => entries,
            // A whole module under the key; the reader gives its state dict.
            _ => return Ok(()),
        },
        (PickleValue::Dict(entries), None) => entries,
        _ => return Ok(()),
    };
    let mut nested: Vec<String> = entries
        .iter()
        .filter(|(_, value)| match value {
            PickleValue::Dict(_) | PickleValue::List(_) => may_hold_tensors(value),
            _ => false,
        })
        .map(|(name, _)| format!("`{}`", quote(name)))
        .collect();
    if nested.is_empty() {
        return Ok(());
    }
    nested.sort();
    nested.truncate(8);
    Err(CheckpointError::Format {
        path: path.to_owned(),
        got: format!("dictionaries or lists under {}", nested.join(", ")),
        expected: "tensors by name, at the top or under `state_dict`",
        mend: "Save `{'state_dict': model.state_dict()}`",
    })
}

/// A tensor is what a pickle value cannot represent. PyTorch's own `_metadata` holds numbers only.
fn may_hold_tensors(value: &PickleValue) -> bool {
    match value {
        PickleValue::Unsupported(_) => true,
        PickleValue::Dict(inner) => inner.values().any(may_hold_tensors),
        PickleValue::List(inner) => inner.iter().any(may_hold_tensors),
        _ => false,
    }
}

/// A view can claim far more values than the file holds (stride 0).
fn check_claims(
    path: &Path,
    tensors: &HashMap<String, Tensor>,
    length: u64,
    limits: Limits,
) -> Result<(), CheckpointError> {
    let claimed: u64 = tensors.values().fold(0, |sum, t| sum.saturating_add(t.byte_len() as u64));
    // Tied weights are stored once and claimed by each name, hence not exactly the length.
    let limit = length.saturating_mul(4).min(limits.max_bytes);
    if claimed <= limit {
        return Ok(());
    }
    Err(CheckpointError::TooLarge {
        path: path.to_owned(),
        what: "claims tensors of",
        got: claimed,
        limit,
        mend: "save contiguous tensors (`.contiguous()`), each no larger than its storage",
    })
}

fn materialise(path: &Path, tensors: HashMap<String, Tensor>) -> Result<Vec<Raw<'static>>, CheckpointError> {
    let mut tensors: Vec<_> = tensors.into_iter().collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let mut raw = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let ignored = is_ignored(&name);
        let mut bytes = if ignored {
            Vec::new()
        } else {
            tensor.read().map_err(|e| format_error(path, quote(&e.to_string())))?
        };
        // The reader gives the machine's own order.
        if cfg!(target_endian = "big") {
            bytes.chunks_exact_mut(tensor.dtype().size()).for_each(<[u8]>::reverse);
        }
        raw.push(Raw {
            name,
            shape: tensor.shape().to_vec(),
            element: element(tensor.dtype()),
            bytes: Cow::Owned(bytes),
        });
    }
    Ok(raw)
}

fn element(dtype: DType) -> Element {
    match dtype {
        DType::F64 => Element::F64,
        DType::F32 => Element::F32,
        DType::F16 => Element::F16,
        DType::BF16 => Element::BF16,
        DType::U8 | DType::Bool => Element::Byte,
        other => Element::Other(format!("{other:?}")),
    }
}

fn reader_error(path: &Path, error: PytorchError) -> CheckpointError {
    match error {
        PytorchError::Io(source) => CheckpointError::Io { path: path.to_owned(), action: "read", source },
        other => format_error(path, quote(&other.to_string())),
    }
}

fn format_error(path: &Path, got: String) -> CheckpointError {
    CheckpointError::Format {
        path: path.to_owned(),
        got,
        expected: "a state dict that torch.save wrote",
        mend: "Save `model.state_dict()` anew, or use safetensors",
    }
}
