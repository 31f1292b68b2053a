//! What can go wrong with a checkpoint.

use std::fmt;
use std::path::PathBuf;

/// Errors of reading, writing and loading checkpoints. Each says the file or tensor, what was got,
/// what was expected and how to mend it. Whatever fails, no model and no file is half changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Its words.
        source: std::io::Error,
    },
    /// The path names something that is not a regular file.
    #[error("{} is {got}, but a regular file was expected; name the checkpoint file itself", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What is there.
        got: &'static str,
    },
    /// The file, or what it claims to hold, is too large.
    #[error("{} {what} {got} bytes, but at most {limit} are read; {mend}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Which size it is (`holds`, `claims tensors of`).
        what: &'static str,
        /// The size.
        got: u64,
        /// The limit.
        limit: u64,
        /// What to do.
        mend: &'static str,
    },
    /// The file is damaged or of another format.
    #[error("{}: {got}; expected {expected}. {mend}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was found, trimmed and escaped.
        got: String,
        /// What should be there.
        expected: &'static str,
        /// What to do.
        mend: &'static str,
    },
    /// A tensor's elements are of a type that does not become float32.
    #[error("{}: tensor `{name}` holds {got}, but float32, float64, float16 or bfloat16 was expected; convert it where it was written", path.display())]
    ElementType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its element type.
        got: String,
    },
    /// A name occurs twice.
    #[error("tensor `{name}` occurs more than once; names in a checkpoint are unique, so write it anew")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// The number of values does not fit the shape.
    #[error("tensor `{name}` has {got} values, but its shape {shape:?} asks for {}; correct the shape", shape.iter().product::<usize>())]
    Length {
        /// The tensor.
        name: String,
        /// How many values there are.
        got: usize,
        /// The shape.
        shape: Vec<usize>,
    },
    /// Names or shapes are not the model's.
    #[error("{0}")]
    Mismatch(Mismatch),
    /// Values are NaN or infinite.
    #[error(
        "{}; use the last finite checkpoint, or ask for non-finite values explicitly",
        list_non_finite(tensors)
    )]
    NonFinite {
        /// Each tensor with the number of its values that are not finite.
        tensors: Vec<(String, usize)>,
    },
    /// The module holds a parameter that checkpoints cannot carry.
    #[error(
        "parameter `{path}` holds {got}, but only float parameters can be saved; mark the field `#[module(skip)]` or make it a float tensor"
    )]
    Unsupported {
        /// The parameter.
        path: String,
        /// Its kind.
        got: &'static str,
    },
    /// A value in the metadata does not parse.
    #[error(
        "metadata `{key}` cannot be read: {reason}; write the checkpoint anew, or load its weights into a model that you name yourself"
    )]
    Metadata {
        /// The key.
        key: String,
        /// Why.
        reason: String,
    },
    /// A folder of another library lacks a file.
    #[error("{} has no {file}; {mend}", folder.display())]
    MissingFile {
        /// The folder.
        folder: PathBuf,
        /// The file.
        file: &'static str,
        /// What to do.
        mend: &'static str,
    },
    /// A file of another library describes what is not built here.
    #[error("{}: {key} is {got}, but must be {expected}; {mend}", path.display())]
    ForeignConfig {
        /// The file.
        path: PathBuf,
        /// The key in it.
        key: String,
        /// What it says.
        got: String,
        /// What can be built.
        expected: String,
        /// What to do.
        mend: &'static str,
    },
    /// The device could not give a tensor.
    #[error("reading `{path}` from the device failed: {reason}")]
    Device {
        /// The parameter.
        path: String,
        /// The device's own words.
        reason: String,
    },
}

impl CheckpointError {
    /// A stable code for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "E_IO",
            Self::NotAFile { .. } => "E_NOT_A_FILE",
            Self::TooLarge { .. } => "E_TOO_LARGE",
            Self::Format { .. } | Self::Length { .. } | Self::Metadata { .. } => "E_CKPT_FORMAT",
            Self::ElementType { .. } => "E_CKPT_DTYPE",
            Self::Duplicate { .. } => "E_CKPT_DUPLICATE",
            Self::Mismatch(_) => "E_CKPT_MISMATCH",
            Self::NonFinite { .. } => "E_NONFINITE",
            Self::Unsupported { .. } => "E_CKPT_UNSUPPORTED",
            Self::MissingFile { .. } => "E_FOREIGN_FILE",
            Self::ForeignConfig { .. } => "E_FOREIGN_CONFIG",
            Self::Device { .. } => "E_DEVICE",
        }
    }
}

/// Everything in which the names and shapes of a checkpoint are not a model's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mismatch {
    /// Names that the model needs and the checkpoint does not hold, each with the left-over name
    /// most like it.
    pub missing: Vec<(String, Option<String>)>,
    /// Names that the checkpoint holds and the model does not know, each with the missing name
    /// most like it.
    pub left_over: Vec<(String, Option<String>)>,
    /// Names with the shape in the checkpoint and the shape that the model needs.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl Mismatch {
    /// Whether there is no difference.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.left_over.is_empty() && self.misshapen.is_empty()
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the checkpoint does not fit the model: {} missing, {} left over, {} of another shape; choose the model it was made from, or rename its tensors",
            self.missing.len(),
            self.left_over.len(),
            self.misshapen.len()
        )?;
        let hint = |nearest: &Option<String>| {
            nearest.as_ref().map_or_else(String::new, |name| format!(" (meant as `{}`?)", quote(name)))
        };
        for (name, nearest) in &self.missing {
            write!(f, "\n  missing    {}{}", quote(name), hint(nearest))?;
        }
        for (name, nearest) in &self.left_over {
            write!(f, "\n  left over  {}{}", quote(name), hint(nearest))?;
        }
        for (name, got, expected) in &self.misshapen {
            write!(f, "\n  shape      {}: got {got:?}, expected {expected:?}", quote(name))?;
        }
        Ok(())
    }
}

fn list_non_finite(tensors: &[(String, usize)]) -> String {
    let list: Vec<String> =
        tensors.iter().map(|(name, count)| format!("`{}` ({count})", quote(name))).collect();
    format!("{} tensor(s) hold NaN or infinite values: {}", tensors.len(), list.join(", "))
}

/// Text from a file, fit for a terminal: control characters escaped, at most 200 characters.
pub(crate) fn quote(text: &str) -> String {
    const MOST: usize = 200;
    let mut quoted = String::new();
    for character in text.chars().take(MOST) {
        if matches!(character, '"' | '\'') {
            quoted.push(character);
        } else {
            quoted.extend(character.escape_debug());
        }
    }
    if text.chars().nth(MOST).is_some() {
        quoted.push('…');
    }
    quoted
}
