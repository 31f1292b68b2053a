//! Errors about models and checkpoints.

use unlearn::models::{CheckpointError, LoraError, ModelError};

use crate::error::{Exit, Failure};

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
            CheckpointError::MissingFile { folder, file, mend } => {
                make(folder.display().to_string(), format!("no {file}"), format!("{file} in it"), mend)
            }
            CheckpointError::ForeignConfig { path, key, got, expected, mend } => {
                make(format!("{}: {key}", path.display()), got, expected, mend)
            }
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

impl From<LoraError> for Failure {
    fn from(error: LoraError) -> Self {
        let code = error.code();
        match error {
            LoraError::Config { field, got, expected, mend } => {
                Self::config(format!("lora.{field}"), got, expected, mend)
            }
            LoraError::Rank { rank, module, matrix } => Self::config(
                "lora.rank",
                rank.to_string(),
                format!(
                    "at most {} for `{module}`, whose weight matrix is {} × {}",
                    matrix[0].min(matrix[1]),
                    matrix[0],
                    matrix[1]
                ),
                "choose a smaller rank, or leave the layer out of targets",
            ),
            LoraError::NoMatch { field, pattern, nearest, known } => Self::config(
                format!("lora.{field}"),
                format!("{pattern:?}, which matches no module"),
                format!("the end of a module's path: {}", known.join(", ")),
                nearest.map_or_else(|| "use one of these".into(), |near| format!("did you mean {near:?}?")),
            ),
            LoraError::Folder { path, got, expected, mend } => {
                Self::new(code, Exit::Checkpoint, path.display().to_string(), got, expected, mend)
            }
            LoraError::OtherModel(mismatch) => Self::new(
                code,
                Exit::Checkpoint,
                "adapter",
                mismatch.to_string(),
                "every adapter that its configuration names on this model, of its shape, and no other",
                "choose the model that the adapter was made for",
            ),
            LoraError::Checkpoint(error) => error.into(),
            LoraError::Curvature(error) => error.into(),
            other => Self::config(
                "lora",
                other.to_string(),
                "layers that adapters can stand beside",
                "see the message",
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
