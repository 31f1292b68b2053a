//! Pruning in rounds with training between them (IMP), and once with training before and after
//! (OMP, one round).
//!
//! ```text
//! round 0: train ─► prune ─► rewind ─► round 1: train ─► prune ─► rewind ─► … round n: train
//! ```
//!
//! `rounds` counts the prunings: n of them, n + 1 trainings, and nothing is pruned after the last.
//! The share of weights left after round n is (1 − rate)ⁿ, up to rounding.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use unlearn_data::Loader;
use unlearn_models::Classifier;
use unlearn_train::{CheckpointConfig, EpochRecord, FitConfig, Objective, Observer, fit, fit_in};

use crate::mask_file::write_whole;
use crate::{MaskSet, PruneConfig, PruneError, Rewind, Score, SparsityReport, one_shot};

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
    /// [`PruneError::Config`] for zero rounds or a rewind to an epoch that the dense run does not
    /// reach or that leaves nothing to train; [`PruneError::Rate`]; what [`FitConfig::validate`]
    /// says.
    pub fn validate(&self) -> Result<(), PruneError> {
        if self.rounds == 0 {
            return Err(PruneError::Config {
                field: "rounds",
                got: "0".into(),
                expected: "at least 1".into(),
                mend: "count the prunings, or train without pruning".into(),
            });
        }
        self.prune.validate()?;
        self.fit.validate()?;
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
    let mut mask = run.mask.cloned().unwrap_or_default();
    let mut rounds: Vec<Round<M>> = Vec::with_capacity(config.rounds as usize + 1);
    let mut early: Option<M> = None;
    let mut start = init.valid();
    for round in 0..=config.rounds {
        let fit_config = if round == 0 { config.dense() } else { config.after_pruning() };
        let constraint = mask.constraint(&start)?;
        let (loader, objective) = (run.loader, run.objective);
        let done = match run.directory.map(|d| d.join(format!("round-{round:02}"))) {
            Some(folder) => fit_in(&folder, start, loader, objective, &constraint, &fit_config, observer)?,
            None => fit(start, loader, objective, &constraint, &fit_config, observer)?,
        };
        if round == 0
            && let Rewind::Epoch(k) = config.rewind
        {
            early = done.snapshots.get(&k).map(M::valid);
        }
        let record = RoundRecord {
            round,
            sparsity: mask.report(),
            mask: mask.fingerprint(),
            steps: done.steps,
            history: done.history,
            seconds: done.seconds,
        };
        let trained = done.model;
        start = match config.rewind {
            Rewind::Init => init.valid(),
            Rewind::Epoch(_) => early.as_ref().unwrap_or(&trained).valid(),
            Rewind::Final => trained.valid(),
        };
        let pruned = if round < config.rounds {
            let pruned = one_shot(&trained, run.score, &config.prune, Some(&mask))?;
            if let Some(directory) = run.directory {
                keep_mask(&directory.join(format!("mask-{:02}.safetensors", round + 1)), &pruned)?;
            }
            pruned
        } else {
            MaskSet::new()
        };
        rounds.push(Round { record, mask: std::mem::replace(&mut mask, pruned), model: trained });
    }
    Ok(rounds)
}

/// Writes the mask of a round, or checks that a resumed run has come to the same one.
fn keep_mask(path: &Path, mask: &MaskSet) -> Result<(), PruneError> {
    if !path.exists() {
        return mask.save(path);
    }
    let stored = MaskSet::load(path)?;
    if stored == *mask {
        return Ok(());
    }
    Err(other_run(path.to_owned(), stored.fingerprint(), mask.fingerprint()))
}

/// Makes the directory this run's own, or checks that it is.
fn claim(directory: &Path, config: &IterativeConfig) -> Result<(), PruneError> {
    let path = directory.join("iterative.json");
    let io = |reason: String| PruneError::Io { path: path.clone(), reason };
    let mut config = config.clone();
    // How often a run saves changes no result.
    config.fit.checkpoint = CheckpointConfig::default();
    if let Some(fit) = &mut config.retrain {
        fit.checkpoint = CheckpointConfig::default();
    }
    let wanted = serde_json::to_value(&config).map_err(|e| io(e.to_string()))?;
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let stored: Value = serde_json::from_str(&text)
                .map_err(|e| other_run(path.clone(), e.to_string(), "the settings of a run".into()))?;
            let mut differ = Vec::new();
            differences("", &stored, &wanted, &mut differ);
            match differ.first() {
                None => Ok(()),
                Some((field, got, expected)) => {
                    Err(other_run(path, format!("{field} = {got}"), format!("{expected}, as asked for now")))
                }
            }
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {
            std::fs::create_dir_all(directory).map_err(|e| io(e.to_string()))?;
            let text = serde_json::to_string_pretty(&wanted).map_err(|e| io(e.to_string()))?;
            write_whole(&path, text.as_bytes())
        }
        Err(e) => Err(io(e.to_string())),
    }
}

/// The fields at which two settings differ.
fn differences<'a>(at: &str, a: &'a Value, b: &'a Value, found: &mut Vec<(String, &'a Value, &'a Value)>) {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            for key in x.keys().chain(y.keys().filter(|key| !x.contains_key(*key))) {
                let of = |map: &'a Map<String, Value>| map.get(key).unwrap_or(&Value::Null);
                let dot = if at.is_empty() { "" } else { "." };
                differences(&format!("{at}{dot}{key}"), of(x), of(y), found);
            }
        }
        _ if a == b => {}
        _ => found.push((at.to_owned(), a, b)),
    }
}

fn other_run(path: PathBuf, got: String, expected: String) -> PruneError {
    PruneError::OtherRun {
        path,
        got,
        expected,
        mend: "The directory belongs to another run: choose another one, or the settings it was begun with"
            .into(),
    }
}
