//! What can go wrong with data.

use std::path::{Path, PathBuf};

/// What is wrong with a picture file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageFault {
    /// It cannot be decoded whole.
    Decode,
    /// The content is not what the file's extension says.
    Extension,
    /// Wider, higher or heavier than allowed.
    Limit,
    /// Of another width or height than the first picture.
    Shape,
    /// Pixels of a kind that cannot become 8-bit RGB without loss.
    Color,
}

/// What is wrong with an image folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FolderFault {
    /// A folder that must be there is missing, or something lies where it should not.
    Layout,
    /// No classes, or a class without pictures.
    Empty,
    /// A symbolic link (never followed).
    Link,
    /// A name that is not UTF-8.
    Name,
    /// Two names that differ only in upper and lower case.
    Duplicate,
    /// A file that is no picture.
    Foreign,
}

/// What is wrong with an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArchiveFault {
    /// A wanted member is missing, twice there, or no regular file.
    Member,
    /// A member, or all together, are longer than allowed.
    Size,
    /// Not a readable gzip-compressed tar file.
    Format,
}

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
        got: i64,
        /// Number of classes.
        classes: usize,
    },
    /// A file's length is no whole number of records.
    #[error("{}: {got} bytes; expected {expected}. The file is cut or damaged: fetch it again", show(file))]
    Length {
        /// The file.
        file: PathBuf,
        /// Its length in bytes.
        got: u64,
        /// What was expected, in words.
        expected: String,
    },
    /// A file's content does not have the expected hash.
    #[error(
        "{}: SHA-256 is {got}, but {expected} was expected. Delete the file and fetch it again",
        show(file)
    )]
    Checksum {
        /// The file.
        file: PathBuf,
        /// The hash found.
        got: String,
        /// The hash expected.
        expected: String,
    },
    /// A file has the right name but not the right content.
    #[error("{}: {got}; expected {expected}. {mend}", show(file))]
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
    /// A picture cannot be used.
    #[error("{}: {got}; expected {expected}. {mend}", show(file))]
    Image {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        fault: ImageFault,
        /// What was found.
        got: String,
        /// What was expected.
        expected: String,
        /// What to do.
        mend: String,
    },
    /// An image folder cannot be used.
    #[error("{}: {got}; expected {expected}. {mend}", show(path))]
    Folder {
        /// The folder or entry.
        path: PathBuf,
        /// What is wrong with it.
        fault: FolderFault,
        /// What was found.
        got: String,
        /// What was expected.
        expected: String,
        /// What to do.
        mend: String,
    },
    /// An archive cannot be used. Nothing was unpacked.
    #[error(
        "{}: {got}; expected {expected}. Nothing was unpacked; delete the archive and fetch it again",
        show(file)
    )]
    Archive {
        /// The archive.
        file: PathBuf,
        /// What is wrong with it.
        fault: ArchiveFault,
        /// What was found.
        got: String,
        /// What was expected.
        expected: String,
    },
    /// The data would not fit into memory.
    #[error("{what} need {bytes} bytes of memory, more than can be had; use fewer or smaller pictures")]
    TooLarge {
        /// The data.
        what: String,
        /// Bytes asked for.
        bytes: u64,
    },
    /// Something is there already and is never overwritten.
    #[error("{} exists already; expected a name that is free. Delete it or choose another", show(path))]
    Exists {
        /// The file or folder.
        path: PathBuf,
    },
    /// The operating system said no.
    #[error(
        "{}: {source}; expected to be able to {action} it. Check the path, its permissions and the disk",
        show(path)
    )]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried: `read`, `write`, ….
        action: &'static str,
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
    /// A list of indices cannot be read.
    #[error("{}: {got}; expected a whole number of at least zero. Write one index a line", show(file))]
    IndexFormat {
        /// The file.
        file: PathBuf,
        /// The line and what it says.
        got: String,
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
            Self::Image { fault, .. } => match fault {
                ImageFault::Decode => "E_IMAGE_DECODE",
                ImageFault::Extension => "E_IMAGE_EXTENSION",
                ImageFault::Limit => "E_IMAGE_LIMIT",
                ImageFault::Shape => "E_IMAGE_SHAPE",
                ImageFault::Color => "E_IMAGE_COLOR",
            },
            Self::Folder { fault, .. } => match fault {
                FolderFault::Layout => "E_FOLDER_LAYOUT",
                FolderFault::Empty => "E_FOLDER_EMPTY",
                FolderFault::Link => "E_FOLDER_LINK",
                FolderFault::Name => "E_FOLDER_NAME",
                FolderFault::Duplicate => "E_FOLDER_DUPLICATE",
                FolderFault::Foreign => "E_FOLDER_FOREIGN",
            },
            Self::Archive { fault, .. } => match fault {
                ArchiveFault::Member => "E_ARCHIVE_MEMBER",
                ArchiveFault::Size => "E_ARCHIVE_SIZE",
                ArchiveFault::Format => "E_ARCHIVE_FORMAT",
            },
            Self::TooLarge { .. } => "E_DATA_SIZE",
            Self::Exists { .. } => "E_EXISTS",
            Self::Io { .. } => "E_IO",
            Self::IndexRange { .. } => "E_INDEX_RANGE",
            Self::IndexFormat { .. } => "E_INDEX_FORMAT",
            Self::IndexDuplicate { .. } => "E_INDEX_DUP",
            Self::NotTrained { .. } => "E_SPLIT",
            Self::ForgetEmpty { .. } => "E_FORGET_EMPTY",
            Self::RetainEmpty { .. } => "E_RETAIN_EMPTY",
            Self::DatasetMismatch { .. } => "E_DATASET_MISMATCH",
            Self::Invalid { .. } => "E_CONFIG",
        }
    }
}

impl DataError {
    /// The operating system's refusal to `action` (`read`, `write`, …) `path`.
    pub fn io(path: &Path, action: &'static str, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), action, source }
    }

    /// The file holds something else than its name says.
    pub(crate) fn format(
        file: &Path,
        got: impl Into<String>,
        expected: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self::Format { file: file.to_owned(), got: got.into(), expected: expected.into(), mend: mend.into() }
    }
}

/// A path as text that is safe on a terminal: a stranger's file name may hold control characters.
fn show(path: &Path) -> String {
    path.to_string_lossy().escape_debug().to_string().replace("\\'", "'").replace("\\\"", "\"")
}
