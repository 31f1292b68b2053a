//! The only training loop.

use std::collections::BTreeMap;
use std::time::Instant;

use burn::optim::GradientsParams;
use burn::tensor::{Device, ElementConversion};
use unlearn_data::Loader;
use unlearn_models::Classifier;

use crate::{Constraint, Event, FitConfig, Moment, Objective, Observer, TrainError};

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
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
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
    let _ = (model, loader, objective, constraint, config, observer);
    let _ = (
        Instant::now(),
        Device::flex as fn() -> Device,
        Event::Finished { steps: 0, time: std::time::Duration::ZERO },
    );
    let _: Option<(Moment, GradientsParams)> = None;
    let _ = 1.0_f32.elem::<f64>();
    Err(TrainError::Interrupted { step: 0 })
}
