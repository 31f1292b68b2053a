//! Errors about training and run directories.

use unlearn::train::TrainError;

use crate::error::{Exit, Failure};

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        match error {
            TrainError::Config { field, got, expected, mend } => Self::config(field, got, expected, mend),
            TrainError::Diverged { step, epoch, what, last_loss, rate } => Self::new(
                "E_DIVERGED",
                Exit::Diverged,
                format!("step {step} (epoch {epoch})"),
                format!("a {what} that is not finite; the last finite loss was {last_loss}"),
                "finite numbers",
                format!("lower the learning rate (now {rate}) or set clip_norm"),
            ),
            TrainError::Interrupted { step } => Self::new(
                "E_INTERRUPTED",
                Exit::Interrupted,
                "run",
                format!("a request to stop after step {step}"),
                "to reach the end",
                "run the same command with --resume to go on",
            ),
            TrainError::Locked { path, holder } => Self::new(
                "E_LOCKED",
                Exit::Environment,
                path.display().to_string(),
                format!("a directory in use by another run ({holder})"),
                "a directory that no run uses",
                "wait for it to end, or choose another directory",
            ),
            TrainError::RunDirectory { path, got, expected, mend } => {
                Self::new("E_OUTDIR", Exit::Environment, path.display().to_string(), got, expected, mend)
            }
            TrainError::OtherRun { path, differences } => {
                let (code, exit) = if other_pictures(&differences) {
                    ("E_DATASET_MISMATCH", Exit::Data)
                } else {
                    ("E_RESUME_CONFIG", Exit::Usage)
                };
                Self::new(
                    code,
                    exit,
                    path.display().to_string(),
                    differences.join("; "),
                    "the run that was begun there",
                    "run with the old recipe, data and device, or choose another folder with --out",
                )
            }
            TrainError::Io { path, source } => Self::io(&path, &source),
            TrainError::Read { reason } => Self::new(
                "E_BACKEND",
                Exit::Internal,
                "device",
                reason,
                "a tensor read back",
                "run again with --resume; if it happens again, try another device",
            ),
            TrainError::Data(error) => error.into(),
            TrainError::Checkpoint(error) => error.into(),
            other => Self::new(
                "E_TRAIN",
                Exit::Internal,
                "training",
                other.to_string(),
                "a run to its end",
                "see the message",
            ),
        }
    }
}

/// Whether the run is another one for its pictures alone, which is another fault than another recipe. Split,
/// forget set and measured constants are others then too.
fn other_pictures(differences: &[String]) -> bool {
    const PICTURES: [&str; 2] = ["data.train ", "data.test "];
    const FOLLOW: [&str; 3] = ["split ", "partition ", "normalization."];
    // One stage made alone has the identity of a run under `run`.
    let keys = || differences.iter().map(|difference| difference.strip_prefix("run.").unwrap_or(difference));
    let begins = |key: &str, with: &[&str]| with.iter().any(|with| key.starts_with(with));
    keys().any(|key| begins(key, &PICTURES))
        && keys().all(|key| begins(key, &PICTURES) || begins(key, &FOLLOW))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_pictures_are_told_from_another_recipe() {
        let other = |lines: &[&str]| {
            let lines: Vec<String> = lines.iter().map(|key| format!("{key} is 1 there, 2 now")).collect();
            other_pictures(&lines)
        };
        assert!(other(&["data.train", "data.test", "split", "partition", "normalization.mean"]));
        assert!(other(&["run.data.test", "run.partition"]));
        for lines in [
            &["recipe.data.train_per_class", "data.train"][..],
            &["run.recipe.training.epochs"],
            &["partition"],
            &["normalization.mean"],
            &["data.batch_size"],
            &["data.train", "device"],
        ] {
            assert!(!other(lines), "{lines:?}");
        }
    }
}
