//! Weights from elsewhere that training begins with.

use unlearn::models::ModelConfig;
use unlearn::models::vit::{HuggingFaceVit, VitConfig};

use crate::error::Failure;
use crate::recipe::Recipe;

/// The folder that the recipe names, with a classifier of its own where the classes are others. Nothing when none is
/// named.
pub(crate) fn open(recipe: &Recipe) -> Result<Option<HuggingFaceVit>, Failure> {
    let Some(folder) = &recipe.training.pretrained else { return Ok(None) };
    let refuse = |got: String, expected: String, mend: &str| {
        Failure::config("training.pretrained", got, expected, mend)
    };
    let ModelConfig::Vit(wanted) = recipe.model else {
        let got = format!("{} for another model", folder.display());
        return Err(refuse(got, "a model with name = \"vit\"".into(), "remove the key, or change [model]"));
    };
    let found = HuggingFaceVit::read(folder)?;
    // Classes and dropout are the task's own.
    let alike = VitConfig { classes: wanted.classes, dropout: wanted.dropout, ..found.config };
    if alike != wanted {
        return Err(refuse(
            format!("{wanted:?}"),
            format!("{alike:?}, as {} has it", folder.display()),
            "write these numbers into [model]",
        ));
    }
    let same = found.config.classes == wanted.classes;
    Ok(Some(if same { found } else { found.with_new_head(wanted.classes) }))
}
