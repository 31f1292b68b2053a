//! What can go wrong in a run.

use std::path::PathBuf;

use unlearn_data::DataError;
use unlearn_models::CheckpointError;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A setting is out of its range.
    #[error("{field} is {got}, but must be {expected}; {mend}")]
    Config {
        /// The setting.
        field: &'static str,
        /// What was given.
        got: String,
        /// What is allowed.
        expected: String,
        /// What to do.
        mend: String,
    },
    /// Loss or gradient stopped being finite. Nothing of that step was kept.
    #[error(
        "diverged at step {step} (epoch {epoch}): {what} is not finite; the last finite loss was {last_loss}. Lower the learning rate (now {rate}) or set clip_norm"
    )]
    Diverged {
        /// The step, from zero.
        step: u64,
        /// The epoch, from zero.
        epoch: u64,
        /// `loss`, `gradient`, `running statistic`, `parameter` or `optimizer state`.
        what: &'static str,
        /// The last finite loss of a batch; NaN when there was none.
        last_loss: f64,
        /// Learning rate of the step.
        rate: f64,
    },
    /// The observer asked to stop; what was done so far is saved.
    #[error("interrupted after step {step}; run again with resume to go on")]
    Interrupted {
        /// Steps done.
        step: u64,
    },
    /// Another process holds the run directory.
    #[error("{} is in use by another run ({holder}); wait for it or choose another directory", path.display())]
    Locked {
        /// The run directory.
        path: PathBuf,
        /// What the lock file says of its holder.
        holder: String,
    },
    /// A run directory cannot be used.
    #[error("{}: {got}; expected {expected}. {mend}", path.display())]
    RunDirectory {
        /// The file or folder.
        path: PathBuf,
        /// What was found.
        got: String,
        /// What was expected.
        expected: String,
        /// What to do.
        mend: String,
    },
    /// A run directory belongs to a run with another configuration.
    #[error(
        "{}: this directory belongs to another run: {}. Run with the old settings or choose another directory",
        path.display(), differences.join("; ")
    )]
    OtherRun {
        /// The file that says what the run is.
        path: PathBuf,
        /// What differs: key, value there, value asked for.
        differences: Vec<String>,
    },
    /// The operating system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Its words.
        source: std::io::Error,
    },
    /// The device could not give a tensor back.
    #[error("reading from the device failed: {reason}")]
    Read {
        /// The device's own words.
        reason: String,
    },
    /// The data said no.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A model's weights said no.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl TrainError {
    /// A stable code for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Config { .. } => "E_CONFIG",
            Self::Diverged { .. } => "E_DIVERGED",
            Self::Interrupted { .. } => "E_INTERRUPTED",
            Self::Locked { .. } => "E_LOCKED",
            Self::RunDirectory { .. } => "E_RUN_DIRECTORY",
            Self::OtherRun { .. } => "E_OTHER_RUN",
            Self::Io { .. } => "E_IO",
            Self::Read { .. } => "E_DEVICE",
            Self::Data(error) => error.code(),
            Self::Checkpoint(error) => error.code(),
        }
    }
}
