//! Where weights that were not trained here came from.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use unlearn::models::checkpoint::Metadata;

use super::artefact::MASK;
use crate::download::sha256;
use crate::error::Failure;
use crate::hub::Id;
use crate::regular;

/// Metadata of a model: what its training began with, as JSON.
const PRETRAINED: &str = "unlearn.pretrained";
/// What a folder of Hugging Face is read from.
const FILES: [&str; 4] =
    ["config.json", "model.safetensors", "preprocessor_config.json", "pytorch_model.bin"];

/// The folder of Hugging Face that a model began as. Its path is left out: it says nothing elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Provenance {
    /// `ORG/NAME` on the hub; absent for a folder that was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hub: Option<String>,
    /// The commit there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revision: Option<String>,
    /// SHA-256 of every file that was read.
    pub(crate) files: BTreeMap<String, String>,
}

impl Provenance {
    /// Of the files in `folder`, which is the model `id` of the hub where it is one.
    pub(crate) fn of(folder: &Path, id: Option<&Id>) -> Result<Self, Failure> {
        let mut files = BTreeMap::new();
        let safe = folder.join(FILES[1]).exists();
        for name in FILES {
            let path = folder.join(name);
            // The older format is only read where there is no other.
            if !path.exists() || (safe && name == FILES[3]) {
                continue;
            }
            files.insert(name.to_owned(), hash(&path)?);
        }
        let (hub, revision) = (id.map(|id| id.name.clone()), id.map(|id| id.revision.clone()));
        Ok(Self { hub, revision, files })
    }

    /// The same with the mask in `folder`, where there is one and it is read, too.
    pub(crate) fn with_mask(mut self, folder: &Path) -> Result<Self, Failure> {
        let path = folder.join(MASK);
        if path.exists() {
            self.files.insert(MASK.to_owned(), hash(&path)?);
        }
        Ok(self)
    }

    /// What a model's metadata says; damaged text says nothing.
    pub(crate) fn read(metadata: &Metadata) -> Option<Self> {
        metadata.get(PRETRAINED).and_then(|text| serde_json::from_str(text).ok())
    }

    /// `metadata` that says it too.
    pub(crate) fn write(&self, metadata: Metadata) -> Metadata {
        // Plain text under plain names always serialises.
        match serde_json::to_string(self) {
            Ok(text) => metadata.with(PRETRAINED, text),
            Err(_) => metadata,
        }
    }
}

fn hash(path: &Path) -> Result<String, Failure> {
    let hash = regular::open(path).and_then(|mut file| sha256(&mut file, u64::MAX));
    hash.map_err(|error| Failure::io(path, &error))
}
