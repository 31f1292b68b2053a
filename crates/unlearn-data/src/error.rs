//! What can go wrong with data.

use std::path::PathBuf;

/// Errors of this crate. Each names the file or field, what was got, what was expected and the
/// mend; [`code`](Self::code) is stable across releases.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A label has no class.
    #[error("{file}: record {record}{} has label {got}; this set has {classes} classes (0–{}). The file is damaged or of another data set: fetch it again", offset.map(|o| format!(" (byte {o})")).unwrap_or_default(), classes.saturating_sub(1))]
    LabelRange {
        /// The file or data set.
        file: String,
        /// The record, counted from zero.
        record: usize,
        /// The byte in the file.
        offset: Option<u64>,
        /// The label found.
        got: usize,
        /// Number of classes.
        classes: usize,
    },
    /// A file's length is no whole number of records.
    #[error("{}: {got} bytes; {expected}. The file is cut or damaged: fetch it again", file.display())]
    Length {
        /// The file.
        file: PathBuf,
        /// Its length in bytes.
        got: u64,
        /// What was expected, in words.
        expected: String,
    },
    /// A file's content does not have the expected hash.
    #[error("{}: SHA-256 is {got}, but {expected} was expected. Delete the file and fetch it again", file.display())]
    Checksum {
        /// The file.
        file: PathBuf,
        /// The hash found.
        got: String,
        /// The hash expected.
        expected: String,
    },
    /// A file has the right name but not the right content.
    #[error("{}: {got}; expected {expected}. {mend}", file.display())]
    Format {
        /// The file.
        file: PathBuf,
        /// What was found.
        got: String,
        /// What was expected.
        expected: String,
        /// What to do.
        mend: String,
    },
    /// The operating system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Its words.
        source: std::io::Error,
    },
    /// An index names no sample.
    #[error("index {got} (entry {position}) is not in the data set of {len} samples (0–{}); correct the list", len.saturating_sub(1))]
    IndexRange {
        /// Place in the list, from zero.
        position: usize,
        /// The text or number found.
        got: String,
        /// Number of samples.
        len: usize,
    },
    /// An index occurs twice.
    #[error("index {first} occurs more than once ({count} duplicates in all); remove them")]
    IndexDuplicate {
        /// The first one found twice.
        first: usize,
        /// How many entries repeat an earlier one.
        count: usize,
    },
    /// A forget index is not among the training samples.
    #[error(
        "index {got} belongs to the {part} samples, not to the training samples; only training samples can be forgotten"
    )]
    NotTrained {
        /// The index.
        got: usize,
        /// Where it belongs.
        part: &'static str,
    },
    /// Nothing would be forgotten.
    #[error("the forget set is empty ({spec}); name at least one sample")]
    ForgetEmpty {
        /// The forget spec.
        spec: String,
    },
    /// Nothing would be kept.
    #[error("the forget set holds all {count} training samples; train from scratch on other data instead")]
    RetainEmpty {
        /// Number of training samples.
        count: usize,
    },
    /// The data set is not the one an index list or checkpoint was made for.
    #[error(
        "data set {name} has fingerprint {got}, but {expected} was expected: another data set, order or number of pictures. Use the data that the list or checkpoint was made from"
    )]
    DatasetMismatch {
        /// The data set.
        name: String,
        /// Its fingerprint.
        got: String,
        /// The expected one.
        expected: String,
    },
    /// A value is out of range.
    #[error("{what}: got {got}, expected {expected}; {mend}")]
    Invalid {
        /// The field.
        what: String,
        /// What was given.
        got: String,
        /// What is allowed.
        expected: String,
        /// What to do.
        mend: String,
    },
}

impl DataError {
    /// A stable code for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::LabelRange { .. } => "E_LABEL_RANGE",
            Self::Length { .. } => "E_DATA_LEN",
            Self::Checksum { .. } => "E_CHECKSUM",
            Self::Format { .. } => "E_DATA_FORMAT",
            Self::Io { .. } => "E_IO",
            Self::IndexRange { .. } => "E_INDEX_RANGE",
            Self::IndexDuplicate { .. } => "E_INDEX_DUP",
            Self::NotTrained { .. } => "E_SPLIT",
            Self::ForgetEmpty { .. } => "E_FORGET_EMPTY",
            Self::RetainEmpty { .. } => "E_RETAIN_EMPTY",
            Self::DatasetMismatch { .. } => "E_DATASET_MISMATCH",
            Self::Invalid { .. } => "E_CONFIG",
        }
    }
}
