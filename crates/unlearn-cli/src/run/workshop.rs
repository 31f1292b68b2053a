//! The work of a run, for any architecture: train, prune, forget, evaluate.

use std::collections::BTreeMap;
use std::path::Path;

use unlearn::algos::{Context, TrainingRecipe, Unlearn, by_name};
use unlearn::burn::module::Module;
use unlearn::data::Stream;
use unlearn::eval::{Evaluation, EvaluationData, evaluate};
use unlearn::models::Architecture;
use unlearn::prune::{
    Grasp, Magnitude, MaskSet, Random, Rewind, Score, ScoringData, Snip, SynFlow, one_shot,
};
use unlearn::train::{CrossEntropy, FitConfig, fit_in};

use super::artefact::{Influence, Record, Trained};
use super::iterative_config;
use super::world::{WORKERS, World};
use crate::error::{Exit, Failure};
use crate::recipe::{MethodConfig, PruneAt, PruningConfig, ScoreKind};

/// One architecture at work on one world.
pub(crate) struct Workshop<'a, A: Architecture> {
    pub(crate) world: &'a World,
    blank: A::Model,
}

impl<'a, A: Architecture> Workshop<'a, A> {
    /// Builds the model as it is before its first step.
    pub(crate) fn new(world: &'a World, architecture: &A) -> Result<Self, Failure> {
        let normalization = world.train.normalization();
        let mut rng = world.recipe.seeds.init.rng(Stream::Init, 0, 0);
        let blank = architecture.build(&normalization.mean, &normalization.std, &world.device, &mut rng)?;
        Ok(Self { world, blank })
    }

    /// The model before its first step; a deep copy, because clones share batch-norm statistics.
    pub(crate) fn fresh(&self) -> A::Model {
        self.blank.valid()
    }

    /// Trains the dense original in `work` and keeps the weights after `early` epochs.
    pub(crate) fn train(&self, work: &Path, early: &[u64]) -> Result<Trained<A::Model>, Failure> {
        let config = FitConfig { snapshot_epochs: early.to_vec(), ..self.fit_config() };
        // The constraint of a mask that prunes nothing: a dense run is a run like any other.
        let fit = self.fit(&work.join("fit"), self.fresh(), &MaskSet::new(), &config, "original")?;
        let mut record = Record::new("original", Influence::Yes, 0.0);
        (record.seconds, record.steps, record.history) = (fit.seconds, fit.steps, fit.history);
        Ok(Trained { model: fit.model, mask: None, record, early: fit.snapshots })
    }

    /// Prunes and trains what is left, in rounds. `trained` is the dense model with the early
    /// weights that the rewind needs; absent, the new network is pruned before any training.
    pub(crate) fn prune(
        &self,
        work: &Path,
        name: &str,
        pruning: &PruningConfig,
        trained: Option<&Trained<A::Model>>,
    ) -> Result<Trained<A::Model>, Failure> {
        let config = iterative_config(&self.world.recipe, pruning);
        let after = config.after_pruning();
        let score = self.score(pruning)?;
        let mut record = Record::new("original", Influence::Yes, 0.0);
        let mut mask = MaskSet::new();
        let mut model = trained.map_or_else(|| self.fresh(), |t| t.model.valid());
        for round in 1..=pruning.rounds {
            mask = one_shot(&model, &*score, &config.prune, Some(&mask))?;
            tracing::info!(network = name, round, sparsity = mask.sparsity(), "pruned");
            let start = match (pruning.rewind, pruning.at) {
                (Rewind::Init, _) | (_, PruneAt::Init) => self.fresh(),
                (Rewind::Final, _) => model.valid(),
                (Rewind::Epoch(epoch), _) => match trained.and_then(|t| t.early.get(&epoch)) {
                    Some(early) => early.valid(),
                    None => return Err(no_early_weights(epoch)),
                },
            };
            let title = format!("{name} round {round}/{}", pruning.rounds);
            let fit = self.fit(&work.join(format!("round-{round:02}")), start, &mask, &after, &title)?;
            model = fit.model;
            record.seconds += fit.seconds;
            record.steps += fit.steps;
            record.history.extend(fit.history);
        }
        record.sparsity = mask.sparsity();
        Ok(Trained { model, mask: Some(mask), record, early: BTreeMap::new() })
    }

    /// Makes a copy of `original` forget.
    pub(crate) fn forget(
        &self,
        work: &Path,
        network: &str,
        method: &MethodConfig,
        original: &Trained<A::Model>,
    ) -> Result<Trained<A::Model>, Failure> {
        let world = self.world;
        let recipe = &world.recipe;
        let algorithm = algorithm::<A>(method)?;
        let training = TrainingRecipe {
            fit: self.fit_config(),
            batch_size: recipe.training.batch_size,
            augment: recipe.training.augment,
            label_smoothing: recipe.training.label_smoothing,
        };
        let mut observer = world.teller.observe(format!("{network} {}", method.label()));
        let fresh = || self.fresh();
        let mut context = Context {
            dataset: &world.train,
            fresh: &fresh,
            training: &training,
            mask: original.mask.as_ref(),
            // Retraining is the original's training on less data: order and augmentation included.
            seed: if method.name == RETRAIN { recipe.seeds.training } else { recipe.seeds.method },
            workers: WORKERS,
            directory: Some(work),
            observer: &mut observer,
        };
        let outcome = algorithm.unlearn(original.model.valid(), &world.partition, &mut context)?;
        // A mask that was found with the forget set is a trace of it, also in a retrained network.
        let given_mask = outcome.mask.is_some() && outcome.mask == original.mask;
        let influence =
            if method.name == RETRAIN && !given_mask { Influence::No } else { Influence::Unknown };
        let sparsity = outcome.mask.as_ref().map_or(0.0, MaskSet::sparsity);
        let mut record = Record::new(method.label(), influence, sparsity);
        record.method = Some(method.name.clone());
        (record.seconds, record.steps) = (outcome.seconds, outcome.steps);
        record.diagnostics = outcome.diagnostics;
        if algorithm.is_reference() {
            record.reference.push(method.name.clone());
        }
        Ok(Trained { model: outcome.model, mask: outcome.mask, record, early: BTreeMap::new() })
    }

    /// Measures a model.
    pub(crate) fn evaluate(&self, model: &A::Model) -> Result<Evaluation, Failure> {
        let world = self.world;
        let data = EvaluationData {
            train: &world.train,
            partition: &world.partition,
            validation: world.split.validation(),
            test: &world.test,
        };
        Ok(evaluate(model, &data, &world.recipe.evaluation)?)
    }

    fn fit_config(&self) -> FitConfig {
        self.world.recipe.training.fit(self.world.recipe.seeds.training)
    }

    fn fit(
        &self,
        directory: &Path,
        start: A::Model,
        mask: &MaskSet,
        config: &FitConfig,
        title: &str,
    ) -> Result<unlearn::train::Fit<A::Model>, Failure> {
        let loader = self.world.training_loader()?;
        let objective = CrossEntropy { label_smoothing: self.world.recipe.training.label_smoothing };
        let constraint = mask.constraint(&start)?;
        let mut observer = self.world.teller.observe(title);
        Ok(fit_in(directory, start, &loader, &objective, &constraint, config, &mut observer)?)
    }

    fn score(&self, pruning: &PruningConfig) -> Result<Box<dyn Score<A::Model>>, Failure> {
        let data = || -> Result<ScoringData, Failure> {
            Ok(ScoringData::per_class(&self.world.training_loader()?, pruning.samples_per_class)?)
        };
        Ok(match pruning.score {
            ScoreKind::Magnitude => Box::new(Magnitude),
            ScoreKind::Random => Box::new(Random { seed: self.world.recipe.seeds.training }),
            ScoreKind::Snip => Box::new(Snip::new(data()?)),
            ScoreKind::Grasp => Box::new(Grasp::new(data()?)),
            ScoreKind::Synflow => Box::new(SynFlow::new(self.world.train.shape())),
        })
    }
}

/// The name of the reference method.
pub(crate) const RETRAIN: &str = "retrain";

/// The method that a `[[method]]` table asks for, its hyperparameters checked.
pub(crate) fn algorithm<A: Architecture>(
    method: &MethodConfig,
) -> Result<Box<dyn Unlearn<A::Model>>, Failure> {
    Ok(by_name(&method.name, serde_json::Value::Object(method.parameters.clone()))?)
}

fn no_early_weights(epoch: u64) -> Failure {
    Failure::new(
        "E_REWIND",
        Exit::Checkpoint,
        "pruning.rewind",
        format!("no weights of epoch {epoch}"),
        format!("{} beside the model", super::artefact::early_name(epoch)),
        "train with this recipe's [[network]] (`unlearn train` keeps them), or rewind to init or final",
    )
}
