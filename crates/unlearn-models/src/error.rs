//! What can go wrong when a model is described or built.

/// Errors of describing and building a model. Each says the field, what was got, what was expected
/// and how to mend it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A field of a model's configuration is out of range.
    #[error("model.{field} is {got}, but must be {expected}; {mend}")]
    Config {
        /// The field.
        field: &'static str,
        /// What was given.
        got: String,
        /// What is allowed.
        expected: String,
        /// What to do.
        mend: &'static str,
    },
    /// No model has this name.
    #[error("no model is called `{got}`{}; known models are {}", suggest(nearest.as_deref()), known.join(", "))]
    UnknownName {
        /// What was given.
        got: String,
        /// The known name most like it.
        nearest: Option<String>,
        /// All names.
        known: Vec<String>,
    },
}

fn suggest(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!(" (did you mean `{name}`?)"))
}

impl ModelError {
    /// A stable code for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Config { .. } | Self::UnknownName { .. } => "E_CONFIG",
        }
    }
}
