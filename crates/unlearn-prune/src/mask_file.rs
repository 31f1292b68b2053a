//! Masks on disk: one safetensors file, eight weights a byte.
//!
//! Each parameter is a `U8` tensor of its path's name with ⌈n/8⌉ bytes: weight `i` (row-major) is
//! bit `i mod 8` (least significant first) of byte `i / 8`, set means kept, and the bits past the
//! end are zero. Shapes and counts stand in the metadata under `unlearn.mask` as JSON, so that the
//! same mask always gives the same bytes.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use unlearn_train::{TrainError, commit};

use crate::{MaskSet, PruneError};

const KEY: &str = "unlearn.mask";
const VERSION: u32 = 1;
/// Far above any mask (32 thousand million weights); a larger file is not one of ours.
const LARGEST: u64 = 1 << 32;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: u32,
    masks: BTreeMap<String, Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    shape: Vec<usize>,
    kept: usize,
}

impl MaskSet {
    /// Writes the masks, bit-packed, into one safetensors file. The file is replaced as a whole or
    /// not at all.
    ///
    /// # Errors
    /// [`PruneError::Io`] when the folder is missing or cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), PruneError> {
        let path = path.as_ref();
        let io = |reason: String| PruneError::Io { path: path.to_owned(), reason };
        write_whole(path, &self.to_bytes().map_err(io)?)
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`PruneError::Io`] when the file cannot be read; [`PruneError::MaskFile`] for what is no regular
    /// file, and for anything in it that is not exactly as `save` writes it: another type, length, count
    /// or name, a bit past the end.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, PruneError> {
        let path = path.as_ref();
        let io = |e: std::io::Error| PruneError::Io { path: path.to_owned(), reason: e.to_string() };
        let about = std::fs::metadata(path).map_err(io)?;
        // A pipe would be waited for.
        if !about.is_file() {
            return Err(damaged(path, "no regular file", "a mask file written by this library"));
        }
        let length = about.len();
        if length > LARGEST {
            return Err(damaged(path, format!("{length} bytes"), format!("at most {LARGEST}")));
        }
        Self::from_bytes(&std::fs::read(path).map_err(io)?, path)
    }

    fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let masks = self
            .iter()
            .map(|(path, mask)| (path.to_string(), Entry { shape: mask.shape().to_vec(), kept: mask.kept() }))
            .collect();
        let header = serde_json::to_string(&Header { version: VERSION, masks }).map_err(|e| e.to_string())?;
        let packed: Vec<_> = self.iter().map(|(path, mask)| (path.as_str(), mask.packed())).collect();
        let views: Vec<_> = packed
            .iter()
            .map(|(path, bits)| Ok((*path, TensorView::new(Dtype::U8, vec![bits.len()], bits)?)))
            .collect::<Result<_, safetensors::SafeTensorError>>()
            .map_err(|e| e.to_string())?;
        safetensors::serialize(views, Some(HashMap::from([(KEY.to_owned(), header)])))
            .map_err(|e| e.to_string())
    }

    fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, PruneError> {
        let whole = "a mask file written by this library";
        let (_, metadata) =
            SafeTensors::read_metadata(bytes).map_err(|e| damaged(path, e.to_string(), whole))?;
        let Some(header) = metadata.metadata().as_ref().and_then(|m| m.get(KEY)) else {
            return Err(damaged(path, format!("no \"{KEY}\" in the metadata"), whole));
        };
        let header: Header =
            serde_json::from_str(header).map_err(|e| damaged(path, format!("\"{KEY}\": {e}"), whole))?;
        if header.version != VERSION {
            return Err(PruneError::MaskFile {
                path: path.to_owned(),
                got: format!("format version {}", header.version),
                expected: format!("version {VERSION}"),
                mend: "Read it with the release that wrote it".into(),
            });
        }
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| damaged(path, e.to_string(), whole))?;
        if let Some(name) = tensors.names().into_iter().find(|n| !header.masks.contains_key(*n)) {
            return Err(damaged(path, format!("tensor \"{name}\" has no entry in \"{KEY}\""), whole));
        }
        let mut set = Self::new();
        for (name, entry) in header.masks {
            let tensor = tensors
                .tensor(&name)
                .map_err(|_| damaged(path, format!("\"{name}\" is named but not there"), whole))?;
            if tensor.dtype() != Dtype::U8 {
                return Err(damaged(path, format!("\"{name}\" has type {:?}", tensor.dtype()), "U8"));
            }
            let Some(total) = entry.shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d)) else {
                return Err(damaged(path, format!("\"{name}\" has shape {:?}", entry.shape), whole));
            };
            let (got, expected) = (tensor.shape(), [total.div_ceil(8)]);
            if got != expected {
                return Err(damaged(
                    path,
                    format!("\"{name}\" has {got:?} bytes"),
                    format!("{expected:?} for shape {:?}", entry.shape),
                ));
            }
            let Some(keep) = unpack(tensor.data(), total) else {
                return Err(damaged(path, format!("\"{name}\" has bits past its end"), "zeros there"));
            };
            let kept = keep.iter().filter(|&&k| k).count();
            if kept != entry.kept {
                return Err(damaged(
                    path,
                    format!("\"{name}\" keeps {kept} weights"),
                    format!("{}, as its entry says", entry.kept),
                ));
            }
            set.insert(name.as_str(), entry.shape, keep)?;
        }
        Ok(set)
    }
}

/// Writes a file so that there is either the old one or the new one, whole.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), PruneError> {
    commit::write_whole(path, bytes).map_err(|error| match error {
        TrainError::Io { path, source } => PruneError::Io { path, reason: source.to_string() },
        other => other.into(),
    })
}

fn damaged(path: &Path, got: impl Into<String>, expected: impl Into<String>) -> PruneError {
    PruneError::MaskFile {
        path: path.to_owned(),
        got: got.into(),
        expected: expected.into(),
        mend: "The file is damaged or of another kind: write it again".into(),
    }
}

/// `None` when a bit past the end is set.
fn unpack(bytes: &[u8], total: usize) -> Option<Vec<bool>> {
    let bit = |i: usize| bytes[i / 8] >> (i % 8) & 1 == 1;
    if (total..bytes.len() * 8).any(bit) {
        return None;
    }
    Some((0..total).map(bit).collect())
}
