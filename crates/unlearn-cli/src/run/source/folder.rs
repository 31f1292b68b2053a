//! Folders that no model is found in: what to say of them.

use std::path::{Path, PathBuf};

use unlearn::models::vit::HuggingFaceVit;

use crate::error::{Exit, Failure};
use crate::run::artefact::MODEL;

/// How many stages are named.
const NAMED: usize = 4;

/// The refusal of a folder that is neither a stage nor a folder of Hugging Face.
pub(super) fn no_model(folder: &Path) -> Failure {
    let fail = |code, got: String, expected: &str, mend: String| {
        Failure::new(code, Exit::Checkpoint, folder.display().to_string(), got, expected, mend)
    };
    let stages = stages(folder);
    if let Some(first) = stages.first() {
        let shown = |path: &PathBuf| path.strip_prefix(folder).unwrap_or(path).display().to_string();
        let mut names: Vec<String> = stages.iter().take(NAMED).map(shown).collect();
        if stages.len() > NAMED {
            names.push("…".into());
        }
        let got = format!("the folder of a run, with several models in it: {}", names.join(", "));
        return fail("E_NOT_A_FILE", got, "one model", format!("name one of them: {}", first.display()));
    }
    if folder.join("config.json").is_file() {
        return fail(
            "E_FOREIGN_CONFIG",
            "a config.json without model_type and architectures, and no model beside it".into(),
            "a model of ours, or a folder of Hugging Face",
            "name the checkpoint file, or a folder that save_pretrained wrote".into(),
        );
    }
    fail(
        "E_NOT_A_FILE",
        "a folder without a model".into(),
        "a model of ours, a checkpoint file or a folder of Hugging Face",
        "name the checkpoint file itself".into(),
    )
}

/// The stages of a run in order of names: `base`, and the methods of every network.
fn stages(folder: &Path) -> Vec<PathBuf> {
    let inside = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    };
    let whole = |path: &PathBuf| path.join(MODEL).is_file() && !HuggingFaceVit::is_folder(path);
    let outer = inside(folder);
    let inner: Vec<PathBuf> = outer.iter().flat_map(|path| inside(path)).collect();
    let mut found: Vec<PathBuf> = outer.into_iter().chain(inner).filter(whole).collect();
    found.sort();
    found
}
