//! Weights from elsewhere that training begins with.

use unlearn::models::ModelConfig;
use unlearn::models::vit::{HuggingFaceVit, VitConfig};

use super::artefact::MASK;
use super::provenance::Provenance;
use crate::error::Failure;
use crate::hub;
use crate::recipe::Recipe;

/// What training begins with, and where it came from.
#[derive(Debug)]
pub(crate) struct Pretrained {
    pub(crate) folder: HuggingFaceVit,
    pub(crate) provenance: Provenance,
}

/// The folder or the model of the hub that the recipe names, with a classifier of its own where the classes are others.
/// Nothing when none is named. A model of the hub stands in the recipe with its commit afterwards.
pub(crate) fn open(recipe: &mut Recipe, quiet: bool) -> Result<Option<Pretrained>, Failure> {
    let Some(named) = recipe.training.pretrained.clone() else { return Ok(None) };
    let refuse = |got: String, expected: String, mend: &str| {
        Failure::config("training.pretrained", got, expected, mend)
    };
    let ModelConfig::Vit(wanted) = recipe.model else {
        let got = format!("{} for another model", named.display());
        return Err(refuse(got, "a model with name = \"vit\"".into(), "remove the key, or change [model]"));
    };
    let fetched = hub::resolve(&named, quiet)?;
    let path = fetched.as_ref().map_or(&named, |fetched| &fetched.folder);
    let found = HuggingFaceVit::read(path)?;
    if path.join(MASK).exists() || !found.masks.is_empty() {
        let source = named.display();
        tracing::warn!(%source, "has a mask, which training does not begin with: import it, then forget or prune it");
    }
    // Classes and dropout are the task's own.
    let alike = VitConfig { classes: wanted.classes, dropout: wanted.dropout, ..found.config };
    if alike != wanted {
        return Err(refuse(
            format!("{wanted:?}"),
            format!("{alike:?}, as {} has it", named.display()),
            "write these numbers into [model]",
        ));
    }
    let provenance = Provenance::of(path, fetched.as_ref().map(|fetched| &fetched.id))?;
    if let Some(fetched) = &fetched {
        recipe.training.pretrained = Some(fetched.id.to_string().into());
    }
    let same = found.config.classes == wanted.classes;
    let folder = if same { found } else { found.with_new_head(wanted.classes) };
    Ok(Some(Pretrained { folder, provenance }))
}
