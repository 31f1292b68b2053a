//! A whole network at a path: a folder of ours, a checkpoint file, or a folder of Hugging Face.

use std::path::{Path, PathBuf};

use unlearn::burn::module::Module;
use unlearn::models::ModelConfig;
use unlearn::models::checkpoint::{self, Checkpoint, HostTensor, MaskMap, Metadata};
use unlearn::models::vit::{HuggingFaceVit, from_timm, has_timm_names};
use unlearn::prune::MaskSet;
use unlearn::train::commit::Commit;

use super::artefact::{MASK, MODEL};
use super::origin::check_mask;
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

impl Source {
    /// A file of the stage that the weights are from. What lies beside a stage's model belongs to it; other files stand
    /// for themselves.
    pub(super) fn beside(&self, name: &str) -> Option<PathBuf> {
        let in_stage = self.file.file_name().is_some_and(|file| file == MODEL);
        Some(self.file.with_file_name(name)).filter(|path| in_stage && path.exists())
    }

    /// The mask of the network, whose weights `model` has: the stage's or, where there is none, what the file itself
    /// holds. It must be the one that the weights were made under, where they say so.
    pub(crate) fn mask<M: Module>(&self, model: &M) -> Result<Option<MaskSet>, Failure> {
        let place = self.file.display().to_string();
        let in_file = self.checkpoint.masks.for_module(model).map_err(|error| named(error.into(), &place))?;
        let mask = match self.beside(MASK) {
            Some(path) => Some(MaskSet::load(&path)?),
            None if in_file.is_empty() => None,
            None => {
                let mut set = MaskSet::new();
                for (path, mask) in in_file {
                    set.insert(path, mask.shape, mask.keep)?;
                }
                Some(set)
            }
        };
        if let Some(mask) = &mask {
            mask.check(model)?;
        }
        check_mask(&self.checkpoint.metadata, mask.as_ref(), &place)?;
        Ok(mask)
    }
}

/// A library's failure with the file in front, where it does not name one itself.
pub(super) fn named(failure: Failure, file: &str) -> Failure {
    if failure.place.contains(file) { failure } else { failure.within(file) }
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
    // A stage's files belong together: a changed or missing one is found before any is used.
    if let Some(stage) = file.parent().filter(|folder| file != path && folder.join("COMMIT.json").exists()) {
        Commit::open(stage)?.verify()?;
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
