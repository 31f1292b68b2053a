//! A run's state as files, and back.

use std::collections::BTreeMap;

use unlearn_models::{Classifier, StateDict};

use crate::TrainError;
use crate::commit::{Commit, Pending};
use crate::fit::Task;
use crate::optimizer::Stepper;
use crate::run::{Progress, Run};
use crate::tensor_file::TensorFile;

/// Weights and running statistics under PyTorch's names.
pub(crate) const MODEL: &str = "model.safetensors";
/// The optimizer's state.
pub(crate) const OPTIMIZER: &str = "optimizer.safetensors";
/// Everything else, as JSON.
pub(crate) const STATE: &str = "state.json";

/// Writes a model.
pub(crate) fn write_model<M: Classifier>(pending: &mut Pending, model: &M) -> Result<(), TrainError> {
    let state = StateDict::of(model)?;
    state.check_finite()?;
    let tensors = state.iter().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
    let file = TensorFile { tensors, about: String::new() };
    pending.write(MODEL, &file.encode().map_err(unwritable)?)
}

/// `model` with the weights of a commit.
pub(crate) fn read_model<M: Classifier>(commit: &Commit, model: &M) -> Result<M, TrainError> {
    let file = TensorFile::decode(&commit.read(MODEL)?).map_err(|e| foreign(commit, MODEL, e))?;
    let mut state = StateDict::new();
    for (name, tensor) in file.tensors {
        state.insert(name, tensor)?;
    }
    state.load_into(model.valid()).map_err(|e| foreign(commit, MODEL, e.to_string()))
}

/// Writes how far a run is.
pub(crate) fn write_progress(pending: &mut Pending, progress: &Progress) -> Result<(), TrainError> {
    let text = serde_json::to_vec_pretty(progress).map_err(|e| TrainError::Read { reason: e.to_string() })?;
    pending.write(STATE, &text)
}

/// Reads how far a run is.
pub(crate) fn read_progress<M: Classifier>(
    commit: &Commit,
    task: &Task<'_, M>,
) -> Result<Progress, TrainError> {
    let content = commit.read(STATE)?;
    let progress: Progress =
        serde_json::from_slice(&content).map_err(|e| foreign(commit, STATE, e.to_string()))?;
    let Progress { step, epoch, batch, .. } = progress;
    let spe = task.steps_per_epoch();
    let fits = epoch <= task.config.epochs
        && batch < spe
        && Some(step) == epoch.checked_mul(spe).and_then(|s| s.checked_add(batch))
        && progress.history.len() as u64 == epoch;
    if fits {
        Ok(progress)
    } else {
        Err(foreign(commit, STATE, format!("step {step}, epoch {epoch}, batch {batch}")))
    }
}

/// Writes the state that a run needs to go on.
pub(crate) fn write_run<M: Classifier>(
    pending: &mut Pending,
    run: &Run<M>,
    task: &Task<'_, M>,
) -> Result<(), TrainError> {
    let model = run.plain();
    run.check_finite(task, &model)?;
    write_model(pending, &model)?;
    let optimizer = run.stepper.export(&model)?;
    if optimizer.not_finite().is_some() {
        return Err(run.diverged(task, "optimizer state"));
    }
    pending.write(OPTIMIZER, &optimizer.encode().map_err(unwritable)?)?;
    write_progress(pending, &run.progress)
}

/// The run that a commit holds.
pub(crate) fn read_run<M: Classifier>(
    commit: &Commit,
    task: &Task<'_, M>,
    model: &M,
    snapshots: BTreeMap<u64, M>,
) -> Result<Run<M>, TrainError> {
    let model = read_model(commit, model)?;
    let bytes = commit.read(OPTIMIZER)?;
    let file = TensorFile::decode(&bytes).map_err(|e| foreign(commit, OPTIMIZER, e))?;
    let mut stepper = Stepper::new(&task.config.optimizer);
    stepper.import(&file, &model).map_err(|e| foreign(commit, OPTIMIZER, e))?;
    // Burn drops state that it cannot place without a word; here nothing may be lost or changed.
    if stepper.export(&model)?.encode().map_err(unwritable)? != bytes {
        return Err(foreign(commit, OPTIMIZER, "state that does not fit this model".into()));
    }
    Run::resume(task, model, stepper, read_progress(commit, task)?, snapshots)
}

/// A file that is as it was written, but not what this run writes.
fn foreign(commit: &Commit, name: &str, got: String) -> TrainError {
    TrainError::RunDirectory {
        path: commit.path().join(name),
        got,
        expected: "a file of this run as this version writes it".into(),
        mend: "delete the run directory and run again".into(),
    }
}

fn unwritable(error: safetensors::SafeTensorError) -> TrainError {
    TrainError::Read { reason: error.to_string() }
}
