//! Training in memory, and what every run is made of.

use std::collections::BTreeMap;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use unlearn_curvature::parameters;
use unlearn_data::Loader;
use unlearn_models::Classifier;

use crate::run::{Forget, Run};
use crate::validate::refuse;
use crate::{Constraint, FitConfig, Objective, Observer, TrainError};

/// What a run gives.
#[derive(Debug, Clone)]
pub struct Fit<M> {
    /// The model after the last step, on a plain device.
    pub model: M,
    /// Optimizer steps done.
    pub steps: u64,
    /// One record an epoch.
    pub history: Vec<EpochRecord>,
    /// The models after the epochs that [`FitConfig::snapshot_epochs`] names (`k` means after `k`
    /// whole epochs), on a plain device.
    pub snapshots: BTreeMap<u64, M>,
    /// Wall-clock seconds, over all processes that took part.
    pub seconds: f64,
}

/// What an epoch came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochRecord {
    /// The epoch, from zero.
    pub epoch: u64,
    /// Mean loss over its samples.
    pub loss: f64,
    /// Share of right answers while training, 0–1.
    pub accuracy: f64,
}

/// Trains `model` on `loader` and keeps nothing on disk.
///
/// The model may lie on a plain or an autodiff device; the caller's copy is never changed. The
/// result lies on a plain device.
///
/// # Errors
/// [`TrainError::Config`] before any work; [`TrainError::Diverged`] within the step at which loss
/// or gradient stops being finite; [`TrainError::Interrupted`] when the observer asks to stop.
pub fn fit<M: Classifier>(
    model: M,
    loader: &Loader,
    objective: &dyn Objective<M>,
    constraint: &dyn Constraint<M>,
    config: &FitConfig,
    observer: &mut dyn Observer,
) -> Result<Fit<M>, TrainError> {
    let task = Task::new(&model, loader, objective, constraint, config)?;
    let run = Run::start(&task, model)?;
    run.finish(&task, &mut Forget, observer)
}

/// What a run is made of, checked.
pub(crate) struct Task<'a, M> {
    pub(crate) loader: &'a Loader,
    pub(crate) objective: &'a dyn Objective<M>,
    pub(crate) constraint: &'a dyn Constraint<M>,
    pub(crate) config: &'a FitConfig,
    pub(crate) device: Device,
}

impl<'a, M: Classifier> Task<'a, M> {
    /// Checks everything that can be checked on the host.
    pub(crate) fn new(
        model: &M,
        loader: &'a Loader,
        objective: &'a dyn Objective<M>,
        constraint: &'a dyn Constraint<M>,
        config: &'a FitConfig,
    ) -> Result<Self, TrainError> {
        config.validate()?;
        objective.validate()?;
        // A label past the logits is an unchecked memory access on a GPU.
        let largest = loader.indices().iter().filter_map(|i| loader.dataset().label(*i)).max();
        if let Some(label) = largest.filter(|l| *l >= model.num_classes()) {
            return refuse(
                "num_classes",
                model.num_classes(),
                format!("more than the largest label, {label}"),
                "give the model as many classes as the data have",
            );
        }
        let Some(device) = model.devices().into_iter().next() else {
            return refuse("model", "without parameters", "a parameter".into(), "there is nothing to train");
        };
        one_name_each(model)?;
        Ok(Self { loader, objective, constraint, config, device: device.without_autodiff() })
    }

    pub(crate) fn steps_per_epoch(&self) -> u64 {
        self.loader.batches_per_epoch() as u64
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps_per_epoch() * self.config.epochs
    }
}

/// Burn keeps gradients by identifier, and a cloned layer keeps its identifiers: of two such copies one would be trained with
/// the other's gradient, and the rest never.
fn one_name_each<M: Classifier>(model: &M) -> Result<(), TrainError> {
    let mut known = BTreeMap::new();
    for parameter in parameters(model).into_iter().filter(|parameter| parameter.trainable) {
        if let Some(other) = known.insert(parameter.id.val(), parameter.path.clone()) {
            return refuse(
                "model",
                format!("one parameter under two names, `{other}` and `{}`", parameter.path),
                "an identifier for each trainable parameter".into(),
                "initialise each layer on its own instead of cloning one; keep a shared layer in one field and use it twice",
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
