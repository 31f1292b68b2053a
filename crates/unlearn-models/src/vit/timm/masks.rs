//! Pruning masks under timm's names: what becomes of a weight becomes of its mask.

use super::{OUR_BLOCKS, PARTS, from_timm, in_block, to_timm};
use crate::checkpoint::{CheckpointError, HostTensor, Mask, MaskMap, StateDict};

/// The masks of a file under timm's names, under ours; that of a fused layer is taken apart into three.
///
/// # Errors
/// As [`from_timm`].
pub fn masks_from_timm(masks: &MaskMap) -> Result<MaskMap, CheckpointError> {
    Ok(masks_of(&from_timm(&ones_and_zeros(masks)?)?))
}

/// The reverse of [`masks_from_timm`]. A fused layer has one mask or none: where queries, keys or values have one, those
/// without are masked too, and all of them is kept.
///
/// # Errors
/// As [`to_timm`], and [`CheckpointError::Length`] when masks that belong together have different shapes.
pub fn masks_to_timm(masks: &MaskMap) -> Result<MaskMap, CheckpointError> {
    let mut whole = ones_and_zeros(masks)?;
    for (name, mask) in masks.iter() {
        let Some((block, rest)) = in_block(name, OUR_BLOCKS) else { continue };
        let Some(kind) = PARTS.iter().find_map(|part| rest.strip_prefix(part)) else { continue };
        for part in PARTS {
            let name = format!("{OUR_BLOCKS}{block}.{part}{kind}");
            if whole.get(&name).is_none() {
                let values = vec![1.0; mask.keep.len()];
                whole.insert(name, HostTensor { shape: mask.shape.clone(), values })?;
            }
        }
    }
    Ok(masks_of(&to_timm(&whole)?))
}

fn ones_and_zeros(masks: &MaskMap) -> Result<StateDict, CheckpointError> {
    let mut state = StateDict::new();
    for (name, mask) in masks.iter() {
        let values = mask.keep.iter().map(|&keep| if keep { 1.0 } else { 0.0 }).collect();
        state.insert(name, HostTensor { shape: mask.shape.clone(), values })?;
    }
    Ok(state)
}

fn masks_of(state: &StateDict) -> MaskMap {
    let mask = |tensor: &HostTensor| Mask {
        shape: tensor.shape.clone(),
        keep: tensor.values.iter().map(|&value| value == 1.0).collect(),
    };
    state.iter().map(|(name, tensor)| (name.to_owned(), mask(tensor))).collect()
}
