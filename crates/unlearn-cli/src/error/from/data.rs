//! Errors about pictures, splits and forget sets.

use unlearn::data::DataError;

use crate::error::{Exit, Failure};

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        let code = error.code();
        match error {
            DataError::LabelRange { file, record, offset, got, classes } => Self::new(
                code,
                Exit::Data,
                file,
                format!(
                    "label {got} in record {record}{}",
                    offset.map(|o| format!(" (byte {o})")).unwrap_or_default()
                ),
                format!("a label of {classes} classes (0–{})", classes.saturating_sub(1)),
                "the file is damaged or of another data set: fetch it again (`unlearn data fetch cifar10`)",
            ),
            DataError::Length { file, got, expected } => Self::new(
                code,
                Exit::Data,
                file.display().to_string(),
                format!("{got} bytes"),
                expected,
                "the file is cut or damaged: fetch it again (`unlearn data fetch cifar10`)",
            ),
            DataError::Checksum { file, got, expected } => Self::new(
                code,
                Exit::Data,
                file.display().to_string(),
                format!("SHA-256 {got}"),
                expected,
                "delete the file and fetch it again",
            ),
            DataError::Format { file, got, expected, mend } => {
                Self::new(code, Exit::Data, file.display().to_string(), got, expected, mend)
            }
            DataError::Image { file: path, got, expected, mend, .. }
            | DataError::Folder { path, got, expected, mend, .. } => {
                Self::new(code, Exit::Data, path.display().to_string(), got, expected, mend)
            }
            DataError::Archive { file, got, expected, .. } => Self::new(
                code,
                Exit::Data,
                file.display().to_string(),
                got,
                expected,
                "nothing was unpacked; delete the archive and fetch it again",
            ),
            DataError::TooLarge { what, bytes } => Self::new(
                code,
                Exit::Environment,
                what,
                format!("{bytes} bytes"),
                "data that fit into memory",
                "use fewer or smaller pictures",
            ),
            DataError::Exists { path } => Self::new(
                code,
                Exit::Environment,
                path.display().to_string(),
                "something that exists already",
                "a name that is free",
                "delete it or choose another",
            ),
            DataError::Io { path, source, .. } => Self::io(&path, &source),
            DataError::IndexRange { position, got, len } => Self::new(
                code,
                Exit::Data,
                format!("index list, entry {position}"),
                got,
                format!("an index of {len} samples (0–{})", len.saturating_sub(1)),
                "correct the list",
            ),
            DataError::IndexFormat { file, got } => Self::new(
                code,
                Exit::Data,
                file.display().to_string(),
                got,
                "a whole number of at least zero",
                "write one index a line",
            ),
            DataError::IndexDuplicate { first, count } => Self::new(
                code,
                Exit::Data,
                "index list",
                format!("index {first} more than once ({count} duplicates in all)"),
                "each index once",
                "remove the duplicates",
            ),
            DataError::NotTrained { got, part } => Self::new(
                code,
                Exit::Data,
                "forget set",
                format!("index {got}, which belongs to the {part} samples"),
                "training samples only",
                "a model can only forget what it was trained on: take the index out, or change the split",
            ),
            DataError::ForgetEmpty { spec } => Self::new(
                code,
                Exit::Data,
                "forget set",
                format!("no sample ({spec})"),
                "at least one training sample",
                "name a class that has training samples, a larger share, or at least one index",
            ),
            DataError::RetainEmpty { count } => Self::new(
                code,
                Exit::Data,
                "forget set",
                format!("all {count} training samples"),
                "at least one sample to retain",
                "train from scratch on other data instead",
            ),
            DataError::DatasetMismatch { name, got, expected } => Self::new(
                code,
                Exit::Data,
                format!("data set {name}"),
                format!("fingerprint {got}"),
                expected,
                "use the data (order, number and pictures) that the model or list was made from",
            ),
            DataError::Invalid { what, got, expected, mend } => Self::config(what, got, expected, mend),
            other => Self::new(
                code,
                Exit::Data,
                "data",
                other.to_string(),
                "usable data",
                "see `unlearn data info DIR`",
            ),
        }
    }
}
