//! What can go wrong here.

/// Errors of this crate. Each says what was got, what was expected and how to mend it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CurvatureError {
    /// A tensor does not have the shape of its parameter.
    #[error("`{path}` has shape {got:?}, but {expected:?} was expected; use values made from the same model")]
    Shape {
        /// The parameter.
        path: String,
        /// The shape that was given.
        got: Vec<usize>,
        /// The shape that was needed.
        expected: Vec<usize>,
    },
    /// Two sets of parameters do not have the same names.
    #[error(
        "parameter names differ: missing {missing:?}, not expected {unknown:?}; use values made from the same model"
    )]
    Keys {
        /// Names that are needed but absent.
        missing: Vec<String>,
        /// Names that are there but not known.
        unknown: Vec<String>,
    },
    /// An argument is out of its range.
    #[error("{field} is {got}, but must be {expected}")]
    Argument {
        /// The argument.
        field: &'static str,
        /// What was given.
        got: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// A result is not finite.
    #[error("{what} is not finite; {mend}")]
    NonFinite {
        /// The quantity.
        what: String,
        /// What to do.
        mend: &'static str,
    },
    /// A linear system has no solution to working precision.
    #[error("the system cannot be solved: {got}; {mend}")]
    Solve {
        /// What was found.
        got: String,
        /// What to do.
        mend: &'static str,
    },
    /// The recording tape met something that it cannot carry cotangents through exactly.
    #[error("the curvature engine cannot go through {what}; {mend}")]
    Unsupported {
        /// What was met.
        what: String,
        /// What to do.
        mend: &'static str,
    },
    /// No marked layer of a forward pass in plain Burn holds these trainable parameters.
    #[error(
        "no marked layer holds {parameters:?}; run their layers through `Probes`, freeze them (`no_grad`), or take the \
         oracle for this model"
    )]
    Unmarked {
        /// Their paths.
        parameters: Vec<String>,
    },
    /// Whoever [watches](crate::Watch) the run ended it. Nothing is left behind.
    #[error("interrupted: {stage}, {done} of {total} done; run it again from the start")]
    Interrupted {
        /// The stage under way.
        stage: &'static str,
        /// Units of the stage that were done.
        done: usize,
        /// Units of the stage.
        total: usize,
    },
    /// A sample could not be read.
    #[error("sample {index} cannot be read: {reason}")]
    Sample {
        /// Its place in the order of the samples.
        index: usize,
        /// Why.
        reason: String,
    },
    /// A file cannot be written, read or understood.
    #[error("{path}: {reason}; {mend}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        mend: &'static str,
    },
    /// The device could not give a tensor back.
    #[error("reading from the device failed: {reason}")]
    Read {
        /// The device's own words.
        reason: String,
    },
}
