//! Pruning in rounds with training between them (IMP), and once with training before and after
//! (OMP, one round).
//!
//! ```text
//! round 0: train ─► prune ─► rewind ─► round 1: train ─► prune ─► rewind ─► … round n: train
//! ```
//!
//! `rounds` counts the prunings: n of them, n + 1 trainings, and nothing is pruned after the last.
//! The share of weights left after round n is (1 − rate)ⁿ, up to rounding.

mod directory;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use unlearn_data::Loader;
use unlearn_models::Classifier;
use unlearn_train::{EpochRecord, FitConfig, Objective, Observer, fit, fit_in};

use self::directory::{claim, keep_mask};
use crate::{MaskSet, PruneConfig, PruneError, Rewind, Score, SparsityReport, one_shot};

/// Most rounds of one run: each keeps a model, and ends with a training.
pub const MOST_ROUNDS: u32 = 1000;

/// How rounds of pruning and training go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IterativeConfig {
    /// Number of prunings, at least 1. One is OMP.
    pub rounds: u32,
    /// How each of them prunes; the rate is of what remains.
    pub prune: PruneConfig,
    /// Where training goes on after pruning.
    #[serde(default)]
    pub rewind: Rewind,
    /// How the first, dense run trains, and the others unless `retrain` says otherwise.
    pub fit: FitConfig,
    /// How the runs after a pruning train; absent: as `fit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retrain: Option<FitConfig>,
    /// How long they train after a rewind to an epoch.
    #[serde(default)]
    pub retrain_length: RetrainLength,
}

/// How long a run trains after a rewind to epoch k of E.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RetrainLength {
    /// The E − k epochs that were left then, with the learning rates that they had.
    #[default]
    Remaining,
    /// E epochs, with the learning rate as if k were done already. What the published unlearning
    /// code does.
    Reference,
}

impl IterativeConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`PruneError::Config`] for zero rounds or more than [`MOST_ROUNDS`], and for a rewind to an epoch
    /// that the dense run does not reach or that leaves nothing to train; [`PruneError::Rate`]; what
    /// [`FitConfig::validate`] says.
    pub fn validate(&self) -> Result<(), PruneError> {
        if self.rounds == 0 || self.rounds > MOST_ROUNDS {
            return Err(PruneError::Config {
                field: "rounds",
                got: self.rounds.to_string(),
                expected: format!("1 to {MOST_ROUNDS}"),
                mend: "count the prunings, or train without pruning".into(),
            });
        }
        self.prune.validate()?;
        self.fit.validate()?;
        self.retrain.as_ref().map_or(Ok(()), FitConfig::validate)?;
        if let Rewind::Epoch(k) = self.rewind {
            let last = match self.retrain_length {
                RetrainLength::Remaining => {
                    self.fit.epochs.min(self.retrain.as_ref().map_or(u64::MAX, |r| r.epochs)) - 1
                }
                RetrainLength::Reference => self.fit.epochs,
            };
            if k > last {
                return Err(PruneError::Config {
                    field: "rewind",
                    got: self.rewind.to_string(),
                    expected: format!("an epoch up to {last}"),
                    mend: "rewind to an epoch that the dense run reaches and that leaves some to train"
                        .into(),
                });
            }
        }
        Ok(self.after_pruning().validate()?)
    }

    /// The dense run, which keeps what will be rewound to.
    fn dense(&self) -> FitConfig {
        let mut fit = self.fit.clone();
        if let Rewind::Epoch(k) = self.rewind
            && !fit.snapshot_epochs.contains(&k)
        {
            fit.snapshot_epochs.push(k);
        }
        fit
    }

    /// A run after a pruning, with the learning rate rewound as far as the weights.
    pub fn after_pruning(&self) -> FitConfig {
        let mut fit = self.retrain.as_ref().unwrap_or(&self.fit).clone();
        if let Rewind::Epoch(k) = self.rewind {
            fit.schedule_offset = fit.schedule_offset.saturating_add(k);
            if self.retrain_length == RetrainLength::Remaining {
                fit.epochs = fit.epochs.saturating_sub(k);
                fit.snapshot_epochs.retain(|epoch| *epoch <= fit.epochs);
            }
        }
        fit
    }
}

/// What is pruned, on what it trains, and where it is kept.
pub struct IterativeRun<'a, M> {
    /// Batches of training.
    pub loader: &'a Loader,
    /// What training minimises.
    pub objective: &'a dyn Objective<M>,
    /// What a weight is worth.
    pub score: &'a dyn Score<M>,
    /// A mask that holds from the start, under which the first run trains too.
    pub mask: Option<&'a MaskSet>,
    /// A folder for one run directory a round and for the masks, from which a run that was killed
    /// goes on; `None` keeps nothing.
    pub directory: Option<&'a Path>,
}

/// One round: a trained model under its mask.
#[derive(Debug, Clone)]
pub struct Round<M> {
    /// What it came to.
    pub record: RoundRecord,
    /// The mask it trained under. The first round's is the mask given, or one that prunes nothing.
    pub mask: MaskSet,
    /// The model after training, on a plain device; its pruned weights are exactly zero.
    pub model: M,
}

/// What a round came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundRecord {
    /// Number of prunings before it: 0 is the dense run.
    pub round: u32,
    /// How sparse each layer is.
    pub sparsity: SparsityReport,
    /// SHA-256 of the mask.
    pub mask: String,
    /// Optimizer steps.
    pub steps: u64,
    /// One record an epoch.
    pub history: Vec<EpochRecord>,
    /// Wall-clock seconds of training.
    pub seconds: f64,
}

/// A network before its first pruning, on a plain device.
#[derive(Debug, Clone)]
pub struct Start<M> {
    /// Before its first training step; [`Rewind::Init`] goes back to it.
    pub init: M,
    /// What the first pruning looks at: the trained network, or `init` again where a network is pruned
    /// before any training.
    pub model: M,
    /// After K epochs of training; [`Rewind::Epoch`] goes back to it.
    pub early: Option<M>,
}

/// Trains, prunes, rewinds, and trains again, `config.rounds` times; gives one [`Round`] a training.
///
/// In a directory each round is a run directory of [`fit_in`] (`round-00`, `round-01`, …) with the
/// mask of that round beside it (`mask-01.safetensors`), and `iterative.json` says what is done
/// there. Started again there, finished rounds are read back and the one under way goes on.
///
/// # Errors
/// What [`IterativeConfig::validate`], [`one_shot`](crate::one_shot()) and training report;
/// [`PruneError::OtherRun`] when the directory belongs to another run.
pub fn iterative<M: Classifier>(
    model: M,
    run: &IterativeRun<'_, M>,
    config: &IterativeConfig,
    observer: &mut dyn Observer,
) -> Result<Vec<Round<M>>, PruneError> {
    config.validate()?;
    if let Some(directory) = run.directory {
        claim(directory, config)?;
    }
    // `valid` is a deep copy: clones share the statistics of their batch norms.
    let init = model.valid();
    let mask = run.mask.cloned().unwrap_or_default();
    let (dense, snapshots) = train(0, init.valid(), mask, run, &config.dense(), observer)?;
    let early = match config.rewind {
        Rewind::Epoch(k) => snapshots.get(&k).map(M::valid),
        _ => None,
    };
    let start = Start { init, model: dense.model.valid(), early };
    let mut rounds = vec![dense];
    rounds.extend(prune_rounds(&start, run, config, observer)?);
    Ok(rounds)
}

/// [`iterative`] without its first training, which was done elsewhere: prunes what is in `start`,
/// rewinds and trains, `config.rounds` times; gives the rounds from 1 on. A mask in `run` is that of
/// `start`: what it removed stays removed.
///
/// # Errors
/// As [`iterative`]; [`PruneError::Config`] for a rewind to an epoch without the early weights.
pub fn iterative_from<M: Classifier>(
    start: &Start<M>,
    run: &IterativeRun<'_, M>,
    config: &IterativeConfig,
    observer: &mut dyn Observer,
) -> Result<Vec<Round<M>>, PruneError> {
    config.validate()?;
    if let Some(directory) = run.directory {
        claim(directory, config)?;
    }
    prune_rounds(start, run, config, observer)
}

fn prune_rounds<M: Classifier>(
    start: &Start<M>,
    run: &IterativeRun<'_, M>,
    config: &IterativeConfig,
    observer: &mut dyn Observer,
) -> Result<Vec<Round<M>>, PruneError> {
    config.prune.check(&start.model, config.rounds, run.mask)?;
    let mut mask = run.mask.cloned().unwrap_or_default();
    let mut rounds: Vec<Round<M>> = Vec::new();
    for number in 1..=config.rounds {
        let trained = rounds.last().map_or(&start.model, |round| &round.model);
        mask = one_shot(trained, run.score, &config.prune, Some(&mask))?;
        tracing::info!(round = number, sparsity = mask.sparsity(), "pruned");
        if let Some(directory) = run.directory {
            keep_mask(&directory.join(format!("mask-{number:02}.safetensors")), &mask)?;
        }
        let from = match config.rewind {
            Rewind::Init => &start.init,
            Rewind::Final => trained,
            Rewind::Epoch(epoch) => start.early.as_ref().ok_or_else(|| PruneError::Config {
                field: "rewind",
                got: format!("{} without the weights of epoch {epoch}", config.rewind),
                expected: "early weights to rewind to".into(),
                mend: "give the weights after that epoch, or rewind to init or final".into(),
            })?,
        };
        let (round, _) = train(number, from.valid(), mask.clone(), run, &config.after_pruning(), observer)?;
        rounds.push(round);
    }
    Ok(rounds)
}

/// Trains one round under its mask; gives the snapshots too.
fn train<M: Classifier>(
    number: u32,
    start: M,
    mask: MaskSet,
    run: &IterativeRun<'_, M>,
    config: &FitConfig,
    observer: &mut dyn Observer,
) -> Result<(Round<M>, BTreeMap<u64, M>), PruneError> {
    let constraint = mask.constraint(&start)?;
    let (loader, objective) = (run.loader, run.objective);
    let done = match run.directory.map(|d| d.join(format!("round-{number:02}"))) {
        Some(folder) => fit_in(&folder, start, loader, objective, &constraint, config, observer)?,
        None => fit(start, loader, objective, &constraint, config, observer)?,
    };
    let record = RoundRecord {
        round: number,
        sparsity: mask.report(),
        mask: mask.fingerprint(),
        steps: done.steps,
        history: done.history,
        seconds: done.seconds,
    };
    Ok((Round { record, mask, model: done.model }, done.snapshots))
}
