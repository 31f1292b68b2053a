//! What can go wrong in an evaluation.

use std::path::PathBuf;

use unlearn_data::DataError;

/// Errors of this crate. Each says where, what was got, what was expected and the mend;
/// [`code`](Self::code) is stable across releases.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// Data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model has another number of classes than the data.
    #[error(
        "the model has {model} classes, but data set {dataset} has {data}; evaluate it on the data it was trained for"
    )]
    Classes {
        /// Classes of the model.
        model: usize,
        /// The data set.
        dataset: String,
        /// Classes of the data set.
        data: usize,
    },
    /// The model's answer does not have the promised shape.
    #[error("{what} has shape {got:?}, but {expected:?} was expected; {mend}")]
    Shape {
        /// The table.
        what: &'static str,
        /// Its shape.
        got: Vec<usize>,
        /// The shape that was needed.
        expected: Vec<usize>,
        /// What to do.
        mend: &'static str,
    },
    /// A label names no class.
    #[error("sample {sample} has label {got}; there are {classes} classes (0–{}); correct the labels", classes.saturating_sub(1))]
    LabelRange {
        /// Row of the table.
        sample: usize,
        /// Its label.
        got: usize,
        /// Number of classes.
        classes: usize,
    },
    /// A logit is not finite, so no metric of the model has a meaning.
    #[error(
        "the logit of sample {sample} for class {class} is {got}, but every logit must be finite; the model has diverged: lower the learning rate or strength of the method"
    )]
    NonFinite {
        /// Place of the sample in its data set, or row of the table.
        sample: usize,
        /// The class.
        class: usize,
        /// The value.
        got: f32,
    },
    /// There is no sample to compute from.
    #[error("{what} is empty; at least one sample is needed")]
    Empty {
        /// The set.
        what: &'static str,
    },
    /// An argument is out of its range.
    #[error("{field} is {got}, but must be {expected}; {mend}")]
    Config {
        /// The argument.
        field: &'static str,
        /// What was given.
        got: String,
        /// What is allowed.
        expected: &'static str,
        /// What to do.
        mend: &'static str,
    },
    /// The model lies on no device.
    #[error("the model has no tensor, so it lies on no device; evaluate a module with parameters")]
    NoDevice,
    /// The device could not give a tensor back.
    #[error("reading the logits from the device failed: {reason}")]
    Read {
        /// The device's own words.
        reason: String,
    },
    /// A support vector machine did not reach its tolerance.
    #[error(
        "the attack's support vector machine still violates its optimality conditions by {violation:.1e} after {iterations} steps (tolerance {tolerance:.1e}); raise the tolerance"
    )]
    NotConverged {
        /// Steps done.
        iterations: usize,
        /// Largest violation left.
        violation: f64,
        /// Largest violation allowed.
        tolerance: f64,
    },
    /// Two evaluations cannot be compared.
    #[error(
        "{metric} was measured {got}, but Retrain's {expected}; evaluate both on the same data in the same way"
    )]
    Incomparable {
        /// The metric.
        metric: &'static str,
        /// How it was measured.
        got: String,
        /// How Retrain's was measured.
        expected: String,
    },
    /// A results file is of another version.
    #[error("results have schema {got:?}, but this version reads {expected:?}; {mend}")]
    Schema {
        /// The schema found.
        got: String,
        /// The schema read here.
        expected: &'static str,
        /// What to do.
        mend: &'static str,
    },
    /// A results file is not what its schema says, or a result cannot be written as one.
    #[error("{what}: {reason}; {mend}")]
    Format {
        /// The file or form.
        what: String,
        /// Why.
        reason: String,
        /// What to do.
        mend: &'static str,
    },
    /// The operating system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Its words.
        source: std::io::Error,
    },
}

impl EvalError {
    /// A stable code for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Data(error) => error.code(),
            Self::Classes { .. } => "E_CKPT_CLASSES",
            Self::Shape { .. } => "E_LOGITS_SHAPE",
            Self::LabelRange { .. } => "E_LABEL_RANGE",
            Self::NonFinite { .. } => "E_LOGITS_NONFINITE",
            Self::Empty { .. } => "E_EVAL_EMPTY",
            Self::Config { .. } => "E_CONFIG",
            Self::NoDevice => "E_DEVICE",
            Self::Read { .. } => "E_BACKEND",
            Self::NotConverged { .. } => "E_SVM",
            Self::Incomparable { .. } => "E_INCOMPARABLE",
            Self::Schema { .. } => "E_RESULTS_SCHEMA",
            Self::Format { .. } => "E_RESULTS_FORMAT",
            Self::Io { .. } => "E_IO",
        }
    }
}
