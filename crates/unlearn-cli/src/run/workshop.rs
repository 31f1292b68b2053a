//! The work of a run, for any architecture: train, prune, forget, evaluate.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use unlearn::algos::{Context, TrainingRecipe, Unlearn, by_name};
use unlearn::burn::module::Module;
use unlearn::data::Stream;
use unlearn::eval::{Evaluation, EvaluationData, evaluate};
use unlearn::models::{Architecture, StateDict, redraw_as_pytorch};
use unlearn::prune::{
    Grasp, IterativeRun, Magnitude, MaskSet, Random, RetrainLength, Rewind, Score, ScoringData, Snip, Start,
    SynFlow, iterative_from,
};
use unlearn::train::{CrossEntropy, FitConfig, fit_in};

use super::artefact::{Influence, Record, Trained};
use super::iterative_config;
use super::provenance::Provenance;
use super::world::{WORKERS, World};
use crate::error::{Exit, Failure};
use crate::recipe::{FirstWeights, MethodConfig, PruningConfig, ScoreKind};

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
        let mut blank =
            architecture.build(&normalization.mean, &normalization.std, &world.device, &mut rng)?;
        if world.recipe.training.first_weights == FirstWeights::Pytorch {
            let mut state = StateDict::of(&blank)?;
            redraw_as_pytorch(&mut state, &mut rng);
            blank = state.load_into(blank)?;
        }
        if let Some(pretrained) = &world.pretrained {
            blank = pretrained.folder.clone().load_into(blank)?;
        }
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
        let mut record = Record::new(super::ORIGINAL, Influence::Yes, 0.0);
        record.seeds = self.seeds(["data", "split", "init", "training"]);
        record.pretrained = self.provenance();
        (record.seconds, record.steps, record.history) = (fit.seconds, fit.steps, fit.history);
        Ok(Trained { model: fit.model, mask: None, record, early: fit.snapshots, adapted: None })
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
        let started = Instant::now();
        let config = iterative_config(&self.world.recipe, pruning);
        let early = match pruning.rewind {
            Rewind::Epoch(epoch) => Some(
                trained
                    .and_then(|t| t.early.get(&epoch))
                    .map(Module::valid)
                    .ok_or_else(|| no_early_weights(epoch))?,
            ),
            _ => None,
        };
        let init = self.fresh();
        let start = Start { model: trained.map_or(&init, |t| &t.model).valid(), init, early };
        let loader = self.world.training_loader()?;
        let objective = CrossEntropy { label_smoothing: self.world.recipe.training.label_smoothing };
        let score = self.score(pruning)?;
        let run = IterativeRun {
            loader: &loader,
            objective: &objective,
            score: &*score,
            // What is gone stays gone: the rate is of what is left.
            mask: trained.and_then(|t| t.mask.as_ref()),
            directory: Some(work),
        };
        let mut observer = self.world.teller.observe(name);
        let rounds = iterative_from(&start, &run, &config, &mut observer)?;
        let mut record = Record::new(super::ORIGINAL, Influence::Yes, 0.0);
        record.seeds = self.seeds(["data", "split", "init", "training"]);
        record.pretrained =
            trained.map_or_else(|| self.provenance(), |trained| trained.record.pretrained.clone());
        if let Some(trained) = trained {
            record.seeds = pruned_seeds(record.seeds, &trained.record.seeds, pruning.rewind);
            record.reference.clone_from(&trained.record.reference);
        }
        record.reference.extend(pruning_reference(pruning));
        for round in &rounds {
            record.seconds += round.record.seconds;
            record.steps += round.record.steps;
            record.history.extend(round.record.history.iter().cloned());
        }
        // Scoring takes time too; a run that was resumed took longer than this process knows.
        record.seconds = record.seconds.max(started.elapsed().as_secs_f64());
        let Some(last) = rounds.into_iter().next_back() else { return Err(no_rounds()) };
        record.sparsity = last.mask.sparsity();
        let mask = Some(last.mask);
        Ok(Trained { model: last.model, mask, record, early: BTreeMap::new(), adapted: None })
    }

    /// Finds what is wrong with a pruning before anything is trained for it.
    pub(crate) fn check_pruning(
        &self,
        name: &str,
        pruning: &PruningConfig,
        mask: Option<&MaskSet>,
    ) -> Result<(), Failure> {
        let checked = pruning.prune().check(&self.blank, pruning.rounds, mask);
        checked.map_err(|error| Failure::from(error).within(&format!("network {name}")))
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
        record.network = original.network()?;
        record.hyperparameters = algorithm.hyperparameters();
        record.forget = Some(world.partition.id().to_owned());
        record.seeds = self.seeds(["data", "split", "init", "training", "forget", "method"]);
        let before = original.mask.as_ref().map_or(0.0, MaskSet::sparsity);
        record.network_sparsity = (before.to_bits() != sparsity.to_bits()).then_some(before);
        record.reference.clone_from(&original.record.reference);
        record.pretrained =
            if method.name == RETRAIN { self.provenance() } else { original.record.pretrained.clone() };
        if method.name != RETRAIN {
            // Retrain has weights of its own; the others go on from the original's.
            let theirs = original.record.seeds.clone();
            let training = |name: &str| name != "forget" && name != "method";
            record.seeds.extend(theirs.into_iter().filter(|(name, _)| training(name)));
        }
        (record.seconds, record.steps) = (outcome.seconds, outcome.steps);
        record.diagnostics = outcome.diagnostics;
        if record.network_sparsity.is_some() {
            record.diagnostics.insert("sparsity_of_result".into(), sparsity);
        }
        record.reference.extend(algorithm.is_reference().then(|| method.name.clone()));
        Ok(Trained {
            model: outcome.model,
            mask: outcome.mask,
            record,
            early: BTreeMap::new(),
            adapted: outcome.adapted,
        })
    }

    /// What is known beforehand of the pruned network that [`prune`](Self::prune) makes.
    pub(crate) fn planned_original(&self, pruning: &PruningConfig) -> Record {
        let rounds = i32::try_from(pruning.rounds).unwrap_or(i32::MAX);
        // Below one, which no network reaches, however many rounds.
        let planned = 1.0 - (1.0 - pruning.rate).powi(rounds);
        let mut record = Record::new(super::ORIGINAL, Influence::Yes, planned.min(1.0 - f64::EPSILON));
        record.seeds = self.seeds(["data", "split", "init", "training"]);
        record.reference.extend(pruning_reference(pruning));
        record
    }

    /// What is known beforehand of what [`forget`](Self::forget) makes.
    pub(crate) fn planned(&self, method: &MethodConfig, original: &Trained<A::Model>) -> Record {
        let sparsity = original.mask.as_ref().map_or(0.0, MaskSet::sparsity);
        let mut record = Record::new(method.label(), Influence::Unknown, sparsity);
        record.method = Some(method.name.clone());
        record.seeds = self.seeds(["data", "split", "init", "training", "forget", "method"]);
        record.reference.clone_from(&original.record.reference);
        if let Ok(algorithm) = algorithm::<A>(method) {
            record.hyperparameters = algorithm.hyperparameters();
            record.reference.extend(algorithm.is_reference().then(|| method.name.clone()));
        }
        record
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

    /// The recipe's seeds of these names.
    fn seeds<const N: usize>(&self, names: [&str; N]) -> BTreeMap<String, u64> {
        let all = self.world.recipe.seeds.named();
        all.into_iter()
            .filter(|(name, _)| names.contains(name))
            .map(|(n, seed)| (n.to_owned(), seed.0))
            .collect()
    }

    /// What new models begin as, where that is not drawn.
    fn provenance(&self) -> Option<Provenance> {
        self.world.pretrained.as_ref().map(|pretrained| pretrained.provenance.clone())
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
            ScoreKind::Synflow => Box::new(SynFlow::new(self.world.train.input_shape())),
        })
    }
}

/// The seeds of a network that was pruned under a recipe of seeds `own` after it was trained under those of `trained`. What is
/// left is trained under the recipe's, which are told, and begins with the recipe's first weights only where it rewinds to
/// them. Mask and other starts depend on the training before too, whose seed stands in that model's own record.
fn pruned_seeds(
    own: BTreeMap<String, u64>,
    trained: &BTreeMap<String, u64>,
    rewind: Rewind,
) -> BTreeMap<String, u64> {
    const INIT: &str = "init";
    let mut seeds = trained.clone();
    let first_weights = matches!(rewind, Rewind::Init);
    seeds.extend(own.into_iter().filter(|(name, _)| first_weights || name != INIT));
    seeds
}

/// The switch of a pruning on which it follows the published code.
fn pruning_reference(pruning: &PruningConfig) -> Option<String> {
    let length =
        matches!(pruning.rewind, Rewind::Epoch(_)) && pruning.retrain_length == RetrainLength::Reference;
    length.then(|| "retrain_length".into())
}

/// The name of the reference method.
pub(crate) const RETRAIN: &str = "retrain";

/// The method that a `[[method]]` table asks for, its hyperparameters checked.
pub(crate) fn algorithm<A: Architecture>(
    method: &MethodConfig,
) -> Result<Box<dyn Unlearn<A::Model>>, Failure> {
    Ok(by_name(&method.name, serde_json::Value::Object(method.parameters.clone()))?)
}

fn no_rounds() -> Failure {
    Failure::new("E_INTERNAL", Exit::Internal, "pruning", "no round", "at least one", "report this as a bug")
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
