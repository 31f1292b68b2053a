//! Errors about pruning and masks.

use unlearn::prune::PruneError;

use crate::error::{Exit, Failure};

impl From<PruneError> for Failure {
    fn from(error: PruneError) -> Self {
        let code = error.code();
        match error {
            PruneError::Rate { got } => Self::new(
                code,
                Exit::Usage,
                "pruning rate",
                got.to_string(),
                "a share above 0 and below 1",
                "give the share of the remaining weights to remove: 0.95 leaves 5 %",
            ),
            PruneError::Config { field, got, expected, mend } => Self::config(field, got, expected, mend),
            PruneError::LayerEmpty { path, total, others } => Self::new(
                code,
                Exit::Usage,
                format!("layer {path}"),
                format!("a mask that removes all its {total} weights ({others} other layers too)"),
                "at least one weight a layer",
                "lower the rate, choose scope \"per-layer\", exclude the layer, or set empty_layers = \"allow\"",
            ),
            PruneError::NothingLeft { total, rate, rounds } => Self::new(
                code,
                Exit::Usage,
                "pruning.rate",
                format!("{rate} in {rounds} rounds, which leaves none of {total} weights"),
                "at least one weight in the end",
                "lower the rate or the number of rounds",
            ),
            PruneError::MaskName { .. } | PruneError::MaskShape { .. } => Self::new(
                code,
                Exit::Checkpoint,
                "mask",
                error.to_string(),
                "a mask of this model",
                "use the mask with the model that it was made for",
            ),
            PruneError::MaskFile { path, got, expected, mend } => {
                Self::new(code, Exit::Checkpoint, path.display().to_string(), got, expected, mend)
            }
            PruneError::OtherRun { path, got, expected, mend } => {
                Self::new(code, Exit::Usage, path.display().to_string(), got, expected, mend)
            }
            PruneError::Io { path, reason } => Self::new(
                code,
                Exit::Environment,
                path.display().to_string(),
                reason,
                "a file or folder that can be used",
                "check the path and the disk, then run again with --resume",
            ),
            PruneError::NonFinite { path, count, mend } => Self::new(
                code,
                Exit::Diverged,
                format!("scores of {path}"),
                format!("{count} that are not finite"),
                "finite scores",
                mend,
            ),
            PruneError::NothingPrunable { .. } | PruneError::Pattern { .. } => Self::new(
                code,
                Exit::Usage,
                "pruning.prunable",
                error.to_string(),
                "a rule and patterns that select weights of the model",
                "correct the rule or the patterns",
            ),
            PruneError::Checkpoint(error) => error.into(),
            PruneError::Curvature(error) => error.into(),
            PruneError::Train(error) => error.into(),
            PruneError::Data(error) => error.into(),
            other => {
                Self::new(code, Exit::Internal, "pruning", other.to_string(), "a mask", "see the message")
            }
        }
    }
}
