//! Which code and exit code each error of the libraries has: the only place that decides it.

use unlearn::algos::UnlearnError;
use unlearn::curvature::CurvatureError;
use unlearn::data::DataError;
use unlearn::eval::EvalError;
use unlearn::models::{CheckpointError, ModelError};
use unlearn::prune::PruneError;
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
                // Other pictures are another fault than another recipe.
                let data = differences.iter().all(|d| d.contains("data.t") || d.contains("split "));
                let (code, exit) =
                    if data { ("E_DATASET_MISMATCH", Exit::Data) } else { ("E_RESUME_CONFIG", Exit::Usage) };
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
            UnlearnError::UnknownHyperparameter { method, got, known, nearest } => Self::new(
                "E_KEY",
                Exit::Usage,
                format!("method {method}: {got}"),
                format!("the unknown key {got:?}"),
                format!("one of {known}"),
                nearest.map_or_else(|| "remove the key".into(), |near| format!("did you mean {near:?}?")),
            ),
            UnlearnError::Form { method, reason } => Self::config(
                format!("method {method}"),
                reason,
                "hyperparameters in the form of the method's page",
                format!("`unlearn methods {method}` prints it"),
            ),
            UnlearnError::Data(error) => error.into(),
            UnlearnError::Prune(error) => error.into(),
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
        if let CurvatureError::Interrupted { stage, done, total } = error {
            return Self::new(
                "E_INTERRUPTED",
                Exit::Interrupted,
                "run",
                format!("a request to stop after {done} of {total} ({stage})"),
                "to reach the end",
                "run the same command with --resume: this stage starts over",
            );
        }
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

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Config { field, got, expected, mend } => {
                Self::config(format!("model.{field}"), got, expected, mend)
            }
            ModelError::UnknownName { got, nearest, known } => Self::config(
                "model.name",
                format!("{got:?}"),
                format!("one of {}", known.join(", ")),
                nearest.map_or_else(|| "use one of these".into(), |near| format!("did you mean {near:?}?")),
            ),
            other => Self::config("model", other.to_string(), "a model", "correct its description"),
        }
    }
}

impl From<CheckpointError> for Failure {
    fn from(error: CheckpointError) -> Self {
        let code = error.code();
        let make = |place: String, got: String, expected: String, mend: &str| {
            Self::new(code, Exit::Checkpoint, place, got, expected, mend)
        };
        match error {
            CheckpointError::Io { path, source, .. } => Self::io(&path, &source),
            CheckpointError::NotAFile { path, got } => make(
                path.display().to_string(),
                got.into(),
                "a regular file".into(),
                "name the checkpoint file itself",
            ),
            CheckpointError::TooLarge { path, what, got, limit, mend } => make(
                path.display().to_string(),
                format!("a file that {what} {got} bytes"),
                format!("at most {limit} bytes"),
                mend,
            ),
            CheckpointError::Format { path, got, expected, mend } => {
                make(path.display().to_string(), got, expected.into(), mend)
            }
            CheckpointError::ElementType { path, name, got } => make(
                format!("{}: tensor {name}", path.display()),
                got,
                "float32, float64, float16 or bfloat16".into(),
                "convert the tensor where it was written",
            ),
            CheckpointError::Duplicate { name } => make(
                format!("tensor {name}"),
                "the name more than once".into(),
                "each name once".into(),
                "write the checkpoint anew",
            ),
            CheckpointError::Length { name, got, shape } => make(
                format!("tensor {name}"),
                format!("{got} values"),
                format!("{} for shape {shape:?}", shape.iter().product::<usize>()),
                "write the checkpoint anew",
            ),
            CheckpointError::Mismatch(mismatch) => make(
                "checkpoint".into(),
                mismatch.to_string(),
                "every tensor of the model, of its shape, and no other".into(),
                "choose the model that it was made from ([model] of the recipe)",
            ),
            CheckpointError::NonFinite { tensors } => make(
                "checkpoint".into(),
                format!("NaN or infinite values in {}", some_of(&tensors)),
                "finite values".into(),
                "use the last finite checkpoint",
            ),
            CheckpointError::Unsupported { path, got } => make(
                format!("parameter {path}"),
                got.into(),
                "float parameters".into(),
                "mark the field `#[module(skip)]` or make it a float tensor",
            ),
            CheckpointError::Metadata { key, reason } => make(
                format!("metadata {key}"),
                reason,
                "what this version writes there".into(),
                "write the checkpoint anew",
            ),
            other => Self::new(
                code,
                Exit::Internal,
                "checkpoint",
                other.to_string(),
                "a checkpoint",
                "run again with --resume; if it happens again, try another device",
            ),
        }
    }
}

/// The first tensors of a list, with their counts.
fn some_of(tensors: &[(String, usize)]) -> String {
    const SHOWN: usize = 20;
    let mut text: Vec<String> =
        tensors.iter().take(SHOWN).map(|(n, count)| format!("{n} ({count})")).collect();
    if tensors.len() > SHOWN {
        text.push(format!("and {} more", tensors.len() - SHOWN));
    }
    text.join(", ")
}

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
            PruneError::Curvature(error) => error.into(),
            PruneError::Train(error) => error.into(),
            PruneError::Data(error) => error.into(),
            other => {
                Self::new(code, Exit::Internal, "pruning", other.to_string(), "a mask", "see the message")
            }
        }
    }
}
