//! A run under way: what it is made of, and the loop itself.

use std::collections::BTreeMap;
use std::time::Instant;

use burn::optim::GradientsParams;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use unlearn_data::{HostBatch, Stream};
use unlearn_models::Classifier;

use crate::batch_norm::FrozenNorms;
use crate::fit::Task;
use crate::optimizer::Stepper;
use crate::step::{Reading, is_finite, scale};
use crate::validate::refuse;
use crate::{BatchNormMode, EpochRecord, Event, Fit, Moment, Observer, TrainError};

/// How far a run is: everything but tensors that the next step depends on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Progress {
    /// Optimizer steps done.
    pub(crate) step: u64,
    /// Whole epochs done.
    pub(crate) epoch: u64,
    /// Batches done of the epoch under way.
    pub(crate) batch: u64,
    /// Sum of the losses of its samples.
    pub(crate) loss_sum: f64,
    /// Its right answers.
    pub(crate) correct: u64,
    /// Its samples.
    pub(crate) samples: u64,
    /// Loss of the last batch.
    pub(crate) last_loss: Option<f64>,
    /// Wall-clock seconds, over all processes.
    pub(crate) seconds: f64,
    /// The epochs done.
    pub(crate) history: Vec<EpochRecord>,
}

/// A run under way.
pub(crate) struct Run<M> {
    /// On an autodiff device.
    model: M,
    pub(crate) stepper: Stepper,
    pub(crate) progress: Progress,
    pub(crate) snapshots: BTreeMap<u64, M>,
    frozen: FrozenNorms,
    /// When the clock last ran into `progress.seconds`.
    clock: Instant,
}

/// What is done with a run's state while it goes: nothing, or files.
pub(crate) trait Keeper<M> {
    /// Hears every event before the observer does.
    fn note(&mut self, event: &Event) -> Result<(), TrainError>;

    /// Keeps a snapshot after `epoch` whole epochs.
    fn snapshot(&mut self, epoch: u64, model: &M) -> Result<(), TrainError>;

    /// Whether the state is to be kept now.
    fn is_due(&self, progress: &Progress) -> bool;

    /// Keeps the state.
    fn save(
        &mut self,
        task: &Task<'_, M>,
        run: &Run<M>,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError>;
}

/// Keeps nothing.
pub(crate) struct Forget;

impl<M> Keeper<M> for Forget {
    fn note(&mut self, _: &Event) -> Result<(), TrainError> {
        Ok(())
    }

    fn snapshot(&mut self, _: u64, _: &M) -> Result<(), TrainError> {
        Ok(())
    }

    fn is_due(&self, _: &Progress) -> bool {
        false
    }

    fn save(&mut self, _: &Task<'_, M>, _: &Run<M>, _: &mut dyn Observer) -> Result<(), TrainError> {
        Ok(())
    }
}

impl<M: Classifier> Run<M> {
    /// A run before its first step.
    pub(crate) fn start(task: &Task<'_, M>, model: M) -> Result<Self, TrainError> {
        Self::resume(
            task,
            task.constraint.enter(model.valid()),
            Stepper::new(&task.config.optimizer),
            Progress::default(),
            BTreeMap::new(),
        )
    }

    /// A run that goes on. `model` lies on a plain device and is already in the constraint.
    pub(crate) fn resume(
        task: &Task<'_, M>,
        model: M,
        stepper: Stepper,
        progress: Progress,
        snapshots: BTreeMap<u64, M>,
    ) -> Result<Self, TrainError> {
        // `valid` is a deep copy: clones share the statistics of their batch norms.
        let model = model.valid();
        if !is_finite(&model)? {
            return refuse(
                "model",
                "not finite",
                "finite weights".into(),
                "start from a model that is whole",
            );
        }
        let model = model.train();
        let (model, frozen) = match task.config.batch_norm {
            BatchNormMode::Train => (model, FrozenNorms::default()),
            BatchNormMode::Frozen => FrozenNorms::freeze(model),
        };
        Ok(Self { model, stepper, progress, snapshots, frozen, clock: Instant::now() })
    }

    /// A copy of the model on a plain device.
    pub(crate) fn plain(&self) -> M {
        // Twice, because thawing turns the flags of the copy on.
        self.frozen.thaw(self.model.valid()).valid()
    }

    /// Runs to the end.
    pub(crate) fn finish(
        mut self,
        task: &Task<'_, M>,
        keeper: &mut dyn Keeper<M>,
        observer: &mut dyn Observer,
    ) -> Result<Fit<M>, TrainError> {
        let began = Instant::now();
        let (steps, epochs) = (task.steps(), task.config.epochs);
        let samples = task.loader.num_samples();
        tell(keeper, observer, &Event::Started { step: self.progress.step, steps, epochs, samples })?;
        self.take_snapshot(task, keeper)?;
        while self.progress.epoch < epochs {
            let started = Instant::now();
            let first = self.progress.batch as usize;
            for batch in task.loader.epoch_from(self.progress.epoch, first) {
                self = self.step(task, batch, keeper, observer)?;
                if self.progress.batch == task.steps_per_epoch() {
                    self.end_epoch(started, keeper, observer)?;
                    self.take_snapshot(task, keeper)?;
                }
                self.progress.seconds += self.clock.elapsed().as_secs_f64();
                self.clock = Instant::now();
                if self.progress.epoch == epochs {
                    break;
                }
                let stop = observer.should_stop();
                if stop || keeper.is_due(&self.progress) {
                    keeper.save(task, &self, observer)?;
                }
                if stop {
                    return Err(TrainError::Interrupted { step: self.progress.step });
                }
            }
        }
        let model = self.plain();
        self.check_finite(task, &model)?;
        tell(keeper, observer, &Event::Finished { steps, time: began.elapsed() })?;
        let Progress { step: steps, history, seconds, .. } = self.progress;
        Ok(Fit { model, steps, history, snapshots: self.snapshots, seconds })
    }

    /// One batch: forward, backward, look, move. On an error nothing has moved.
    ///
    /// By value, so that the optimizer gets the only handle on the weights and may reuse memory.
    fn step(
        mut self,
        task: &Task<'_, M>,
        batch: HostBatch,
        keeper: &mut dyn Keeper<M>,
        observer: &mut dyn Observer,
    ) -> Result<Self, TrainError> {
        let config = task.config;
        let at = Moment {
            epoch: self.progress.epoch,
            epochs: config.epochs,
            step: self.progress.step,
            steps_per_epoch: task.steps_per_epoch(),
        };
        let rate = config.rate_at(at.step, at.steps_per_epoch);
        task.device.seed(config.seed.rng(Stream::Device, at.epoch, at.step).random());

        let batch = batch.to_device(&task.device.clone().autodiff());
        let samples = batch.len();
        let loss = task.objective.loss(&self.model, &batch, at);
        let (value, logits) = (loss.value.clone().inner(), loss.logits.inner());
        let gradients = GradientsParams::from_grads(loss.value.backward(), &self.model);
        let mut gradients = task.constraint.gradients(&self.model, gradients);

        let reading = Reading::take(&self.model, &gradients, value, logits, batch.targets.inner())?;
        if let Some(what) = reading.not_finite() {
            return Err(self.diverged_at(at.step, what, rate));
        }
        if let Some(largest) = config.clip_norm {
            // As PyTorch's `clip_grad_norm_`.
            let factor = largest / (reading.gradient_squares.sqrt() + 1e-6);
            if factor < 1.0 {
                gradients = scale(&self.model, gradients, factor);
            }
        }

        let model = self.stepper.step(rate, self.model, gradients);
        self.model = task.constraint.project(task.objective.proximal(model, rate, at));

        let progress = &mut self.progress;
        progress.step += 1;
        progress.batch += 1;
        progress.loss_sum += reading.loss * samples as f64;
        progress.correct += reading.correct as u64;
        progress.samples += samples as u64;
        progress.last_loss = Some(reading.loss);
        let event = Event::Step {
            step: progress.step,
            epoch: progress.epoch,
            loss: reading.loss,
            correct: reading.correct,
            samples,
            rate,
        };
        tell(keeper, observer, &event)?;
        Ok(self)
    }

    fn end_epoch(
        &mut self,
        started: Instant,
        keeper: &mut dyn Keeper<M>,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        let progress = &mut self.progress;
        let samples = progress.samples as f64;
        let record = EpochRecord {
            epoch: progress.epoch,
            loss: progress.loss_sum / samples,
            accuracy: progress.correct as f64 / samples,
        };
        let EpochRecord { epoch, loss, accuracy } = record;
        tell(keeper, observer, &Event::Epoch { epoch, loss, accuracy, time: started.elapsed() })?;
        progress.history.push(record);
        progress.epoch += 1;
        (progress.batch, progress.loss_sum, progress.correct, progress.samples) = (0, 0.0, 0, 0);
        Ok(())
    }

    fn take_snapshot(&mut self, task: &Task<'_, M>, keeper: &mut dyn Keeper<M>) -> Result<(), TrainError> {
        let epoch = self.progress.epoch;
        let wanted = self.progress.batch == 0 && task.config.snapshot_epochs.contains(&epoch);
        if !wanted || self.snapshots.contains_key(&epoch) {
            return Ok(());
        }
        let model = self.plain();
        self.check_finite(task, &model)?;
        keeper.snapshot(epoch, &model)?;
        self.snapshots.insert(epoch, model);
        Ok(())
    }

    /// A finite gradient can still carry a weight out of range.
    pub(crate) fn check_finite(&self, task: &Task<'_, M>, model: &M) -> Result<(), TrainError> {
        if is_finite(model)? {
            return Ok(());
        }
        Err(self.diverged(task, "parameter"))
    }

    /// Divergence that shows after the step that is to blame.
    pub(crate) fn diverged(&self, task: &Task<'_, M>, what: &'static str) -> TrainError {
        let Progress { step, .. } = self.progress;
        let step = step.saturating_sub(1);
        let rate = task.config.rate_at(step, task.steps_per_epoch());
        self.diverged_at(step, what, rate)
    }

    fn diverged_at(&self, step: u64, what: &'static str, rate: f64) -> TrainError {
        TrainError::Diverged {
            step,
            epoch: self.progress.epoch,
            what,
            last_loss: self.progress.last_loss.unwrap_or(f64::NAN),
            rate,
        }
    }
}

/// An event to all who listen.
fn tell<M>(keeper: &mut dyn Keeper<M>, observer: &mut dyn Observer, event: &Event) -> Result<(), TrainError> {
    keeper.note(event)?;
    observer.on_event(event);
    Ok(())
}
