//! A whole network at a path: a folder of ours, a checkpoint file, or a folder of Hugging Face.

mod folder;

use std::path::{Path, PathBuf};

use unlearn::burn::module::Module;
use unlearn::data::{Seed, Stream};
use unlearn::models::checkpoint::{self, Checkpoint, HostTensor, Metadata};
use unlearn::models::vit::{HuggingFaceVit, from_timm, has_timm_names, masks_from_timm};
use unlearn::models::{Architecture, MAX_CHANNELS, ModelConfig, StateDict};
use unlearn::prune::MaskSet;
use unlearn::train::TrainError;
use unlearn::train::commit::{COMMIT, Commit};

use super::artefact::{ADAPTER, MASK, MODEL};
use super::origin::{Said, UNMASKED, check_mask, check_model};
use super::provenance::Provenance;
use crate::error::{Exit, Failure};
use crate::recipe::Recipe;

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

    /// The file of its mask, where that is one of its own: in a stage, and in a folder of Hugging Face.
    fn mask_file(&self) -> Option<PathBuf> {
        if self.is_folder() {
            return Some(self.file.join(MASK)).filter(|path| path.exists());
        }
        self.beside(MASK)
    }

    /// The folder of adapters that were merged into it, whole as it was committed.
    pub(crate) fn adapter(&self) -> Result<Option<PathBuf>, Failure> {
        let Some(folder) = self.beside(ADAPTER) else { return Ok(None) };
        // Whoever named the file has not had the stage looked at.
        check_stage(&self.file)?;
        Ok(Some(folder))
    }

    /// The network that has the weights `state`, taken out of this. Constants of the data that it does not have are
    /// anything: they are the data set's, once there is one.
    pub(crate) fn network<A: Architecture>(
        &self,
        architecture: &A,
        mut state: StateDict,
    ) -> Result<A::Model, Failure> {
        let channels = channels(&state);
        check_size(architecture, &state, channels, &self.file)?;
        let mut rng = Seed(0).rng(Stream::Init, 0, 0);
        let (mean, std) = (vec![0.5; channels], vec![0.25; channels]);
        let fresh = architecture.build(&mean, &std, &crate::device::any()?, &mut rng)?;
        state.complete_from(&StateDict::of(&fresh)?, "normalize.");
        let place = self.file.display().to_string();
        state.load_into(fresh).map_err(|error| Failure::from(error).within(&place))
    }

    fn is_folder(&self) -> bool {
        self.file.is_dir()
    }

    /// Whether the network has a mask, be it the right one or not.
    pub(crate) fn has_mask(&self) -> bool {
        self.mask_file().is_some() || !self.checkpoint.masks.is_empty()
    }

    /// The mask of the network, whose weights `model` has: the stage's or, where there is none, what the file itself
    /// holds. It must be the one that the weights were made under, where they say so.
    pub(crate) fn mask<M: Module>(&self, model: &M) -> Result<Option<MaskSet>, Failure> {
        let place = self.file.display().to_string();
        let in_file = self.checkpoint.masks.for_module(model).map_err(|error| named(error.into(), &place))?;
        let mask = match self.mask_file() {
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
            // Whoever trains on in such a folder knows nothing of our mask, and nothing in its files would tell.
            if self.is_folder() && StateDict::of(&mask.apply(model)?)? != StateDict::of(model)? {
                return Err(grown(&self.file.join(MASK)));
            }
        }
        check_mask(&self.checkpoint.metadata, mask.as_ref(), &place)?;
        Ok(mask)
    }
}

/// Of the pictures that the network with these weights takes: as many as it has constants for, or its first kernels read.
pub(crate) fn channels(state: &StateDict) -> usize {
    let first = ["normalize.mean", "conv1.weight", "vit.embeddings.patch_embeddings.projection.weight"];
    let found = first.iter().find_map(|name| state.get(name));
    found.and_then(|tensor| tensor.shape.get(usize::from(tensor.shape.len() > 1)).copied()).unwrap_or(3)
}

/// What a file says of itself asks for memory: it must hold the weights, roughly, of the network that is to be built.
pub(crate) fn check_size(
    architecture: &impl Architecture,
    state: &StateDict,
    channels: usize,
    file: &Path,
) -> Result<(), Failure> {
    // So that a smaller network still gets its error with every name that is missing.
    const SPARE: u64 = 100_000_000;
    let mismatch = |got: String, expected: String| {
        let mend = "name the architecture that the file was made with, or make it anew";
        Err(Failure::new(
            "E_CKPT_MISMATCH",
            Exit::Checkpoint,
            file.display().to_string(),
            got,
            expected,
            mend,
        ))
    };
    if channels > MAX_CHANNELS {
        return mismatch(format!("pictures of {channels} channels"), format!("at most {MAX_CHANNELS}"));
    }
    let held: u64 = state.iter().map(|(_, tensor)| tensor.values.len() as u64).sum();
    let wanted = architecture.config().num_parameters();
    if wanted > held.saturating_mul(4).saturating_add(SPARE) {
        return mismatch(format!("{held} numbers"), format!("{wanted}, the parameters of its architecture"));
    }
    Ok(())
}

/// The files of a stage belong together: a changed or missing one is found before `file`, one of them, is used.
fn check_stage(file: &Path) -> Result<(), Failure> {
    match file.parent().filter(|folder| folder.join(COMMIT).exists()) {
        Some(stage) => Commit::open(stage).and_then(|commit| commit.verify()).map_err(altered),
        None => Ok(()),
    }
}

/// The stage is not what is being written here, but what a model is taken from.
fn altered(error: TrainError) -> Failure {
    let about_files = matches!(error, TrainError::RunDirectory { .. });
    let failure = Failure::from(error);
    if !about_files {
        return failure;
    }
    let mend = "a file of it was cut short or altered: make the stage anew, or import the model again";
    Failure { code: "E_STAGE", exit: Exit::Checkpoint, mend: mend.into(), ..failure }
}

fn grown(mask: &Path) -> Failure {
    Failure::new(
        "E_MASK_FILE",
        Exit::Checkpoint,
        mask.display().to_string(),
        "a mask that prunes weights which are not zero",
        "zeros wherever it prunes",
        format!("the weights were changed without it: remove {MASK} to take the network as a dense one"),
    )
}

/// A library's failure with the file in front, where it does not name one itself.
pub(crate) fn named(failure: Failure, file: &str) -> Failure {
    if failure.place.contains(file) { failure } else { failure.within(file) }
}

/// The file that `path` stands for: of a stage, of the single stage that `train`, `prune` and `forget` make, or itself.
pub(crate) fn file(path: &Path) -> PathBuf {
    if HuggingFaceVit::is_folder(path) {
        return path.to_owned();
    }
    [path.join(MODEL), path.join("model").join(MODEL)]
        .into_iter()
        .find(|p| p.exists())
        .unwrap_or(path.to_owned())
}

/// Whether it can be read at all, is the recipe's and finite: asked before the pictures, which take longer, are.
/// What it says of its data is left to be compared.
pub(crate) fn check(path: &Path, recipe: &Recipe) -> Result<Said, Failure> {
    let Source { checkpoint, file, .. } = read(path)?;
    let place = file.display().to_string();
    check_model(&checkpoint.metadata, &recipe.model, &place)?;
    checkpoint.state.check_finite().map_err(|error| named(error.into(), &place))?;
    Ok(Said::of(&checkpoint.metadata, &place))
}

/// Reads it. The metadata name the architecture where anything does.
pub(crate) fn read(path: &Path) -> Result<Source, Failure> {
    let file = file(path);
    if file.is_dir() {
        return if HuggingFaceVit::is_folder(&file) {
            hugging_face(file)
        } else {
            Err(folder::no_model(&file))
        };
    }
    if file != path {
        check_stage(&file)?;
    }
    let mut checkpoint = checkpoint::read(&file)?;
    let timm = has_timm_names(&checkpoint.state);
    if timm {
        checkpoint = with_our_names(checkpoint)?;
    }
    Ok(Source { checkpoint, file, timm })
}

/// A file under timm's names. Of its masks, those that only came with a fused layer are left out again.
fn with_our_names(checkpoint: Checkpoint) -> Result<Checkpoint, Failure> {
    let Checkpoint { state, masks, metadata } = checkpoint;
    let unmasked = metadata.get(UNMASKED).and_then(|text| serde_json::from_str::<Vec<String>>(text).ok());
    let unmasked = unmasked.unwrap_or_default();
    let masks = masks_from_timm(&masks)?;
    let own = masks.iter().filter(|(name, mask)| {
        !(unmasked.iter().any(|unmasked| unmasked == name) && mask.keep.iter().all(|&keep| keep))
    });
    let said = metadata.iter().filter(|(key, _)| *key != UNMASKED);
    Ok(Checkpoint {
        state: from_timm(&state)?,
        masks: own.map(|(name, mask)| (name.to_owned(), mask.clone())).collect(),
        metadata: said.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
    })
}

fn hugging_face(folder: PathBuf) -> Result<Source, Failure> {
    let HuggingFaceVit { config, mean, std, mut state, masks, .. } = HuggingFaceVit::read(&folder)?;
    for (name, values) in [("normalize.mean", mean), ("normalize.std", std)] {
        state.insert(name, HostTensor { shape: vec![values.len()], values })?;
    }
    let metadata = Metadata::new().with_model(&ModelConfig::Vit(config));
    let metadata = Provenance::of(&folder, None)?.with_mask(&folder)?.write(metadata);
    let checkpoint = Checkpoint { state, masks, metadata };
    Ok(Source { checkpoint, file: folder, timm: false })
}
