//! Pruning masks in a checkpoint.

use std::collections::BTreeMap;

use burn::module::Module;
use unlearn_curvature::ParamPath;

use super::names::{Layout, OnDisk, transpose};
use super::{CheckpointError, Mismatch};
use crate::nearest::nearest;

/// Which entries of a tensor are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// The tensor's shape.
    pub shape: Vec<usize>,
    /// One a value, row-major; `false` is pruned.
    pub keep: Vec<bool>,
}

/// The masks of a checkpoint, under PyTorch's names and in its layout.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MaskMap {
    masks: BTreeMap<String, Mask>,
}

impl FromIterator<(String, Mask)> for MaskMap {
    fn from_iter<I: IntoIterator<Item = (String, Mask)>>(masks: I) -> Self {
        Self { masks: masks.into_iter().collect() }
    }
}

impl MaskMap {
    pub(crate) fn insert(&mut self, name: String, mask: Mask) {
        self.masks.insert(name, mask);
    }

    /// The mask of the tensor `name`.
    pub fn get(&self, name: &str) -> Option<&Mask> {
        self.masks.get(name)
    }

    /// The masks in order of names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Mask)> {
        self.masks.iter().map(|(name, mask)| (name.as_str(), mask))
    }

    /// Number of masks.
    pub fn len(&self) -> usize {
        self.masks.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.masks.is_empty()
    }

    /// The masks under the model's own paths and in its layout.
    ///
    /// # Errors
    /// [`CheckpointError::Mismatch`] with every mask that no parameter of `module` bears the name
    /// and shape of, or that has another number of entries than its shape.
    pub fn for_module<M: Module>(&self, module: &M) -> Result<BTreeMap<ParamPath, Mask>, CheckpointError> {
        let known: BTreeMap<String, (OnDisk, ParamPath, Vec<usize>)> = unlearn_curvature::parameters(module)
            .into_iter()
            .map(|info| {
                let on_disk = OnDisk::of(&info);
                (on_disk.name.clone(), (on_disk, info.path, info.shape))
            })
            .collect();
        let mut mismatch = Mismatch::default();
        let mut masks = BTreeMap::new();
        for (name, mask) in &self.masks {
            let Some((on_disk, path, shape)) = known.get(name) else {
                let hint = nearest(name, known.keys().map(String::as_str)).map(str::to_owned);
                mismatch.left_over.push((name.clone(), hint));
                continue;
            };
            if mask.shape != on_disk.shape {
                mismatch.misshapen.push((name.clone(), mask.shape.clone(), on_disk.shape.clone()));
                continue;
            }
            if mask.keep.len() != mask.shape.iter().product::<usize>() {
                mismatch.misshapen.push((name.clone(), vec![mask.keep.len()], on_disk.shape.clone()));
                continue;
            }
            let keep = match on_disk.layout {
                Layout::Same => mask.keep.clone(),
                Layout::Transposed => transpose(&mask.keep, mask.shape[0], mask.shape[1]),
            };
            masks.insert(path.clone(), Mask { shape: shape.clone(), keep });
        }
        if mismatch.is_empty() { Ok(masks) } else { Err(CheckpointError::Mismatch(mismatch)) }
    }
}
