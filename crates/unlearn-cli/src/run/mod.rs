//! A whole recipe: train, prune, forget by every method, evaluate, report. Each step is a stage
//! with a folder that is whole or absent, so that a killed run goes on where it was.

pub(crate) mod artefact;
pub(crate) mod folder;
pub(crate) mod origin;
pub(crate) mod pretrained;
pub(crate) mod provenance;
pub(crate) mod report;
pub(crate) mod single;
pub(crate) mod source;
pub(crate) mod workshop;
pub(crate) mod world;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use unlearn::eval::report::ENDED_EARLY;
use unlearn::eval::{Evaluation, Report};
use unlearn::models::{Architecture, ArchitectureVisitor};
use unlearn::prune::{IterativeConfig, Rewind};

use self::artefact::{Record, Trained};
use self::folder::{Folder, Place};
use self::workshop::Workshop;
use self::world::World;
use crate::device;
use crate::error::{Exit, Failure};
use crate::recipe::{NetworkConfig, PruneAt, PruningConfig, Recipe};

/// The stage of the dense original, which all networks start from.
const BASE: &str = "base";
/// The row of a model before unlearning.
pub(crate) const ORIGINAL: &str = "original";
/// Names that folders of networks cannot have, in whatever case: some file systems know none.
pub(crate) const RESERVED: [&str; 10] = [
    BASE,
    "work",
    "model",
    "LOCK",
    "config.json",
    "log.jsonl",
    "recipe.toml",
    report::FILES[0],
    report::FILES[1],
    report::FILES[2],
];

/// How the rounds of a pruned network go.
pub(crate) fn iterative_config(recipe: &Recipe, pruning: &PruningConfig) -> IterativeConfig {
    IterativeConfig {
        rounds: pruning.rounds,
        prune: pruning.prune(),
        rewind: pruning.rewind,
        fit: recipe.training.fit(recipe.seeds.training),
        retrain: None,
        retrain_length: pruning.retrain_length,
    }
}

/// Carries out the recipe of `world` in `place` and returns the report.
pub(crate) fn execute(world: &World, place: &Place) -> Result<Report, Failure> {
    world.recipe.model.visit(Whole { world, place })
}

/// Refuses a device that is not there, and a folder whose run is another one as far as recipe and device tell: before
/// the data are read.
pub(crate) fn check_place(place: &Place, recipe: &Recipe, device_name: &str) -> Result<(), Failure> {
    device::open(device_name)?;
    place.check_run(&known(recipe, device_name)?)
}

/// Of [`identity`] what is known before the pictures are read, by where it stands there.
fn known(recipe: &Recipe, device_name: &str) -> Result<[(&'static str, Value); 2], Failure> {
    Ok([("/recipe", stated(recipe)?), ("/device", device_name.into())])
}

/// The recipe without the places where something lies.
fn stated(recipe: &Recipe) -> Result<Value, Failure> {
    let mut recipe = recipe.clone();
    (recipe.data.dir, recipe.training.pretrained) = (None, None);
    serde_json::to_value(&recipe).map_err(|error| {
        Failure::new(
            "E_INTERNAL",
            Exit::Internal,
            "recipe",
            error.to_string(),
            "JSON",
            "report this as a bug",
        )
    })
}

/// What makes two runs the same run: everything but where the pictures lie.
pub(crate) fn identity(world: &World) -> Result<Value, Failure> {
    let mut identity = json!({
        "recipe": stated(&world.recipe)?,
        "data": { "train": world.train.fingerprint(), "test": world.test.fingerprint() },
        // No part of the fingerprint, and not the same in a folder, its packed file and other weights to begin with.
        "normalization": world.train.normalization(),
        "split": world.split.id(),
        // The spec may name a file whose content changes.
        "partition": world.partition.id(),
        "device": world.device_name,
    });
    if let Some(pretrained) = &world.pretrained {
        identity["pretrained"] = pretrained.folder.state.fingerprint().into();
    }
    Ok(identity)
}

struct Whole<'a> {
    world: &'a World,
    place: &'a Place,
}

impl ArchitectureVisitor for Whole<'_> {
    type Output = Result<Report, Failure>;

    fn visit<A: Architecture>(self, architecture: &A) -> Self::Output {
        let Self { world, place } = self;
        let shop = Workshop::new(world, architecture)?;
        for network in &world.recipe.network {
            if let Some(pruning) = &network.pruning {
                shop.check_pruning(&network.name, pruning, None)?;
            }
        }
        let folder = Folder::open(place, &identity(world)?)?;
        folder.write("recipe.toml", &world.recipe.to_toml()?)?;
        folder.check_files(&report::FILES)?;
        let mut report = Report::new(report::about(world));
        if let Err(failure) = (Line { shop, folder: &folder }).rows(&mut report) {
            // What was measured before stands there, and says that it is not all.
            if failure.exit != Exit::Interrupted && !report.rows.is_empty() {
                let why = format!("{} {}: {}", failure.code, failure.place, failure.got);
                report.about.insert(ENDED_EARLY.into(), why);
                if let Err(error) = report::write(&folder, &report) {
                    tracing::warn!("what was measured is not written: {error}");
                }
            }
            return Err(failure);
        }
        report::write(&folder, &report)?;
        folder.clear_all()?;
        Ok(report)
    }
}

/// The stages of one run.
struct Line<'a, A: Architecture> {
    shop: Workshop<'a, A>,
    folder: &'a Folder,
}

impl<A: Architecture> Line<'_, A> {
    /// Makes every stage of the recipe, or finds it made, and measures it.
    fn rows(&self, report: &mut Report) -> Result<(), Failure> {
        let recipe = &self.shop.world.recipe;
        let base = if recipe.network.iter().any(needs_training) {
            Some(self.stage(BASE, |work| self.shop.train(work, &early_epochs(recipe)))?)
        } else {
            None
        };
        for network in &recipe.network {
            let name = &network.name;
            let original = match &network.pruning {
                None => base.clone().ok_or_else(missing_base)?,
                Some(pruning) => {
                    let made = self.stage(&format!("{name}/{ORIGINAL}"), |work| {
                        let base = base.as_ref().filter(|_| pruning.at == PruneAt::Trained);
                        self.shop.prune(work, name, pruning, base)
                    });
                    let planned = || self.shop.planned_original(pruning);
                    let Some(original) = self.or_diverged(report, name, made, planned)? else {
                        tracing::warn!(network = name, "diverged: no method has anything to start from");
                        continue;
                    };
                    original
                }
            };
            self.judge(report, name, &original)?;
            for method in &recipe.method {
                let stage = format!("{name}/{}", method.label());
                let made = self.stage(&stage, |work| self.shop.forget(work, name, method, &original));
                let planned = || self.shop.planned(method, &original);
                if let Some(result) = self.or_diverged(report, name, made, planned)? {
                    self.judge(report, name, &result)?;
                }
            }
        }
        Ok(())
    }

    /// The stage `name`: read back when it is committed, made and committed when it is not.
    fn stage(
        &self,
        name: &str,
        make: impl FnOnce(&std::path::Path) -> Result<Trained<A::Model>, Failure>,
    ) -> Result<Trained<A::Model>, Failure> {
        if let Some(commit) = self.folder.committed(name)? {
            tracing::info!(stage = name, "done before");
            // A kill right after the commit leaves them.
            self.folder.clear(name)?;
            let mut trained = artefact::load::<A>(commit.path(), self.shop.world, self.shop.fresh())?;
            trained.early = self.early(&commit)?;
            return Ok(trained);
        }
        self.shop.world.teller.stop().check()?;
        let work = self.folder.work(name)?;
        let trained = make(&work).map_err(|failure| match failure.exit {
            Exit::Diverged => failure.within(name),
            _ => failure,
        })?;
        self.folder.commit(name, &trained.files(self.shop.world, &work)?)?;
        self.folder.clear(name)?;
        Ok(trained)
    }

    /// A stage that diverged becomes a row that says so, and the others go on. It is not kept: a later
    /// run tries it again, from its beginning.
    fn or_diverged(
        &self,
        report: &mut Report,
        network: &str,
        made: Result<Trained<A::Model>, Failure>,
        planned: impl FnOnce() -> Record,
    ) -> Result<Option<Trained<A::Model>>, Failure> {
        let failure = match made {
            Err(failure) if failure.exit == Exit::Diverged => failure,
            other => return other.map(Some),
        };
        tracing::warn!(network, "{failure}");
        let record = planned();
        self.folder.clear(&format!("{network}/{}", record.stage))?;
        report::push_diverged(report, self.shop.world, network, &record, &failure)?;
        Ok(None)
    }

    /// The early weights that a stage keeps.
    fn early(&self, commit: &unlearn::train::commit::Commit) -> Result<BTreeMap<u64, A::Model>, Failure> {
        artefact::early::<A>(commit.path(), self.shop.world, || self.shop.fresh())
    }

    /// Measures a stage's model, or reads back what was measured, and adds the row.
    fn judge(&self, report: &mut Report, network: &str, trained: &Trained<A::Model>) -> Result<(), Failure> {
        const FILE: &str = "evaluation.json";
        let stage = format!("{network}/{}.evaluation", trained.record.stage);
        let evaluation: Evaluation = if let Some(commit) = self.folder.committed(&stage)? {
            report::read_evaluation(&commit.path().join(FILE), &commit.read(FILE)?)?
        } else {
            self.shop.world.teller.stop().check()?;
            let evaluation = match self.shop.evaluate(&trained.model) {
                Err(failure) if failure.exit == Exit::Diverged => {
                    let failure = failure.within(&stage);
                    tracing::warn!(network, "{failure}");
                    let world = self.shop.world;
                    return report::push_diverged(report, world, network, &trained.record, &failure);
                }
                other => other?,
            };
            self.folder.commit(&stage, &[(FILE.into(), report::evaluation_bytes(&evaluation)?)])?;
            evaluation
        };
        report::push(report, self.shop.world, Some(network), &trained.record, evaluation)
    }
}

fn needs_training(network: &NetworkConfig) -> bool {
    network.pruning.as_ref().is_none_or(|pruning| pruning.at == PruneAt::Trained)
}

/// The epochs that some network rewinds to.
pub(crate) fn early_epochs(recipe: &Recipe) -> Vec<u64> {
    let epochs = recipe.network.iter().filter_map(|network| match network.pruning.as_ref()?.rewind {
        Rewind::Epoch(epoch) => Some(epoch),
        _ => None,
    });
    let sorted: std::collections::BTreeSet<u64> = epochs.collect();
    sorted.into_iter().collect()
}

fn missing_base() -> Failure {
    Failure::new(
        "E_INTERNAL",
        Exit::Internal,
        "run",
        "no dense model for a dense network",
        "one that was trained",
        "report this as a bug",
    )
}
