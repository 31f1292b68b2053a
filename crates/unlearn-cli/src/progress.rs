//! The progress bar of a run: loss, accuracy, pictures per second, time left. On stderr, and only
//! when that is a terminal.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use unlearn::train::{Event, Observer};

use crate::stop::Stop;

/// What is told while a run goes.
#[derive(Debug, Clone)]
pub(crate) struct Teller {
    shown: bool,
    stop: Stop,
}

impl Teller {
    /// Tells on a terminal unless `quiet`; `stop` ends runs early.
    pub(crate) fn new(quiet: bool, stop: Stop) -> Self {
        Self { shown: !quiet && stderr().is_terminal(), stop }
    }

    /// Whether nothing is told.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.shown
    }

    /// Whether somebody asked to stop.
    pub(crate) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// The observer of one run called `title`.
    pub(crate) fn observe(&self, title: impl Into<String>) -> Progress {
        let bar = if self.shown {
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) =
            ProgressStyle::with_template("{prefix:30!} {bar:20} {pos}/{len} {msg} · {eta} left")
        {
            bar.set_style(style);
        }
        bar.set_prefix(title.into());
        Progress { bar, stop: self.stop.clone(), began: Instant::now(), pictures: 0, mean: Mean::default() }
    }
}

/// A bar for a run of optimizer steps.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    stop: Stop,
    began: Instant,
    pictures: usize,
    mean: Mean,
}

/// Of the epoch under way.
#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    loss: f64,
    correct: usize,
    samples: usize,
}

impl Mean {
    fn add(&mut self, loss: f64, correct: usize, samples: usize) {
        self.loss += loss * samples as f64;
        self.correct += correct;
        self.samples += samples;
    }

    fn text(self, rate: f64) -> String {
        let n = self.samples.max(1) as f64;
        format!(
            "loss {:.3} · accuracy {:.1} % · {rate:.0} pictures/s",
            self.loss / n,
            100.0 * self.correct as f64 / n
        )
    }
}

impl Observer for Progress {
    fn on_event(&mut self, event: &Event) {
        match event {
            Event::Started { step, steps, .. } => {
                self.stop.enter_training();
                self.bar.set_length(*steps);
                self.bar.set_position(*step);
                self.bar.reset_eta();
                self.began = Instant::now();
            }
            Event::Step { step, loss, correct, samples, .. } => {
                self.mean.add(*loss, *correct, *samples);
                self.pictures += samples;
                let seconds = self.began.elapsed().max(Duration::from_millis(1)).as_secs_f64();
                self.bar.set_message(self.mean.text(self.pictures as f64 / seconds));
                self.bar.set_position(*step);
            }
            Event::Epoch { epoch, loss, accuracy, time } => {
                tracing::info!(epoch, loss, accuracy, seconds = time.as_secs_f64(), "epoch");
                self.mean = Mean::default();
            }
            Event::Saved { step, path } => {
                tracing::debug!(step, path = %path.display(), "checkpoint");
            }
            Event::Progress { stage, done, total } => {
                if *done == 0 {
                    self.bar.set_length(*total as u64);
                    self.bar.set_message(*stage);
                    self.bar.reset_eta();
                }
                self.bar.set_position(*done as u64);
            }
            Event::Finished { .. } => {
                self.stop.leave_training();
                self.bar.finish_and_clear();
            }
            _ => {}
        }
    }

    fn should_stop(&mut self) -> bool {
        self.stop.asked()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stop.leave_training();
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_over_pictures_not_batches() {
        let mut mean = Mean::default();
        mean.add(1.0, 3, 3);
        mean.add(3.0, 0, 1);
        assert_eq!(mean.text(10.0), "loss 1.500 · accuracy 75.0 % · 10 pictures/s");
    }
}
