//! Which weights a pruned network keeps.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use burn::Tensor;
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Bool, TensorData};
use sha2::{Digest as _, Sha256};
use unlearn_curvature::{ParamPath, PathTracker, parameters};
use unlearn_models::checkpoint::MaskMap;

use crate::{MaskConstraint, PruneError, SparsityReport};

/// One bit a weight for some parameters of a model: set means kept.
///
/// Parameters without an entry are not pruned. A mask is explicit state: it is never inferred from
/// zeros in the weights.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MaskSet {
    masks: BTreeMap<ParamPath, Mask>,
}

/// The kept and pruned entries of one parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    shape: Vec<usize>,
    keep: Vec<bool>,
}

impl Mask {
    /// The parameter's shape, in Burn's layout (a `Linear` weight is `[d_input, d_output]`).
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// One entry a weight, row-major: `true` is kept.
    pub fn keep(&self) -> &[bool] {
        &self.keep
    }

    /// Number of weights that are kept.
    pub fn kept(&self) -> usize {
        self.keep.iter().filter(|&&k| k).count()
    }

    /// Number of weights, kept or not.
    pub fn total(&self) -> usize {
        self.keep.len()
    }

    /// Share of pruned weights, 0–1; 0 for a parameter without weights.
    pub fn sparsity(&self) -> f64 {
        share(self.kept(), self.total())
    }

    /// Eight weights a byte, least significant bit first; bits past the end are zero.
    pub(crate) fn packed(&self) -> Vec<u8> {
        let byte = |bits: &[bool]| bits.iter().enumerate().fold(0, |b, (i, &k)| b | (u8::from(k) << i));
        self.keep.chunks(8).map(byte).collect()
    }

    pub(crate) fn keep_mut(&mut self) -> &mut [bool] {
        &mut self.keep
    }
}

pub(crate) fn share(kept: usize, total: usize) -> f64 {
    if total == 0 { 0.0 } else { (total - kept) as f64 / total as f64 }
}

impl MaskSet {
    /// A set that prunes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a mask at `path`, replacing what was there. `keep` has one entry a weight, row-major.
    ///
    /// # Errors
    /// [`PruneError::MaskShape`] when the number of entries is not the product of `shape`.
    pub fn insert(
        &mut self,
        path: impl Into<ParamPath>,
        shape: Vec<usize>,
        keep: Vec<bool>,
    ) -> Result<(), PruneError> {
        let path = path.into();
        if shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d)) != Some(keep.len()) {
            return Err(PruneError::MaskShape {
                path: path.to_string(),
                got: vec![keep.len()],
                expected: shape,
            });
        }
        self.masks.insert(path, Mask { shape, keep });
        Ok(())
    }

    /// The masks of a PyTorch checkpoint (`X_mask` beside `X_orig`, as `torch.nn.utils.prune` leaves
    /// them), brought to the paths and layouts of `model`.
    ///
    /// # Errors
    /// [`PruneError::Checkpoint`] when a mask is for a parameter that the model does not have, or
    /// of another shape.
    pub fn from_torch<M: Module>(masks: &MaskMap, model: &M) -> Result<Self, PruneError> {
        let mut set = Self::new();
        for (path, mask) in masks.for_module(model)? {
            set.insert(path, mask.shape, mask.keep)?;
        }
        Ok(set)
    }

    /// The mask of the parameter at `path`.
    pub fn get(&self, path: &ParamPath) -> Option<&Mask> {
        self.masks.get(path)
    }

    pub(crate) fn get_mut(&mut self, path: &ParamPath) -> Option<&mut Mask> {
        self.masks.get_mut(path)
    }

    /// All masks in path order.
    pub fn iter(&self) -> impl Iterator<Item = (&ParamPath, &Mask)> {
        self.masks.iter()
    }

    /// Number of parameters that have a mask.
    pub fn len(&self) -> usize {
        self.masks.len()
    }

    /// Whether no parameter has a mask.
    pub fn is_empty(&self) -> bool {
        self.masks.is_empty()
    }

    /// Number of weights kept, over all parameters that have a mask.
    pub fn kept(&self) -> usize {
        self.masks.values().map(Mask::kept).sum()
    }

    /// Number of weights, kept or not, over all parameters that have a mask.
    pub fn total(&self) -> usize {
        self.masks.values().map(Mask::total).sum()
    }

    /// Share of pruned weights among those that have a mask, 0–1.
    pub fn sparsity(&self) -> f64 {
        share(self.kept(), self.total())
    }

    /// SHA-256 of the content (paths, shapes, bits), in lower-case hexadecimal.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(b"unlearn/mask/v1");
        let number = |hash: &mut Sha256, n: usize| hash.update((n as u64).to_le_bytes());
        for (path, mask) in &self.masks {
            number(&mut hash, path.as_str().len());
            hash.update(path.as_str());
            number(&mut hash, mask.shape.len());
            mask.shape.iter().for_each(|&d| number(&mut hash, d));
            hash.update(mask.packed());
        }
        hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// The mask that keeps what both keep. A parameter that only one of them masks is masked by
    /// that one.
    ///
    /// # Errors
    /// [`PruneError::MaskShape`] when the shapes of a parameter differ.
    pub fn intersect(&self, other: &Self) -> Result<Self, PruneError> {
        let mut both = self.clone();
        for (path, mask) in &other.masks {
            match both.masks.get_mut(path) {
                None => {
                    both.masks.insert(path.clone(), mask.clone());
                }
                Some(mine) if mine.shape == mask.shape => {
                    mine.keep.iter_mut().zip(&mask.keep).for_each(|(a, &b)| *a &= b);
                }
                Some(mine) => {
                    return Err(PruneError::MaskShape {
                        path: path.to_string(),
                        got: mask.shape.clone(),
                        expected: mine.shape.clone(),
                    });
                }
            }
        }
        Ok(both)
    }

    /// Kept and total counts of every masked parameter.
    pub fn report(&self) -> SparsityReport {
        SparsityReport::of(self)
    }

    /// Checks that every mask belongs to a parameter of `model` and has its shape.
    ///
    /// # Errors
    /// [`PruneError::MaskName`] with all names that the model does not have,
    /// [`PruneError::MaskShape`] for the first shape that differs.
    pub fn check<M: Module>(&self, model: &M) -> Result<(), PruneError> {
        let known: BTreeMap<_, _> = parameters(model).into_iter().map(|p| (p.path, p.shape)).collect();
        let unknown: Vec<_> =
            self.masks.keys().filter(|p| !known.contains_key(p)).map(ToString::to_string).collect();
        if !unknown.is_empty() {
            return Err(PruneError::MaskName { unknown });
        }
        for (path, mask) in &self.masks {
            if known[path] != mask.shape {
                return Err(PruneError::MaskShape {
                    path: path.to_string(),
                    got: mask.shape.clone(),
                    expected: known[path].clone(),
                });
            }
        }
        Ok(())
    }

    /// A copy of `model` on a plain device whose pruned weights are exactly `+0.0`, whatever they
    /// were before (NaN included). Everything else, and what training would move, stays.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn apply<M: Module>(&self, model: &M) -> Result<M, PruneError> {
        self.check(model)?;
        Ok(model.valid().map(&mut Zero { tracker: PathTracker::default(), set: self }))
    }

    /// The constraint that keeps the pruned weights at zero while `model` trains. The masks are
    /// uploaded once, to the device of `model`.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn constraint<M: Module>(&self, model: &M) -> Result<MaskConstraint, PruneError> {
        self.check(model)?;
        Ok(MaskConstraint::new(self, model))
    }
}

struct Zero<'a> {
    tracker: PathTracker,
    set: &'a MaskSet,
}

impl ModuleMapper for Zero<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.tracker.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.tracker.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(mask) = self.set.get(&self.tracker.path()) else { return param };
        param.map(|value| {
            let pruned: Vec<bool> = mask.keep.iter().map(|k| !k).collect();
            let pruned = TensorData::new(pruned, value.shape());
            let pruned = Tensor::<D, Bool>::from_data(pruned, &value.device());
            value.mask_fill(pruned, 0.0)
        })
    }
}
