//! What can go wrong with adapters.

use std::path::PathBuf;

use unlearn_curvature::CurvatureError;

use crate::checkpoint::{CheckpointError, Mismatch};

/// Errors of adding, merging, saving and loading adapters.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoraError {
    /// A field of the configuration is out of range.
    #[error("lora.{field} is {got}, but must be {expected}; {mend}")]
    Config {
        /// The field.
        field: &'static str,
        /// What was given.
        got: String,
        /// What is allowed.
        expected: &'static str,
        /// What to do.
        mend: &'static str,
    },
    /// The rank is larger than a layer's weight matrix can have.
    #[error(
        "lora.rank is {rank}, but `{module}` has a weight matrix of {} × {}, whose rank is at most {}; choose a smaller rank, or leave the layer out of targets",
        matrix[0], matrix[1], matrix[0].min(matrix[1])
    )]
    Rank {
        /// The rank asked for.
        rank: usize,
        /// The layer.
        module: String,
        /// Outputs, and inputs of one output.
        matrix: [usize; 2],
    },
    /// A pattern matches no module.
    #[error(
        "lora.{field}: `{pattern}` matches no module{}; there are {}",
        nearest.as_ref().map(|n| format!(" (did you mean `{n}`?)")).unwrap_or_default(), known.join(", ")
    )]
    NoMatch {
        /// `targets` or `modules_to_save`.
        field: &'static str,
        /// The pattern.
        pattern: String,
        /// The known name most like it.
        nearest: Option<String>,
        /// The last parts of the paths of all modules that could be named.
        known: Vec<String>,
    },
    /// The model cannot carry adapters.
    #[error("this model has no forward pass on a tape, which adapters need; write one (`Classifier::taped`)")]
    Untaped,
    /// The forward pass does not go through some of the adapted layers.
    #[error(
        "the forward pass never uses {}: these layers have several groups, or are not run on the tape; leave them out of targets",
        modules.join(", ")
    )]
    Unreached {
        /// The layers.
        modules: Vec<String>,
    },
    /// An adapter was made for another model.
    #[error("the adapter does not fit this model. Names and shapes are those of the file: {0}")]
    OtherModel(Mismatch),
    /// A mask is not for this model.
    #[error(
        "the mask of `{path}` has {got} entries, but the parameter has {expected}; take the mask of this model"
    )]
    Mask {
        /// The parameter.
        path: String,
        /// Entries of the mask.
        got: usize,
        /// Entries of the parameter, 0 when there is none of this name.
        expected: usize,
    },
    /// A file of a peft folder is not there or cannot be used.
    #[error("{}: {got}; expected {expected}. {mend}", path.display())]
    Folder {
        /// The file.
        path: PathBuf,
        /// What was found.
        got: String,
        /// What was expected.
        expected: &'static str,
        /// What to do.
        mend: &'static str,
    },
    /// Reading or writing weights.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Putting weights together.
    #[error(transparent)]
    Curvature(#[from] CurvatureError),
}

impl LoraError {
    /// A stable code for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Config { .. } | Self::Rank { .. } | Self::NoMatch { .. } => "E_CONFIG",
            Self::Untaped | Self::Unreached { .. } => "E_LORA_MODEL",
            Self::OtherModel(_) => "E_LORA_MISMATCH",
            Self::Mask { .. } => "E_MASK_SHAPE",
            Self::Folder { .. } => "E_LORA_FORMAT",
            Self::Checkpoint(error) => error.code(),
            Self::Curvature(_) => "E_DEVICE",
        }
    }
}
