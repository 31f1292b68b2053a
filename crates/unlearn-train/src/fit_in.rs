//! A run in a directory, killed at any moment and gone on with.
//!
//! ```text
//! run/
//!   LOCK  config.json  log.jsonl
//!   ckpt/00000400/       model.safetensors  optimizer.safetensors  state.json  COMMIT.json
//!   snapshots/000002/    model.safetensors  COMMIT.json
//!   final/               model.safetensors  state.json  COMMIT.json
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use unlearn_data::Loader;
use unlearn_models::Classifier;

use crate::checkpoint::{read_model, read_progress, read_run, write_model, write_progress, write_run};
use crate::commit::{self, Commit, Pending, io, remove_unfinished};
use crate::fit::Task;
use crate::identity::identity;
use crate::run::{Keeper, Progress, Run};
use crate::run_dir::{Log, RunDir, whole};
use crate::{CheckpointConfig, Constraint, Event, Fit, FitConfig, Objective, Observer, TrainError};

/// Trains `model` on `loader` in a run directory: as [`fit`](crate::fit()), and a run that was
/// killed goes on where its newest whole checkpoint stands. On a deterministic device (flex) it
/// ends with the same bits as a run that was never killed.
///
/// A run that is already finished there is read back at once. What the run is (configuration,
/// starting weights, data, order, objective, constraint) stands in `config.json`; a call for
/// another run is refused. [`FitConfig::checkpoint`] is no part of it.
///
/// # Errors
/// As [`fit`](crate::fit()); [`TrainError::Locked`] when another process is at work there;
/// [`TrainError::OtherRun`] when the directory belongs to another run;
/// [`TrainError::RunDirectory`] when it holds what this version does not write;
/// [`TrainError::Io`]. After [`TrainError::Interrupted`] and [`TrainError::Diverged`] the
/// checkpoints are there, all finite.
pub fn fit_in<M: Classifier>(
    directory: &Path,
    model: M,
    loader: &Loader,
    objective: &dyn Objective<M>,
    constraint: &dyn Constraint<M>,
    config: &FitConfig,
    observer: &mut dyn Observer,
) -> Result<Fit<M>, TrainError> {
    let task = Task::new(&model, loader, objective, constraint, config)?;
    // A deep copy: what is loaded must not reach the statistics of the caller's model.
    let model = model.valid();
    let identity = identity(&task, &model)?;
    let directory = RunDir::open(directory)?;
    directory.bind(&identity)?;
    let mut files = Files::open(directory, config.checkpoint)?;
    if let Some(done) = files.finished(&task, &model)? {
        let (steps, epochs, samples) = (done.steps, config.epochs, loader.num_samples());
        observer.on_event(&Event::Started { step: steps, steps, epochs, samples });
        observer.on_event(&Event::Finished { steps, time: Duration::ZERO });
        return Ok(done);
    }
    let run = match files.newest(&task, &model)? {
        Some(run) => run,
        None => Run::start(&task, model)?,
    };
    let result = run.finish(&task, &mut files, observer);
    match &result {
        Ok(done) => files.finish(done)?,
        // The log is for people; a fault in it must not hide the error itself.
        Err(error) => drop(files.log.append(&json!({"event": "ended", "error": error.to_string()}))),
    }
    result
}

/// The files of a run.
struct Files {
    directory: RunDir,
    log: Log,
    checkpoint: CheckpointConfig,
    /// The checkpoints known to be whole.
    whole: BTreeMap<u64, PathBuf>,
}

impl Files {
    fn open(directory: RunDir, checkpoint: CheckpointConfig) -> Result<Self, TrainError> {
        let log = directory.log()?;
        let files = Self { directory, log, checkpoint, whole: BTreeMap::new() };
        remove_unfinished(&files.checkpoints())?;
        remove_unfinished(&files.snapshots())?;
        Ok(files)
    }

    fn checkpoints(&self) -> PathBuf {
        self.directory.path().join("ckpt")
    }

    fn snapshots(&self) -> PathBuf {
        self.directory.path().join("snapshots")
    }

    /// The result of a run that is finished.
    fn finished<M: Classifier>(&self, task: &Task<'_, M>, model: &M) -> Result<Option<Fit<M>>, TrainError> {
        let Some(commit) = self.directory.committed("final") else { return Ok(None) };
        let progress = read_progress(&commit, task)?;
        let Some(snapshots) = self.read_snapshots(task, &progress, model)? else { return Ok(None) };
        let model = read_model(&commit, model)?;
        let Progress { step: steps, history, seconds, .. } = progress;
        Ok(Some(Fit { model, steps, history, snapshots, seconds }))
    }

    /// The run that the newest usable checkpoint holds. Damaged ones are passed over with a
    /// warning, and so are those that lie behind a snapshot that is gone: a run from further back
    /// makes it anew.
    fn newest<M: Classifier>(&mut self, task: &Task<'_, M>, model: &M) -> Result<Option<Run<M>>, TrainError> {
        let mut newest = None;
        for (step, path) in self.list()?.into_iter().rev() {
            let Some(commit) = whole(&path) else { continue };
            self.whole.insert(step, path);
            if newest.is_none() {
                newest = self.read(&commit, task, model)?.map(|run| (step, commit.digest(), run));
            }
        }
        let Some((step, digest, run)) = newest else { return Ok(None) };
        self.log.append(&json!({"event": "resumed", "step": step, "from": digest}))?;
        Ok(Some(run))
    }

    fn read<M: Classifier>(
        &self,
        commit: &Commit,
        task: &Task<'_, M>,
        model: &M,
    ) -> Result<Option<Run<M>>, TrainError> {
        let progress = read_progress(commit, task)?;
        let Some(snapshots) = self.read_snapshots(task, &progress, model)? else { return Ok(None) };
        read_run(commit, task, model, snapshots).map(Some)
    }

    /// The snapshots that a run at `progress` has taken; `None` when one is gone.
    fn read_snapshots<M: Classifier>(
        &self,
        task: &Task<'_, M>,
        progress: &Progress,
        model: &M,
    ) -> Result<Option<BTreeMap<u64, M>>, TrainError> {
        let mut found = BTreeMap::new();
        for &epoch in &task.config.snapshot_epochs {
            if epoch > progress.epoch {
                continue;
            }
            let path = self.snapshots().join(snapshot_name(epoch));
            if let Some(commit) = whole(&path) {
                found.insert(epoch, read_model(&commit, model)?);
            } else if epoch < progress.epoch || progress.batch > 0 || progress.epoch == task.config.epochs {
                tracing::warn!(epoch, "a snapshot is gone: going back to before it was taken");
                return Ok(None);
            }
        }
        Ok(Some(found))
    }

    /// The folders under `ckpt/` that are named as checkpoints are.
    fn list(&self) -> Result<BTreeMap<u64, PathBuf>, TrainError> {
        let parent = self.checkpoints();
        let entries = match fs::read_dir(&parent) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            other => other.map_err(io(&parent))?,
        };
        let mut found = BTreeMap::new();
        for entry in entries {
            let path = entry.map_err(io(&parent))?.path();
            let name = path.file_name().and_then(|n| n.to_str());
            if let Some(step) =
                name.and_then(|n| n.parse().ok()).filter(|s| name == Some(&checkpoint_name(*s)))
            {
                found.insert(step, path);
            }
        }
        Ok(found)
    }

    /// Removes all but the newest whole checkpoints, once there are enough of them.
    fn prune(&mut self) -> Result<(), TrainError> {
        if self.whole.len() < self.checkpoint.keep {
            return Ok(());
        }
        while self.whole.len() > self.checkpoint.keep {
            let Some((_, path)) = self.whole.pop_first() else { break };
            commit::remove(&path)?;
        }
        for (step, path) in self.list()? {
            if !self.whole.contains_key(&step) {
                commit::remove(&path)?;
            }
        }
        Ok(())
    }

    /// Keeps the result; what was there to go on with is of no more use.
    fn finish<M: Classifier>(&mut self, done: &Fit<M>) -> Result<(), TrainError> {
        let mut pending = Pending::new(self.directory.path())?;
        write_model(&mut pending, &done.model)?;
        let progress = Progress {
            step: done.steps,
            epoch: done.history.len() as u64,
            seconds: done.seconds,
            history: done.history.clone(),
            ..Progress::default()
        };
        write_progress(&mut pending, &progress)?;
        let commit = pending.commit("final")?;
        self.log.append(&json!({"event": "finished", "steps": done.steps, "digest": commit.digest()}))?;
        commit::remove(&self.checkpoints())
    }
}

fn checkpoint_name(step: u64) -> String {
    format!("{step:08}")
}

fn snapshot_name(epoch: u64) -> String {
    format!("{epoch:06}")
}

impl<M: Classifier> Keeper<M> for Files {
    fn note(&mut self, event: &Event) -> Result<(), TrainError> {
        let record = match event {
            Event::Started { step, steps, .. } => json!({"event": "started", "step": step, "steps": steps}),
            Event::Epoch { epoch, loss, accuracy, time } => json!({
                "event": "epoch",
                "epoch": epoch,
                "loss": loss,
                "accuracy": accuracy,
                "seconds": time.as_secs_f64(),
            }),
            _ => return Ok(()),
        };
        self.log.append(&record)
    }

    fn snapshot(&mut self, epoch: u64, model: &M) -> Result<(), TrainError> {
        let mut pending = Pending::new(&self.snapshots())?;
        write_model(&mut pending, model)?;
        pending.commit(&snapshot_name(epoch)).map(drop)
    }

    fn is_due(&self, progress: &Progress) -> bool {
        match self.checkpoint.every_steps {
            Some(steps) => progress.step.is_multiple_of(steps),
            None => progress.batch == 0,
        }
    }

    fn save(
        &mut self,
        task: &Task<'_, M>,
        run: &Run<M>,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let step = run.progress.step;
        let mut pending = Pending::new(&self.checkpoints())?;
        write_run(&mut pending, run, task)?;
        let commit = pending.commit(&checkpoint_name(step))?;
        let path = commit.path().to_owned();
        self.log.append(&json!({"event": "saved", "step": step, "digest": commit.digest()}))?;
        self.whole.insert(step, path.clone());
        self.prune()?;
        observer.on_event(&Event::Saved { step, path });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
