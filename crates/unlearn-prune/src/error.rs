//! What can go wrong in pruning.

use std::path::PathBuf;

use unlearn_curvature::CurvatureError;
use unlearn_data::DataError;
use unlearn_models::CheckpointError;
use unlearn_train::TrainError;

/// Errors of this crate. Each names the field, layer or file, what was got, what was expected and
/// the mend; [`code`](Self::code) is stable across releases.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PruneError {
    /// The share to prune is not a share.
    #[error(
        "pruning rate is {got}, but must lie between 0 and 1, both excluded; give the share of the remaining weights to remove (0.95 leaves 5 %)"
    )]
    Rate {
        /// What was given.
        got: f64,
    },
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
    /// A layer would lose its last weight, which cuts the network there.
    #[error(
        "pruning would remove all {total} weights of `{path}`{}; lower the rate, choose scope \"per-layer\", exclude the layer, or allow empty layers",
        more(*others)
    )]
    LayerEmpty {
        /// The first layer by path.
        path: String,
        /// Its number of weights.
        total: usize,
        /// How many other layers would be emptied too.
        others: usize,
    },
    /// Nothing would be left of the network.
    #[error(
        "{rounds} prunings at rate {rate} leave none of the {total} prunable weights; lower the rate or the number of rounds"
    )]
    NothingLeft {
        /// Prunable weights before the first of them.
        total: usize,
        /// The share that each removes.
        rate: f64,
        /// How many there are.
        rounds: u32,
    },
    /// A score is not a number or infinite, so that there is no ranking.
    #[error("{count} scores of `{path}` are not finite; {mend}")]
    NonFinite {
        /// The parameter.
        path: String,
        /// How many of its scores.
        count: usize,
        /// What to do.
        mend: &'static str,
    },
    /// A score has values for other parameters than the prunable ones.
    #[error(
        "the score of `{path}` has {got} values, but {expected} were expected; return one score a weight"
    )]
    ScoreShape {
        /// The parameter.
        path: String,
        /// Values given; 0 when the parameter is absent.
        got: usize,
        /// Number of weights.
        expected: usize,
    },
    /// The rule selects no parameter of this model.
    #[error("rule {rule} selects no parameter of this model; {mend}")]
    NothingPrunable {
        /// The rule.
        rule: String,
        /// What to do.
        mend: String,
    },
    /// A pattern of an exclude list matches no parameter, or one of an include list none that is trained.
    #[error(
        "pattern \"{pattern}\" in {list} matches no {}parameter of this model; they are named like {example}",
        if *list == "include" { "trained " } else { "" }
    )]
    Pattern {
        /// `include` or `exclude`.
        list: &'static str,
        /// The pattern.
        pattern: String,
        /// Some names of the model.
        example: String,
    },
    /// A mask names parameters that the model does not have.
    #[error(
        "the mask is for parameters that the model does not have: {unknown:?}; use the mask with the model it was made for"
    )]
    MaskName {
        /// All such names.
        unknown: Vec<String>,
    },
    /// A mask does not have the shape of its parameter.
    #[error(
        "the mask of `{path}` has shape {got:?}, but {expected:?} was expected; use the mask with the model it was made for"
    )]
    MaskShape {
        /// The parameter.
        path: String,
        /// Shape (or number of entries) of the mask.
        got: Vec<usize>,
        /// What was expected.
        expected: Vec<usize>,
    },
    /// A file is not a mask file, or damaged.
    #[error("{}: {got}; expected {expected}. {mend}", path.display())]
    MaskFile {
        /// The file.
        path: PathBuf,
        /// What was found.
        got: String,
        /// What was expected.
        expected: String,
        /// What to do.
        mend: String,
    },
    /// A directory holds another run than the one that is asked for.
    #[error("{}: {got}; expected {expected}. {mend}", path.display())]
    OtherRun {
        /// The file that says so.
        path: PathBuf,
        /// What was found.
        got: String,
        /// What was expected.
        expected: String,
        /// What to do.
        mend: String,
    },
    /// A file cannot be read or written.
    #[error("{}: {reason}; check that the folder exists and may be written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        reason: String,
    },
    /// The device could not give a tensor back.
    #[error("reading from the device failed: {reason}")]
    Read {
        /// The device's own words.
        reason: String,
    },
    /// Parameter trees did not agree.
    #[error(transparent)]
    Curvature(#[from] CurvatureError),
    /// A checkpoint said no.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Training said no.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The data said no.
    #[error(transparent)]
    Data(#[from] DataError),
}

fn more(others: usize) -> String {
    match others {
        0 => String::new(),
        1 => " and of one other layer".to_owned(),
        n => format!(" and of {n} other layers"),
    }
}

impl PruneError {
    /// A stable code for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Rate { .. } => "E_RATE",
            Self::Config { .. } => "E_CONFIG",
            Self::LayerEmpty { .. } => "E_PRUNE_LAYER_EMPTY",
            Self::NothingLeft { .. } => "E_PRUNE_ALL",
            Self::NonFinite { .. } => "E_SCORE_NONFINITE",
            Self::ScoreShape { .. } => "E_SCORE_SHAPE",
            Self::NothingPrunable { .. } | Self::Pattern { .. } => "E_PRUNABLE",
            Self::MaskName { .. } => "E_MASK_NAME",
            Self::MaskShape { .. } => "E_MASK_SHAPE",
            Self::MaskFile { .. } => "E_MASK_FILE",
            Self::OtherRun { .. } => "E_RESUME_CONFIG",
            Self::Io { .. } => "E_IO",
            Self::Read { .. } => "E_DEVICE",
            Self::Curvature(_) => "E_CURVATURE",
            Self::Checkpoint(error) => error.code(),
            Self::Train(error) => error.code(),
            Self::Data(error) => error.code(),
        }
    }
}
