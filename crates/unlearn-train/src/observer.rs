//! What a run tells while it goes.

use std::path::PathBuf;
use std::time::Duration;

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A run begins, or goes on at `step` after a resume.
    Started {
        /// Steps already done.
        step: u64,
        /// Steps of the whole run.
        steps: u64,
        /// Epochs of the whole run.
        epochs: u64,
        /// Samples an epoch.
        samples: usize,
    },
    /// One optimizer step is done.
    Step {
        /// Steps done, this one included.
        step: u64,
        /// The epoch, from zero.
        epoch: u64,
        /// Loss of the batch.
        loss: f64,
        /// Right answers in the batch, before the step.
        correct: usize,
        /// Samples of the batch.
        samples: usize,
        /// Learning rate of the step.
        rate: f64,
    },
    /// An epoch is done.
    Epoch {
        /// The epoch, from zero.
        epoch: u64,
        /// Mean loss over its samples.
        loss: f64,
        /// Share of right answers while training, 0–1.
        accuracy: f64,
        /// Wall-clock time.
        time: Duration,
    },
    /// A piece of work that has no steps (a Fisher diagonal, a Gram matrix) has come so far.
    Progress {
        /// What is being done.
        stage: &'static str,
        /// Units (samples as a rule) that are done.
        done: usize,
        /// All units of the stage.
        total: usize,
    },
    /// A checkpoint is on disk, whole and read back.
    Saved {
        /// Its step.
        step: u64,
        /// Its folder.
        path: PathBuf,
    },
    /// The run is done.
    Finished {
        /// Steps done.
        steps: u64,
        /// Wall-clock time of this process.
        time: Duration,
    },
}

/// Sees the events of a run: a progress bar, a log, nothing.
pub trait Observer {
    /// Called in the thread of the run; what it takes, the run waits for.
    fn on_event(&mut self, event: &Event);

    /// Asked after each step, and after each batch of work without steps; `true` ends the run there, with its
    /// state saved where it has one.
    fn should_stop(&mut self) -> bool {
        false
    }
}

/// Sees nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn on_event(&mut self, _event: &Event) {}
}

impl<F: FnMut(&Event)> Observer for F {
    fn on_event(&mut self, event: &Event) {
        self(event);
    }
}
