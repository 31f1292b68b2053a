//! A trained model with its mask and what is known of it, in memory and on disk.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use unlearn::models::checkpoint::{self, Metadata};
use unlearn::models::lora::{CONFIG_FILE, WEIGHTS_FILE};
use unlearn::models::{Adapted, Architecture, Classifier, StateDict};
use unlearn::prune::MaskSet;
use unlearn::train::EpochRecord;

use super::origin::{MASK_ID, SAMPLES, check_origin, compare_constants, mask_id, samples};
use super::provenance::Provenance;
use super::source::{self, named};
use super::world::World;
use crate::error::{Exit, Failure};
use crate::regular;

pub(crate) const MODEL: &str = "model.safetensors";
pub(crate) const MASK: &str = "mask.safetensors";
pub(crate) const RECORD: &str = "stage.json";
/// The folder, inside a stage's, of the adapters that were merged into its model.
pub(crate) const ADAPTER: &str = "adapter";
const SCHEMA: &str = "unlearn/stage/v1";
/// Hundreds of thousands of epochs.
const LARGEST_RECORD: u64 = 64 << 20;
/// Metadata of a model: its stage.
const STAGE: &str = "unlearn.stage";

/// What `stage.json` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    pub(crate) schema: String,
    /// `original`, or the label of the method.
    pub(crate) stage: String,
    /// The method's name; absent for a model that was only trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<String>,
    /// The network that the method was given, as [`Trained::network`] names it; absent for one that was only trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) network: Option<String>,
    /// The method's hyperparameters, defaults included; absent for a model that was only trained.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub(crate) hyperparameters: serde_json::Value,
    /// Whether samples of the forget set had a part in the weights.
    pub(crate) forget_influence: Influence,
    /// Share of the prunable weights that the mask removes.
    pub(crate) sparsity: f64,
    /// The same of the network that the method started from, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) network_sparsity: Option<f64>,
    /// Identifier of the partition that the method was given; absent for a model that never forgot.
    /// It stands here and not in the model's metadata, because models are passed on and small forget
    /// sets can be found from it by trying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) forget: Option<String>,
    /// What the weights began as, where that was not drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pretrained: Option<Provenance>,
    /// The seeds that the weights depend on.
    #[serde(default)]
    pub(crate) seeds: BTreeMap<String, u64>,
    /// Wall-clock seconds.
    pub(crate) seconds: f64,
    /// Optimizer steps.
    pub(crate) steps: u64,
    /// What the method measured of itself.
    #[serde(default)]
    pub(crate) diagnostics: BTreeMap<String, f64>,
    /// Switches on which the method follows published code instead of its definition.
    #[serde(default)]
    pub(crate) reference: Vec<String>,
    /// One record an epoch, where the stage trained.
    #[serde(default)]
    pub(crate) history: Vec<EpochRecord>,
}

/// Whether samples of the forget set had a part in an artefact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Influence {
    /// It was trained on them.
    Yes,
    /// It never saw them.
    No,
    /// A method tried to remove it; how far it did is what the evaluation measures.
    Unknown,
}

impl Record {
    pub(crate) fn new(stage: impl Into<String>, forget_influence: Influence, sparsity: f64) -> Self {
        Self {
            schema: SCHEMA.into(),
            stage: stage.into(),
            method: None,
            network: None,
            hyperparameters: serde_json::Value::Null,
            forget_influence,
            sparsity,
            network_sparsity: None,
            forget: None,
            pretrained: None,
            seeds: BTreeMap::new(),
            seconds: 0.0,
            steps: 0,
            diagnostics: BTreeMap::new(),
            reference: Vec::new(),
            history: Vec::new(),
        }
    }
}

/// A model on a plain device, with its mask and record.
#[derive(Debug, Clone)]
pub(crate) struct Trained<M> {
    pub(crate) model: M,
    pub(crate) mask: Option<MaskSet>,
    pub(crate) record: Record,
    /// Weights after some epochs, for pruned networks to rewind to.
    pub(crate) early: BTreeMap<u64, M>,
    /// The model before its adapters were merged, where this process trained them; it is written and not read back.
    pub(crate) adapted: Option<Adapted<M>>,
}

impl<M: Classifier> Trained<M> {
    /// Which network this is, or was made of by a method: fingerprints of the weights and the mask of the original. `None`
    /// where the record of a method's result does not say.
    pub(crate) fn network(&self) -> Result<Option<String>, Failure> {
        if self.record.network.is_some() || self.record.stage != super::ORIGINAL {
            return Ok(self.record.network.clone());
        }
        let weights = StateDict::of(&self.model)?.fingerprint();
        Ok(Some(match &self.mask {
            Some(mask) => format!("{weights} {}", mask.fingerprint()),
            None => weights,
        }))
    }

    /// The files of a stage folder. `scratch` is a folder for the writers.
    pub(crate) fn files(&self, world: &World, scratch: &Path) -> Result<Vec<(String, Vec<u8>)>, Failure> {
        let mut metadata = Metadata::new()
            .with_model(&world.recipe.model)
            .with_data_fingerprint(world.train.fingerprint())
            .with_split_id(world.split.id())
            .with(SAMPLES, samples(&world.train))
            .with(STAGE, &self.record.stage)
            .with(MASK_ID, mask_id(self.mask.as_ref()))
            .with("unlearn.version", env!("CARGO_PKG_VERSION"));
        if let Some(provenance) = &self.record.pretrained {
            metadata = provenance.write(metadata);
        }
        let mut files = vec![(MODEL.to_owned(), model_bytes(&self.model, &metadata, scratch)?)];
        for (epoch, model) in &self.early {
            files.push((early_name(*epoch), model_bytes(model, &metadata, scratch)?));
        }
        if let Some(mask) = &self.mask {
            let path = scratch.join(MASK);
            mask.save(&path)?;
            files.push((MASK.to_owned(), take(&path)?));
        }
        if let Some(adapted) = &self.adapted {
            files.extend(adapter_files(adapted, scratch)?);
        }
        let record = serde_json::to_vec_pretty(&self.record)
            .map_err(|error| Failure::io(&scratch.join(RECORD), &error.into()))?;
        files.push((RECORD.to_owned(), record));
        Ok(files)
    }
}

pub(crate) fn early_name(epoch: u64) -> String {
    format!("rewind-{epoch}.safetensors")
}

fn model_bytes<M: Classifier>(model: &M, metadata: &Metadata, scratch: &Path) -> Result<Vec<u8>, Failure> {
    let path = scratch.join(MODEL);
    checkpoint::write(&path, &StateDict::of(model)?, metadata)?;
    take(&path)
}

/// The folder of adapters inside a stage's: names and contents.
pub(crate) fn adapter_files<M: Classifier>(
    adapted: &Adapted<M>,
    scratch: &Path,
) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let folder = scratch.join(ADAPTER);
    adapted.save_peft(&folder, None)?;
    let file = |name| Ok((format!("{ADAPTER}/{name}"), take(&folder.join(name))?));
    [CONFIG_FILE, WEIGHTS_FILE].into_iter().map(file).collect()
}

/// The content of a file that a library wrote, and no file any more.
pub(crate) fn take(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = std::fs::read(path).map_err(|error| Failure::io(path, &error))?;
    std::fs::remove_file(path).map_err(|error| Failure::io(path, &error))?;
    Ok(bytes)
}

/// Reads a stage folder, or a checkpoint file from elsewhere, into a fresh model, after checking
/// that it belongs to the recipe's model, data and split.
pub(crate) fn load<A: Architecture>(
    path: &Path,
    world: &World,
    fresh: A::Model,
) -> Result<Trained<A::Model>, Failure> {
    let place = source::file(path).display().to_string();
    let mut found = source::read(path).map_err(|e| named(e, &place))?;
    check_origin(&found.checkpoint.metadata, world, &place)?;
    let mut state = std::mem::take(&mut found.checkpoint.state);
    compare_constants(&state, world, &place);
    state.complete_from(&StateDict::of(&fresh)?, "normalize.");
    let model = state.load_into(fresh).map_err(|e| named(e.into(), &place))?;
    let mask = found.mask(&model)?;
    let sparsity = mask.as_ref().map_or(0.0, MaskSet::sparsity);
    let metadata = &found.checkpoint.metadata;
    let mut record = match found.beside(RECORD) {
        Some(path) => read_record(&path)?,
        None => match metadata.get(STAGE) {
            Some(stage) if stage != super::ORIGINAL => Record::new(stage, Influence::Unknown, sparsity),
            _ => Record::new(super::ORIGINAL, Influence::Yes, sparsity),
        },
    };
    record.pretrained = record.pretrained.or_else(|| Provenance::read(metadata));
    Ok(Trained { model, mask, record, early: BTreeMap::new(), adapted: None })
}

/// The early weights beside a stage's model.
pub(crate) fn early<A: Architecture>(
    folder: &Path,
    world: &World,
    fresh: impl Fn() -> A::Model,
) -> Result<BTreeMap<u64, A::Model>, Failure> {
    let mut early = BTreeMap::new();
    for epoch in super::early_epochs(&world.recipe) {
        let file = folder.join(early_name(epoch));
        if file.exists() {
            early.insert(epoch, load::<A>(&file, world, fresh())?.model);
        }
    }
    Ok(early)
}

fn read_record(path: &Path) -> Result<Record, Failure> {
    let text = regular::read(path, LARGEST_RECORD).map_err(|error| Failure::io(path, &error))?;
    serde_json::from_slice(&text).map_err(|error| {
        Failure::new(
            "E_STAGE",
            Exit::Checkpoint,
            path.display().to_string(),
            error.to_string(),
            SCHEMA,
            "the file was changed or is of another version: make the model anew",
        )
    })
}
