//! What a checkpoint says of itself.

use std::collections::BTreeMap;

use super::CheckpointError;
use crate::ModelConfig;

const MODEL: &str = "unlearn.model";
const DATA: &str = "unlearn.data";
const SPLIT: &str = "unlearn.split";

/// What a checkpoint says of itself: text under names, as safetensors has it. The model, the data
/// set's fingerprint and the split's identifier have names of their own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    entries: BTreeMap<String, String>,
}

impl Metadata {
    /// Nothing said.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says which model the weights fit.
    pub fn with_model(self, model: &ModelConfig) -> Self {
        // Plain structs of numbers and names always serialise.
        match serde_json::to_string(model) {
            Ok(text) => self.with(MODEL, text),
            Err(_) => self,
        }
    }

    /// Says which data set the weights were trained on.
    pub fn with_data_fingerprint(self, fingerprint: impl Into<String>) -> Self {
        self.with(DATA, fingerprint)
    }

    /// Says how that data set was split.
    pub fn with_split_id(self, id: impl Into<String>) -> Self {
        self.with(SPLIT, id)
    }

    /// Says anything else.
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.entries.insert(key.into(), value.into());
        self
    }

    /// The model that the weights fit, when the file says so.
    ///
    /// # Errors
    /// [`CheckpointError::Metadata`] when what it says describes no model.
    pub fn model(&self) -> Result<Option<ModelConfig>, CheckpointError> {
        let Some(text) = self.get(MODEL) else { return Ok(None) };
        let failed = |reason: String| CheckpointError::Metadata {
            key: MODEL.to_owned(),
            reason: super::error::quote(&reason),
        };
        let model: ModelConfig = serde_json::from_str(text).map_err(|e| failed(e.to_string()))?;
        model.validate().map_err(|e| failed(e.to_string()))?;
        Ok(Some(model))
    }

    /// Fingerprint of the data set, when the file says so.
    pub fn data_fingerprint(&self) -> Option<&str> {
        self.get(DATA)
    }

    /// Identifier of the split, when the file says so.
    pub fn split_id(&self) -> Option<&str> {
        self.get(SPLIT)
    }

    /// The text under `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.entries.get(key).map(String::as_str)
    }

    /// All entries, in order of names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

impl FromIterator<(String, String)> for Metadata {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(entries: I) -> Self {
        Self { entries: entries.into_iter().collect() }
    }
}
