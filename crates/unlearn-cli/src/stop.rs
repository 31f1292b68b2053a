//! Ctrl-C and SIGTERM: the step under way is finished and saved, then the process ends with 75.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{Exit, Failure};

/// Whether somebody asked the process to stop.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    asked: Arc<AtomicBool>,
}

impl Stop {
    /// Listens from now on. The first signal asks; a second one ends the process at once, which is
    /// safe too, because nothing on disk is ever half-committed.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let stop = Self::default();
        for signal in [SIGINT, SIGTERM] {
            // In this order, so that the first signal still finds the flag down.
            flag::register_conditional_shutdown(signal, Exit::Interrupted as i32, Arc::clone(&stop.asked))
                .and_then(|_| flag::register(signal, Arc::clone(&stop.asked)))
                .map_err(|error| {
                    Failure::new(
                        "E_SIGNAL",
                        Exit::Environment,
                        "signal handler",
                        error.to_string(),
                        "to be told of Ctrl-C and SIGTERM",
                        "run outside the sandbox that forbids it",
                    )
                })?;
        }
        Ok(stop)
    }

    /// Whether the run should end.
    pub(crate) fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Ends the run between two stages when somebody asked.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.asked() { Err(Self::failure("before the next stage")) } else { Ok(()) }
    }

    fn failure(when: &str) -> Failure {
        Failure::new(
            "E_INTERRUPTED",
            Exit::Interrupted,
            "run",
            format!("a request to stop {when}"),
            "to reach the end",
            "run the same command with --resume to go on",
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
        stop.asked.store(true, Ordering::Relaxed);
        assert_eq!(stop.check().unwrap_err().exit, Exit::Interrupted);
    }
}
