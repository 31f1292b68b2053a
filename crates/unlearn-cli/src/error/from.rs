//! Which code and exit code each error of the libraries has: the only place that decides it.

use unlearn::algos::UnlearnError;
use unlearn::curvature::CurvatureError;
use unlearn::data::DataError;
use unlearn::eval::EvalError;
use unlearn::train::TrainError;

use super::{Exit, Failure};

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

impl From<UnlearnError> for Failure {
    fn from(error: UnlearnError) -> Self {
        match error {
            UnlearnError::Hyperparameter { method, field, got, expected, mend } => {
                Self::config(format!("method {method}: {field}"), got, expected, mend)
            }
            UnlearnError::UnknownMethod { got, known, nearest } => Self::new(
                "E_METHOD",
                Exit::Usage,
                "method",
                format!("{got:?}"),
                format!("one of {known}"),
                nearest.map_or_else(
                    || "`unlearn methods` lists them".to_owned(),
                    |near| format!("did you mean {near:?}?"),
                ),
            ),
            UnlearnError::NonFinite { method, what, mend } => Self::new(
                "E_DIVERGED",
                Exit::Diverged,
                format!("method {method}"),
                format!("a {what} that is not finite"),
                "finite numbers",
                mend,
            ),
            UnlearnError::Data(error) => error.into(),
            UnlearnError::Train(error) => error.into(),
            UnlearnError::Curvature(error) => error.into(),
            other => Self::new(
                "E_METHOD",
                Exit::Internal,
                "method",
                other.to_string(),
                "a result",
                "see the message",
            ),
        }
    }
}

impl From<CurvatureError> for Failure {
    fn from(error: CurvatureError) -> Self {
        Self::new(
            "E_CURVATURE",
            Exit::Internal,
            "curvature",
            error.to_string(),
            "a curvature estimate of this model",
            "see the message",
        )
    }
}

impl From<EvalError> for Failure {
    fn from(error: EvalError) -> Self {
        let code = error.code();
        match error {
            EvalError::Data(error) => error.into(),
            EvalError::Config { field, got, expected, mend } => Self::config(field, got, expected, mend),
            EvalError::Io { path, source } => Self::io(&path, &source),
            EvalError::Classes { .. } => Self::new(
                code,
                Exit::Checkpoint,
                "model",
                error.to_string(),
                "a model with as many classes as the data",
                "use the data that the model was trained on",
            ),
            EvalError::NonFinite { .. } => Self::new(
                code,
                Exit::Diverged,
                "logits",
                error.to_string(),
                "finite numbers",
                "the model is damaged or diverged: lower the learning rate or choose another method",
            ),
            EvalError::NotConverged { .. } => Self::new(
                code,
                Exit::Internal,
                "membership inference",
                error.to_string(),
                "a support vector machine within its tolerance",
                "leave the attack out of evaluation.attacks, and report this",
            ),
            EvalError::Incomparable { metric, got, expected } => Self::new(
                code,
                Exit::Verification,
                metric,
                got,
                expected,
                "evaluate both models on the same data in the same way",
            ),
            EvalError::Schema { got, expected, mend } => {
                Self::new(code, Exit::Verification, "results", format!("schema {got:?}"), expected, mend)
            }
            EvalError::Format { what, reason, mend } => {
                Self::new(code, Exit::Verification, what, reason, "a whole results file", mend)
            }
            other => Self::new(
                code,
                Exit::Internal,
                "evaluation",
                other.to_string(),
                "a number",
                "see the message",
            ),
        }
    }
}
