//! Whether a model belongs to the recipe, mask and forget set that it is used with.

use std::path::Path;

use unlearn::data::{Dataset, Normalization};
use unlearn::models::checkpoint::Metadata;
use unlearn::models::{ModelConfig, StateDict};
use unlearn::prune::MaskSet;

use super::artefact::{MASK, MODEL, RECORD, Record};
use super::world::World;
use crate::error::{Exit, Failure};

/// Metadata of a model: SHA-256 of the mask that it was trained under, or `none`.
pub(crate) const MASK_ID: &str = "unlearn.mask";

/// Metadata of a model: how many samples and classes its training data have. A digest of the labels would tell more apart,
/// but models are passed on, and who knows all labels but one could find that one from it by trying.
pub(crate) const SAMPLES: &str = "unlearn.samples";

/// The text under [`SAMPLES`].
pub(crate) fn samples(train: &Dataset) -> String {
    format!("{} samples of {} classes", train.len(), train.num_classes())
}

/// Metadata of a file under timm's names: the weights that have no mask of their own, but lie in a layer that has one.
pub(crate) const UNMASKED: &str = "unlearn.unmasked";

/// What a model says of its data that is known of data before their pictures are decoded.
#[derive(Debug)]
pub(crate) struct Said {
    place: String,
    samples: Option<String>,
}

impl Said {
    pub(super) fn of(metadata: &Metadata, place: &str) -> Self {
        Self { place: place.to_owned(), samples: metadata.get(SAMPLES).map(str::to_owned) }
    }

    /// Refuses a model of more or fewer samples than `train`, or its outline, has.
    pub(super) fn check(&self, train: &Dataset) -> Result<(), Failure> {
        match &self.samples {
            Some(said) if *said != samples(train) => {
                Err(other_data(&self.place, said, &samples(train), train))
            }
            _ => Ok(()),
        }
    }
}

fn other_data(place: &str, said: &str, here: &str, train: &Dataset) -> Failure {
    Failure::new(
        "E_DATASET_MISMATCH",
        Exit::Data,
        place,
        format!("a model trained on data with {said}"),
        format!("{here}, as {} has", train.name()),
        "use the data (order, number and pictures) that the model was trained on",
    )
}

/// A model is only unlearned and judged on the data and split that it was trained on.
pub(crate) fn check_origin(metadata: &Metadata, world: &World, place: &str) -> Result<(), Failure> {
    check_model(metadata, &world.recipe.model, place)?;
    match metadata.data_fingerprint() {
        None => tracing::warn!(file = place, "does not say which data it was trained on; not checked"),
        Some(said) if said == world.train.fingerprint() => {}
        Some(said) => {
            let [said, here] = [said, world.train.fingerprint()].map(|id| format!("fingerprint {id}"));
            return Err(other_data(place, &said, &here, &world.train));
        }
    }
    match metadata.split_id() {
        Some(said) if said != world.split.id() => Err(Failure::new(
            "E_SPLIT",
            Exit::Checkpoint,
            place,
            format!("a model trained under the split {said}"),
            format!("{}, that of the recipe", world.split.id()),
            "use the recipe's [split] and seeds.split that the model was trained under",
        )),
        _ => Ok(()),
    }
}

/// A model scales its pictures by constants of its own; those of new models are the data's.
pub(crate) fn compare_constants(model: &StateDict, world: &World, place: &str) {
    let Normalization { mean, std } = world.train.normalization();
    let other = |name: &str, here: &[f32]| model.get(name).is_some_and(|there| there.values != here);
    if other("normalize.mean", mean) || other("normalize.std", std) {
        tracing::warn!(
            file = place,
            "scales pictures by other constants than these data have; a model trained anew gets those of the data"
        );
    }
}

/// A model that says what it is is the recipe's.
pub(super) fn check_model(metadata: &Metadata, expected: &ModelConfig, place: &str) -> Result<(), Failure> {
    match metadata.model()? {
        Some(model) if model != *expected => Err(Failure::new(
            "E_CKPT_MODEL",
            Exit::Checkpoint,
            place,
            format!("{model:?}"),
            format!("the recipe's {expected:?}"),
            "use the recipe that the model was trained by, or correct its [model]",
        )),
        _ => Ok(()),
    }
}

/// What a model of ours says of its mask.
pub(crate) fn mask_id(mask: Option<&MaskSet>) -> String {
    mask.map_or_else(|| "none".to_owned(), MaskSet::fingerprint)
}

/// A model of ours stands with the mask that it was trained under: without it a method would fill the
/// pruned weights again, and no zero says that it was pruned.
pub(crate) fn check_mask(metadata: &Metadata, mask: Option<&MaskSet>, place: &str) -> Result<(), Failure> {
    let Some(said) = metadata.get(MASK_ID) else { return Ok(()) };
    let there = mask_id(mask);
    if said == there {
        return Ok(());
    }
    let words =
        |id: &str| if id == "none" { "no mask".to_owned() } else { format!("a mask with SHA-256 {id}") };
    Err(Failure::new(
        "E_MASK_FILE",
        Exit::Checkpoint,
        place,
        format!("{} beside the model", words(&there)),
        format!("{}, under which it was made", words(said)),
        format!("keep {MODEL}, {MASK} and {RECORD} together, and name their folder"),
    ))
}

/// What a model that was made to forget was made to forget, against what is asked about now.
pub(crate) fn check_forgotten(record: &Record, world: &World, path: &Path) -> Result<(), Failure> {
    let Some(said) = &record.forget else {
        if record.stage != super::ORIGINAL {
            let model = path.display();
            tracing::warn!(%model, "does not say which forget set it was made to forget; not checked");
        }
        return Ok(());
    };
    if said == world.partition.id() {
        return Ok(());
    }
    Err(Failure::new(
        "E_FORGET_SET",
        Exit::Checkpoint,
        path.display().to_string(),
        format!("a model that was made to forget another set ({})", short(said)),
        format!("{} ({})", short(world.partition.id()), world.recipe.forget.spec),
        "use the recipe's [forget] and seeds.forget that the model was unlearned under",
    ))
}

/// Enough of an identifier to tell two apart.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
