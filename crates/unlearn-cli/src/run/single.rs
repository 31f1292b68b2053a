//! A run of one stage: what `train`, `prune` and `forget` do on their own. The result stands in
//! `DIR/model`, in the form of any other stage, and the next verb starts from it.

use std::path::Path;

use serde_json::{Value, json};
use unlearn::models::{Architecture, StateDict};
use unlearn::prune::MaskSet;

use super::artefact::{self, Trained};
use super::folder::{Folder, Place};
use super::workshop::Workshop;
use super::{identity, known};
use crate::device;
use crate::error::{Exit, Failure};
use crate::recipe::Recipe;

const STAGE: &str = "model";

/// What is to be made, and where.
pub(crate) struct Job<'a> {
    pub(crate) place: &'a Place,
    /// The verb and its arguments are part of what the folder's run is.
    pub(crate) verb: &'static str,
    pub(crate) extra: Value,
}

impl Job<'_> {
    /// The same as [`check_place`](super::check_place) for the one stage.
    pub(crate) fn check(&self, recipe: &Recipe, device_name: &str) -> Result<(), Failure> {
        device::open(device_name)?;
        let [(_, recipe), (_, device)] = known(recipe, device_name)?;
        let (verb, of) = (self.verb.into(), self.extra.clone());
        self.place.check_run(&[
            ("/verb", verb),
            ("/of", of),
            ("/run/recipe", recipe),
            ("/run/device", device),
        ])
    }
}

/// One stage about to be made.
pub(crate) struct Single<'a, A: Architecture> {
    job: Job<'a>,
    shop: &'a Workshop<'a, A>,
    parent: Option<Value>,
}

impl<'a, A: Architecture> Single<'a, A> {
    /// Prepares the stage.
    pub(crate) fn new(job: Job<'a>, shop: &'a Workshop<'a, A>) -> Self {
        Self { job, shop, parent: None }
    }

    /// Says which model the stage starts from, so that `--resume` never mixes two.
    pub(crate) fn from(&mut self, parent: Option<&Trained<A::Model>>) -> Result<(), Failure> {
        self.parent = match parent {
            Some(parent) => Some(json!({
                "weights": StateDict::of(&parent.model)?.fingerprint(),
                "mask": parent.mask.as_ref().map(MaskSet::fingerprint),
            })),
            None => None,
        };
        Ok(())
    }

    /// Makes the stage, or finds it made, and says where it is.
    pub(crate) fn make(
        self,
        make: impl FnOnce(&Path) -> Result<Trained<A::Model>, Failure>,
    ) -> Result<String, Failure> {
        let Job { place, verb, extra } = self.job;
        let world = self.shop.world;
        let identity = json!({
            "verb": verb, "of": extra, "parent": self.parent, "run": identity(world)?,
        });
        let folder = Folder::open(place, &identity)?;
        folder.write("recipe.toml", &world.recipe.to_toml()?)?;
        let trained = if let Some(commit) = folder.committed(STAGE)? {
            artefact::load::<A>(commit.path(), world, self.shop.fresh())?
        } else {
            let work = folder.work(STAGE)?;
            let trained = make(&work).map_err(|failure| match failure.exit {
                Exit::Diverged => failure.within(verb),
                _ => failure,
            })?;
            folder.commit(STAGE, &trained.files(world, &work)?)?;
            trained
        };
        folder.clear(STAGE)?;
        folder.clear_all()?;
        Ok(summary(&folder, &trained))
    }
}

fn summary<M>(folder: &Folder, trained: &Trained<M>) -> String {
    let record = &trained.record;
    let accuracy = record
        .history
        .last()
        .map(|epoch| format!(", training accuracy {:.1} % in the last epoch", 100.0 * epoch.accuracy))
        .unwrap_or_default();
    format!(
        "{}: {}{accuracy}, sparsity {:.1} %, {} steps in {:.1} s\n",
        folder.path().join(STAGE).display(),
        record.stage,
        100.0 * record.sparsity,
        record.steps,
        record.seconds
    )
}
