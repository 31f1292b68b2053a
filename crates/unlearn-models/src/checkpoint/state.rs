//! A model's state on the host, under PyTorch's names.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use burn::module::Module;
use burn::tensor::TensorData;
use sha2::{Digest, Sha256};
use unlearn_curvature::ParamInfo;

use super::names::{Layout, OnDisk, is_batch_counter, transpose};
use super::transfer::{Reader, Writer};
use super::{CheckpointError, Metadata, Mismatch};
use crate::nearest::nearest;

/// A tensor on the host: shape, and float32 values row-major.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HostTensor {
    /// The shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// As many values as the product of the shape.
    pub values: Vec<f32>,
}

/// Whether values that are NaN or infinite are an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NonFinite {
    /// They are.
    #[default]
    Refuse,
    /// They are taken as they are.
    Allow,
}

/// All parameters and buffers of a model: PyTorch's names and layouts, float32 on the host, in
/// order of names. This is what checkpoints hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StateDict {
    tensors: BTreeMap<String, HostTensor>,
}

impl StateDict {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// The state of `module`: its float parameters and running statistics, frozen ones included.
    /// Updates of running statistics that Burn still holds back are carried out in what is read.
    ///
    /// # Errors
    /// [`CheckpointError::Unsupported`] for a parameter of integers or truth values,
    /// [`CheckpointError::Duplicate`] when two parameters have one name on disk,
    /// [`CheckpointError::Device`] when the device cannot give a tensor.
    pub fn of<M: Module>(module: &M) -> Result<Self, CheckpointError> {
        let mut reader = Reader::default();
        module.valid().visit(&mut reader);
        match reader.error {
            Some(error) => Err(error),
            None => Ok(reader.state),
        }
    }

    /// `module` with these values. All or nothing: either every parameter and running statistic is
    /// given by this state, or the error lists everything that does not fit.
    ///
    /// The result shares nothing with `module` or its clones, keeps which parameters train, and
    /// lies on the same device, on an autodiff one ready to train. PyTorch's `num_batches_tracked`
    /// is passed over.
    ///
    /// # Errors
    /// [`CheckpointError::Mismatch`], or [`CheckpointError::NonFinite`].
    pub fn load_into<M: Module>(&self, module: M) -> Result<M, CheckpointError> {
        self.load_into_with(module, NonFinite::Refuse)
    }

    /// [`load_into`](Self::load_into) with a choice about NaN and infinite values.
    ///
    /// # Errors
    /// As [`load_into`](Self::load_into).
    pub fn load_into_with<M: Module>(&self, module: M, non_finite: NonFinite) -> Result<M, CheckpointError> {
        let parameters = unlearn_curvature::parameters(&module);
        self.check(&parameters)?;
        if non_finite == NonFinite::Refuse {
            self.check_finite()?;
        }
        let mut values = BTreeMap::new();
        for info in parameters {
            let OnDisk { name, shape, layout } = OnDisk::of(&info);
            let Some(tensor) = self.tensors.get(&name) else { continue };
            let data = match layout {
                Layout::Same => tensor.values.clone(),
                Layout::Transposed => transpose(&tensor.values, shape[0], shape[1]),
            };
            values.insert(info.path, TensorData::new(data, info.shape));
        }
        let trains = module.devices().iter().any(burn::tensor::Device::is_autodiff);
        let mut writer = Writer::new(values);
        let loaded = module.valid().map(&mut writer);
        Ok(if trains { loaded.train() } else { loaded })
    }

    /// Names and shapes against a model's, everything in one error.
    fn check(&self, parameters: &[ParamInfo]) -> Result<(), CheckpointError> {
        let needed: BTreeMap<String, Vec<usize>> = parameters
            .iter()
            .map(|info| {
                let OnDisk { name, shape, .. } = OnDisk::of(info);
                (name, shape)
            })
            .collect();
        let mismatch = self.mismatch(&needed);
        if mismatch.is_empty() { Ok(()) } else { Err(CheckpointError::Mismatch(mismatch)) }
    }

    /// In what the names and shapes here are not those `needed`; batch counters are passed over.
    pub(crate) fn mismatch(&self, needed: &BTreeMap<String, Vec<usize>>) -> Mismatch {
        let missing: BTreeSet<&str> =
            needed.keys().filter(|name| !self.tensors.contains_key(*name)).map(String::as_str).collect();
        let left_over: BTreeSet<&str> = self
            .tensors
            .keys()
            .filter(|name| !needed.contains_key(*name) && !is_batch_counter(name))
            .map(String::as_str)
            .collect();
        // Comparing all with all is meant for a handful of slips, not for another network.
        let hint = |name: &str, candidates: &BTreeSet<&str>| {
            if candidates.len() > 512 {
                return None;
            }
            nearest(name, candidates.iter().copied()).map(str::to_owned)
        };
        Mismatch {
            missing: missing.iter().map(|n| ((*n).to_owned(), hint(n, &left_over))).collect(),
            left_over: left_over.iter().map(|n| ((*n).to_owned(), hint(n, &missing))).collect(),
            misshapen: needed
                .iter()
                .filter_map(|(name, shape)| {
                    let tensor = self.tensors.get(name).filter(|t| t.shape != *shape)?;
                    Some((name.clone(), tensor.shape.clone(), shape.clone()))
                })
                .collect(),
        }
    }

    /// Checks that every value is finite.
    ///
    /// # Errors
    /// [`CheckpointError::NonFinite`] with every tensor that has others, and how many.
    pub fn check_finite(&self) -> Result<(), CheckpointError> {
        let tensors: Vec<_> = self
            .tensors
            .iter()
            .map(|(name, t)| (name.clone(), t.values.iter().filter(|v| !v.is_finite()).count()))
            .filter(|(_, count)| *count > 0)
            .collect();
        if tensors.is_empty() { Ok(()) } else { Err(CheckpointError::NonFinite { tensors }) }
    }

    /// Puts a tensor under `name`, which must be new.
    ///
    /// # Errors
    /// [`CheckpointError::Length`] when the number of values is not the product of the shape,
    /// [`CheckpointError::Duplicate`] when the name is taken.
    pub fn insert(&mut self, name: impl Into<String>, tensor: HostTensor) -> Result<(), CheckpointError> {
        let name = name.into();
        let expected = tensor.shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d));
        if expected != Some(tensor.values.len()) {
            return Err(CheckpointError::Length { name, got: tensor.values.len(), shape: tensor.shape });
        }
        if self.tensors.contains_key(&name) {
            return Err(CheckpointError::Duplicate { name });
        }
        self.tensors.insert(name, tensor);
        Ok(())
    }

    /// Takes a tensor out.
    pub fn remove(&mut self, name: &str) -> Option<HostTensor> {
        self.tensors.remove(name)
    }

    /// Takes from `other` the tensors whose names begin with `prefix` and are absent here. So a
    /// checkpoint of torchvision itself, which has no `normalize.mean` and `normalize.std`, is
    /// completed with those of a model made for the data set.
    pub fn complete_from(&mut self, other: &Self, prefix: &str) {
        for (name, tensor) in other.iter().filter(|(name, _)| name.starts_with(prefix)) {
            self.tensors.entry(name.to_owned()).or_insert_with(|| tensor.clone());
        }
    }

    /// The tensor under `name`.
    pub fn get(&self, name: &str) -> Option<&HostTensor> {
        self.tensors.get(name)
    }

    /// The tensor under `name`, to be changed in place.
    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut HostTensor> {
        self.tensors.get_mut(name)
    }

    /// The tensors in order of names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &HostTensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// SHA-256, in hexadecimal, of all names, shapes and bits of values. Equal states have equal
    /// fingerprints whatever file they came from.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for (name, tensor) in &self.tensors {
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name.as_bytes());
            hash.update((tensor.shape.len() as u64).to_le_bytes());
            for &dim in &tensor.shape {
                hash.update((dim as u64).to_le_bytes());
            }
            for value in &tensor.values {
                hash.update(value.to_le_bytes());
            }
        }
        hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a `String` cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// Reads the tensors of a safetensors file; see [`read`](super::read) for masks and metadata.
    ///
    /// # Errors
    /// As [`read`](super::read).
    pub fn read_safetensors(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let limits = super::Limits::default();
        Ok(super::safetensors::read(path.as_ref(), limits)?.state)
    }

    /// Writes a safetensors file that PyTorch reads, whole or not at all; see
    /// [`write`](super::write) for metadata.
    ///
    /// # Errors
    /// As [`write`](super::write).
    pub fn write_safetensors(&self, path: impl AsRef<Path>) -> Result<(), CheckpointError> {
        super::write(path, self, &Metadata::new())
    }

    /// Reads the tensors of a file that `torch.save` wrote; see [`read`](super::read).
    ///
    /// # Errors
    /// As [`read`](super::read).
    pub fn read_torch(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let limits = super::Limits::default();
        Ok(super::torch::read(path.as_ref(), limits)?.state)
    }
}
