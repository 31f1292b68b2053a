//! Ctrl-C and SIGTERM. Where optimizer steps are taken, the one under way is finished and saved; where
//! there is nothing to save (curvature, attacks, reading), the process ends at once. Both end with 75.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{Exit, Failure};
use crate::output;

/// How long the process goes on at most after a signal when there is nothing to save.
const PATIENCE: Duration = Duration::from_millis(50);

/// Whether somebody asked the process to stop.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    asked: Arc<AtomicBool>,
    /// Whether a training loop is at work, which hears of it by itself and saves.
    training: Arc<AtomicBool>,
    /// Whether what was done is kept nowhere.
    keeps_nothing: Arc<AtomicBool>,
    /// A folder that goes with the process.
    scratch: Arc<Mutex<Option<PathBuf>>>,
}

impl Stop {
    /// Listens from now on. The first signal asks; a second one ends the process at once, which is
    /// safe too, because nothing on disk is ever half-committed.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let stop = Self::default();
        let failed = |error: std::io::Error| {
            Failure::new(
                "E_SIGNAL",
                Exit::Environment,
                "signal handler",
                error.to_string(),
                "to be told of Ctrl-C and SIGTERM",
                "run outside the sandbox that forbids it",
            )
        };
        for signal in [SIGINT, SIGTERM] {
            // In this order, so that the first signal still finds the flag down.
            flag::register_conditional_shutdown(signal, Exit::Interrupted as i32, Arc::clone(&stop.asked))
                .and_then(|_| flag::register(signal, Arc::clone(&stop.asked)))
                .map_err(failed)?;
        }
        let watched = stop.clone();
        std::thread::Builder::new().name("signals".into()).spawn(move || watched.watch()).map_err(failed)?;
        Ok(stop)
    }

    /// Ends the process when it was asked to and nobody else will.
    fn watch(&self) {
        loop {
            std::thread::sleep(PATIENCE);
            if self.asked() && !self.training.load(Ordering::SeqCst) {
                if let Some(scratch) = self.scratch.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    // A leftover in the folder for temporary files is only untidy.
                    let _ = std::fs::remove_dir_all(scratch);
                }
                output::failure(&self.failure("where there was nothing to save"));
                signal_hook::low_level::exit(Exit::Interrupted as i32);
            }
        }
    }

    /// Whether the run should end.
    pub(crate) fn asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// A training loop begins, which looks at [`asked`](Self::asked) after each step.
    pub(crate) fn enter_training(&self) {
        self.training.store(true, Ordering::SeqCst);
    }

    /// It is over. After a request the process is left to end in the way that the loop began.
    pub(crate) fn leave_training(&self) {
        if !self.asked() {
            self.training.store(false, Ordering::SeqCst);
        }
    }

    /// Says that `--resume` will find nothing, so that nobody is told to use it; `scratch` is removed
    /// with the process.
    pub(crate) fn keep_nothing(&self, scratch: Option<PathBuf>) {
        self.keeps_nothing.store(true, Ordering::SeqCst);
        *self.scratch.lock().unwrap_or_else(PoisonError::into_inner) = scratch;
    }

    /// Ends the run between two stages when somebody asked.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.asked() { Err(self.failure("before the next stage")) } else { Ok(()) }
    }

    /// The same failure with the advice that fits, when it is an interruption.
    pub(crate) fn advise(&self, failure: Failure) -> Failure {
        if failure.exit == Exit::Interrupted {
            Failure { mend: self.mend().into(), ..failure }
        } else {
            failure
        }
    }

    fn mend(&self) -> &'static str {
        if self.keeps_nothing.load(Ordering::SeqCst) {
            "run the same command again: it keeps nothing until it is done (demo: unless --out names a folder)"
        } else {
            "run the same command with --resume to go on"
        }
    }

    fn failure(&self, when: &str) -> Failure {
        Failure::new(
            "E_INTERRUPTED",
            Exit::Interrupted,
            "run",
            format!("a request to stop {when}"),
            "to reach the end",
            self.mend(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raised_flag_is_exit_75() {
        let stop = Stop::default();
        assert!(stop.check().is_ok());
        stop.asked.store(true, Ordering::SeqCst);
        let failure = stop.check().unwrap_err();
        assert_eq!(failure.exit, Exit::Interrupted);
        assert!(failure.mend.contains("--resume"), "{failure}");
        stop.keep_nothing(None);
        assert!(!stop.advise(failure).mend.contains("--resume"));
    }

    #[test]
    fn a_loop_that_was_asked_to_stop_is_waited_for() {
        let stop = Stop::default();
        stop.enter_training();
        stop.leave_training();
        assert!(!stop.training.load(Ordering::SeqCst));
        stop.enter_training();
        stop.asked.store(true, Ordering::SeqCst);
        stop.leave_training();
        assert!(stop.training.load(Ordering::SeqCst), "the process would end twice");
    }
}
