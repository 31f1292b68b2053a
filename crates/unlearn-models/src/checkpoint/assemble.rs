//! From the raw tensors of a file to a state: what all formats share.

use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};

use super::error::quote;
use super::names::is_batch_counter;
use super::{CheckpointError, HostTensor, Mask, MaskMap, StateDict};

/// The element types that mean something here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Element {
    F64,
    F32,
    F16,
    BF16,
    /// One byte, 0 or 1.
    Byte,
    Other(String),
}

/// A tensor as it lies in a file: little-endian, row-major, as many bytes as shape and type ask
/// for.
#[derive(Debug)]
pub(super) struct Raw<'a> {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) element: Element,
    pub(super) bytes: std::borrow::Cow<'a, [u8]>,
}

/// Whether a reader may pass over a tensor before looking at its type.
pub(super) fn is_ignored(name: &str) -> bool {
    is_batch_counter(name)
}

/// Strips a shared `module.`, joins `X_orig` and `X_mask`, and converts to float32.
pub(super) fn assemble(path: &Path, raw: Vec<Raw<'_>>) -> Result<(StateDict, MaskMap), CheckpointError> {
    let parallel = !raw.is_empty() && raw.iter().all(|t| t.name.starts_with("module."));
    let mut tensors = BTreeMap::new();
    for mut tensor in raw {
        if parallel {
            tensor.name.drain(.."module.".len());
        }
        if is_ignored(&tensor.name) {
            continue;
        }
        if tensors.contains_key(&tensor.name) {
            return Err(CheckpointError::Duplicate { name: quote(&tensor.name) });
        }
        tensors.insert(tensor.name.clone(), tensor);
    }

    let mut masks = MaskMap::default();
    let masked: Vec<String> = tensors
        .keys()
        .filter_map(|name| name.strip_suffix("_mask"))
        .filter(|base| tensors.contains_key(&format!("{base}_orig")))
        .map(str::to_owned)
        .collect();
    let mut state = StateDict::new();
    for base in masked {
        let (Some(mask), Some(original)) =
            (tensors.remove(&format!("{base}_mask")), tensors.remove(&format!("{base}_orig")))
        else {
            continue;
        };
        let mask = to_mask(path, &mask)?;
        if mask.shape != original.shape {
            return Err(CheckpointError::Format {
                path: path.to_owned(),
                got: format!(
                    "the mask of `{}` has shape {:?}, its tensor {:?}",
                    quote(&base),
                    mask.shape,
                    original.shape
                ),
                expected: "equal shapes",
                mend: "Save the pruned model anew",
            });
        }
        let mut values = to_f32(path, &original)?;
        // Not a product: that would give −0.0, and NaN where a pruned value is not finite.
        for (value, keep) in values.iter_mut().zip(&mask.keep) {
            if !keep {
                *value = 0.0;
            }
        }
        state.insert(base.clone(), HostTensor { shape: original.shape, values })?;
        masks.insert(base, mask);
    }
    for (name, tensor) in tensors {
        let values = to_f32(path, &tensor)?;
        state.insert(name, HostTensor { shape: tensor.shape, values })?;
    }
    Ok((state, masks))
}

fn to_f32(path: &Path, tensor: &Raw<'_>) -> Result<Vec<f32>, CheckpointError> {
    let bytes = tensor.bytes.as_ref();
    Ok(match &tensor.element {
        Element::F32 => words(bytes).map(f32::from_le_bytes).collect(),
        // Rounds; a value beyond float32 becomes infinite, which loading refuses by name.
        Element::F64 => words(bytes).map(|b| f64::from_le_bytes(b) as f32).collect(),
        Element::F16 => words(bytes).map(|b| f16::from_le_bytes(b).to_f32()).collect(),
        Element::BF16 => words(bytes).map(|b| bf16::from_le_bytes(b).to_f32()).collect(),
        Element::Byte => return Err(wrong_type(path, tensor, "bytes or truth values")),
        Element::Other(name) => return Err(wrong_type(path, tensor, name)),
    })
}

fn to_mask(path: &Path, tensor: &Raw<'_>) -> Result<Mask, CheckpointError> {
    let values = match tensor.element {
        Element::Byte => tensor.bytes.iter().map(|&b| f32::from(b)).collect(),
        _ => to_f32(path, tensor)?,
    };
    let keep = values
        .iter()
        .map(|&v| match v {
            0.0 => Ok(false),
            1.0 => Ok(true),
            other => Err(CheckpointError::Format {
                path: path.to_owned(),
                got: format!("`{}` holds {other}", quote(&tensor.name)),
                expected: "zeros and ones in a mask",
                mend: "Save the pruned model anew",
            }),
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Mask { shape: tensor.shape.clone(), keep })
}

fn wrong_type(path: &Path, tensor: &Raw<'_>, got: &str) -> CheckpointError {
    CheckpointError::ElementType { path: path.to_owned(), name: quote(&tensor.name), got: got.to_owned() }
}

fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks::<N>().0.iter().copied()
}
