//! Checkpoints: one door in ([`read`]), one door out ([`write()`]).
//!
//! Files come from strangers, so nothing in them is believed: sizes are checked before anything is
//! allocated, element types are converted or refused, names are unique, and a damaged file is an
//! error that names what is wrong. No code in a file is ever run. The formats and what is taken
//! from each are described in `docs/checkpoints.md`.

mod archive;
mod assemble;
pub(crate) mod error;
pub(crate) mod file;
pub(crate) mod json;
mod mask;
mod metadata;
pub(crate) mod names;
mod safetensors;
mod state;
mod torch;
mod torch_write;
mod transfer;

use std::path::Path;

pub(crate) use error::quote;
pub use error::{CheckpointError, Mismatch};
pub use mask::{Mask, MaskMap};
pub use metadata::Metadata;
pub use state::{HostTensor, NonFinite, StateDict};

/// What a checkpoint file holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Checkpoint {
    /// The tensors; pruned ones with their mask applied.
    pub state: StateDict,
    /// The masks of pruned tensors.
    pub masks: MaskMap,
    /// What the file says of itself.
    pub metadata: Metadata,
}

/// How much is read at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file, and of the tensors that it claims to hold.
    pub max_bytes: u64,
}

impl Default for Limits {
    /// Eight gigabytes: ten times the largest model here.
    fn default() -> Self {
        Self { max_bytes: 8 << 30 }
    }
}

/// Reads a checkpoint; its first bytes tell the format.
///
/// * safetensors;
/// * what `torch.save` writes since PyTorch 0.1.10 (`.pt`, `.pth`, and the `.pth.tar` that many
///   scripts call it): a state dict, or a dictionary with one under `state_dict`.
///
/// In both, a prefix `module.` that all names share is dropped, `num_batches_tracked` is passed
/// over, and `X_orig` with `X_mask`, as PyTorch's pruning leaves them, become the masked `X` and a
/// mask.
///
/// # Errors
/// Every [`CheckpointError`] about files: not there, not a file, too large, damaged, of another
/// format, other element types, names that occur twice. Values need not be finite here; loading
/// them into a model checks that.
pub fn read(path: impl AsRef<Path>) -> Result<Checkpoint, CheckpointError> {
    read_with(path, Limits::default())
}

/// [`read`] with other limits.
///
/// # Errors
/// As [`read`].
pub fn read_with(path: impl AsRef<Path>, limits: Limits) -> Result<Checkpoint, CheckpointError> {
    let path = path.as_ref();
    match file::sniff(path, limits)? {
        file::Format::Safetensors => safetensors::read(path, limits),
        file::Format::Torch => torch::read(path, limits),
    }
}

/// Writes a safetensors file that PyTorch reads. The same state and metadata give the same bytes.
/// The file appears whole (written beside, flushed to disk, renamed) or not at all.
///
/// # Errors
/// [`CheckpointError::NonFinite`] before anything is written, or [`CheckpointError::Io`].
pub fn write(path: impl AsRef<Path>, state: &StateDict, metadata: &Metadata) -> Result<(), CheckpointError> {
    state.check_finite()?;
    file::write_whole(path.as_ref(), |out| safetensors::encode(out, state, metadata))
}

/// Writes a state dict that `torch.load` reads, with `weights_only=True` too. The same state gives the same bytes. The
/// file appears whole or not at all. Metadata has no place in it: [`write()`] is the format that keeps everything.
///
/// # Errors
/// As [`write()`].
pub fn write_torch(path: impl AsRef<Path>, state: &StateDict) -> Result<(), CheckpointError> {
    state.check_finite()?;
    file::write_whole(path.as_ref(), |out| torch_write::encode(out, state))
}

#[cfg(test)]
mod tests;
