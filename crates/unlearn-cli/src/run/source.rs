//! A whole network at a path: a folder of ours, a checkpoint file, or a folder of Hugging Face.

use std::path::{Path, PathBuf};

use unlearn::models::ModelConfig;
use unlearn::models::checkpoint::{self, Checkpoint, HostTensor, MaskMap, Metadata};
use unlearn::models::vit::{HuggingFaceVit, from_timm, has_timm_names};

use super::artefact::MODEL;
use super::provenance::Provenance;
use crate::error::Failure;

/// What was found.
#[derive(Debug)]
pub(crate) struct Source {
    /// Under our names, whatever names it had.
    pub(crate) checkpoint: Checkpoint,
    /// The file that the weights were in, or the folder of Hugging Face.
    pub(crate) file: PathBuf,
    /// Whether the names were timm's.
    pub(crate) timm: bool,
}

/// The file that `path` stands for: of a stage, of the single stage that `train`, `prune` and `forget` make, or itself.
pub(crate) fn file(path: &Path) -> PathBuf {
    if is_hugging_face(path) {
        return path.to_owned();
    }
    [path.join(MODEL), path.join("model").join(MODEL)]
        .into_iter()
        .find(|p| p.exists())
        .unwrap_or(path.to_owned())
}

/// Folders of our runs have a `config.json` too, and a `LOCK`.
fn is_hugging_face(path: &Path) -> bool {
    path.join("config.json").is_file() && !path.join("LOCK").exists()
}

/// Reads it. The metadata name the architecture where anything does.
pub(crate) fn read(path: &Path) -> Result<Source, Failure> {
    let file = file(path);
    if file.is_dir() && is_hugging_face(&file) {
        return hugging_face(file);
    }
    let mut checkpoint = checkpoint::read(&file)?;
    let timm = has_timm_names(&checkpoint.state);
    if timm {
        checkpoint.state = from_timm(&checkpoint.state)?;
    }
    Ok(Source { checkpoint, file, timm })
}

fn hugging_face(folder: PathBuf) -> Result<Source, Failure> {
    let HuggingFaceVit { config, mean, std, mut state, .. } = HuggingFaceVit::read(&folder)?;
    for (name, values) in [("normalize.mean", mean), ("normalize.std", std)] {
        state.insert(name, HostTensor { shape: vec![values.len()], values })?;
    }
    let metadata = Metadata::new().with_model(&ModelConfig::Vit(config));
    let metadata = Provenance::of(&folder, None)?.write(metadata);
    let checkpoint = Checkpoint { state, masks: MaskMap::default(), metadata };
    Ok(Source { checkpoint, file: folder, timm: false })
}
