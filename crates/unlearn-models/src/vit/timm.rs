//! The names of timm's `vision_transformer`, which keeps queries, keys and values in one layer.
//!
//! | timm | here (and Hugging Face) |
//! |---|---|
//! | `cls_token`, `pos_embed` | `vit.embeddings.cls_token`, `.position_embeddings` |
//! | `patch_embed.proj` | `vit.embeddings.patch_embeddings.projection` |
//! | `blocks.I.norm1`, `.norm2` | `vit.encoder.layer.I.layernorm_before`, `_after` |
//! | `blocks.I.attn.qkv` `[3d, d]` | `….attention.attention.query`, `.key`, `.value` `[d, d]` |
//! | `blocks.I.attn.proj` | `….attention.output.dense` |
//! | `blocks.I.mlp.fc1`, `.fc2` | `….intermediate.dense`, `….output.dense` |
//! | `norm`, `head` | `vit.layernorm`, `classifier` |

mod masks;

use crate::checkpoint::{CheckpointError, HostTensor, Mismatch, StateDict};

pub use self::masks::{masks_from_timm, masks_to_timm};

/// Whole prefixes, timm's first.
const OUTER: [(&str, &str); 6] = [
    ("cls_token", "vit.embeddings.cls_token"),
    ("pos_embed", "vit.embeddings.position_embeddings"),
    ("patch_embed.proj.", "vit.embeddings.patch_embeddings.projection."),
    ("norm.", "vit.layernorm."),
    ("head.", "classifier."),
    ("normalize.", "normalize."),
];

/// Within a block, timm's first.
const INNER: [(&str, &str); 5] = [
    ("norm1.", "layernorm_before."),
    ("norm2.", "layernorm_after."),
    ("attn.proj.", "attention.output.dense."),
    ("mlp.fc1.", "intermediate.dense."),
    ("mlp.fc2.", "output.dense."),
];

const TIMM_BLOCKS: &str = "blocks.";
const OUR_BLOCKS: &str = "vit.encoder.layer.";
const FUSED: &str = "attn.qkv.";
/// Queries, keys and values in timm's order.
const PARTS: [&str; 3] =
    ["attention.attention.query.", "attention.attention.key.", "attention.attention.value."];

/// Whether a state is one of timm's vision transformers, by a name that only they have.
pub fn has_timm_names(state: &StateDict) -> bool {
    state.get("patch_embed.proj.weight").is_some()
}

/// A state under timm's names, as `timm.create_model("vit_…").state_dict()` gives it, under ours. Names that timm's
/// vision transformers do not have stay as they are, so that loading can name them.
///
/// timm's ε of the layer norms is 1e-6, and it does not stand in the file: set
/// [`layer_norm_eps`](super::VitConfig::layer_norm_eps).
///
/// # Errors
/// [`CheckpointError::Length`] for a fused layer whose rows are no multiple of three,
/// [`CheckpointError::Duplicate`] when a name is there under both conventions.
pub fn from_timm(state: &StateDict) -> Result<StateDict, CheckpointError> {
    let mut ours = StateDict::new();
    for (name, tensor) in state.iter() {
        let Some((block, rest)) = in_block(name, TIMM_BLOCKS) else {
            let renamed = swap(name, OUTER.into_iter());
            ours.insert(renamed.unwrap_or_else(|| name.to_owned()), tensor.clone())?;
            continue;
        };
        let prefix = format!("{OUR_BLOCKS}{block}.");
        if let Some(kind) = rest.strip_prefix(FUSED) {
            for (part, tensor) in PARTS.into_iter().zip(thirds(name, tensor)?) {
                ours.insert(format!("{prefix}{part}{kind}"), tensor)?;
            }
        } else if let Some(inner) = swap(rest, INNER.into_iter()) {
            ours.insert(format!("{prefix}{inner}"), tensor.clone())?;
        } else {
            ours.insert(name, tensor.clone())?;
        }
    }
    Ok(ours)
}

/// The reverse of [`from_timm`].
///
/// # Errors
/// [`CheckpointError::Duplicate`] when a name is there under both conventions, [`CheckpointError::Mismatch`] when only some
/// of queries, keys and values are there, which timm keeps in one layer.
pub fn to_timm(state: &StateDict) -> Result<StateDict, CheckpointError> {
    let backwards = |(timm, ours)| (ours, timm);
    let mut timm = StateDict::new();
    for (name, tensor) in state.iter() {
        let Some((block, rest)) = in_block(name, OUR_BLOCKS) else {
            let renamed = swap(name, OUTER.into_iter().map(backwards));
            timm.insert(renamed.unwrap_or_else(|| name.to_owned()), tensor.clone())?;
            continue;
        };
        let prefix = format!("{TIMM_BLOCKS}{block}.");
        if let Some((part, kind)) = PARTS.iter().find_map(|part| Some((*part, rest.strip_prefix(part)?))) {
            let names = PARTS.map(|part| format!("{OUR_BLOCKS}{block}.{part}{kind}"));
            let missing = names.iter().filter(|other| state.get(other).is_none());
            let missing: Vec<_> = missing.map(|other| (other.clone(), Some(name.to_owned()))).collect();
            if !missing.is_empty() {
                return Err(CheckpointError::Mismatch(Mismatch { missing, ..Mismatch::default() }));
            }
            // Keys and values go with the queries.
            if part == PARTS[0] {
                timm.insert(format!("{prefix}{FUSED}{kind}"), stacked(state, &names))?;
            }
        } else if let Some(inner) = swap(rest, INNER.into_iter().map(backwards)) {
            timm.insert(format!("{prefix}{inner}"), tensor.clone())?;
        } else {
            timm.insert(name, tensor.clone())?;
        }
    }
    Ok(timm)
}

/// The rows of these tensors, one below the other.
fn stacked(state: &StateDict, names: &[String]) -> HostTensor {
    let mut tensors = names.iter().filter_map(|name| state.get(name)).cloned();
    let mut fused = tensors.next().unwrap_or_default();
    for other in tensors {
        if let (Some(rows), Some(more)) = (fused.shape.first_mut(), other.shape.first()) {
            *rows += more;
        }
        fused.values.extend(&other.values);
    }
    fused
}

/// `blocks.3.norm1.weight` → (`3`, `norm1.weight`).
fn in_block<'a>(name: &'a str, prefix: &str) -> Option<(&'a str, &'a str)> {
    name.strip_prefix(prefix)?.split_once('.')
}

/// `name` with the first prefix of `table` that it has replaced by the other.
fn swap<'a>(name: &str, mut table: impl Iterator<Item = (&'a str, &'a str)>) -> Option<String> {
    table.find_map(|(from, to)| name.strip_prefix(from).map(|rest| format!("{to}{rest}")))
}

/// The rows in three equal parts.
fn thirds(name: &str, tensor: &HostTensor) -> Result<[HostTensor; 3], CheckpointError> {
    let rows = tensor.shape.first().copied().unwrap_or(0);
    if rows == 0 || !rows.is_multiple_of(3) {
        let mut shape = tensor.shape.clone();
        if let Some(rows) = shape.first_mut() {
            *rows = rows.next_multiple_of(3);
        }
        return Err(CheckpointError::Length { name: name.to_owned(), got: tensor.values.len(), shape });
    }
    let mut shape = tensor.shape.clone();
    shape[0] = rows / 3;
    let each = tensor.values.len() / 3;
    Ok([0, 1, 2].map(|part| HostTensor {
        shape: shape.clone(),
        values: tensor.values[part * each..(part + 1) * each].to_vec(),
    }))
}
