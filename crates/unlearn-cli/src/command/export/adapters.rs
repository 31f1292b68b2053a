//! Folders of peft.

use std::path::Path;

use unlearn::models::lora::WEIGHTS_FILE;
use unlearn::models::{Architecture, ArchitectureVisitor, checkpoint, load_peft};

use super::{folder, nameless};
use crate::error::{Exit, Failure};
use crate::run::artefact::ADAPTER;
use crate::run::source::{Source, named};

/// Writes the adapters that stand beside a network, checked against it; gives the number of their tensors and the
/// fingerprint of their values.
pub(super) fn write(out: &Path, found: &Source) -> Result<(usize, String), Failure> {
    let Some(adapters) = found.adapter()? else {
        return Err(Failure::new(
            "E_LORA_FORMAT",
            Exit::Checkpoint,
            found.file.display().to_string(),
            format!("a network without a folder `{ADAPTER}` beside it"),
            "what a method with lora = {...} made, or import of a folder of peft",
            "name the folder of such a method, or leave --for peft out to export the network",
        ));
    };
    let model = found.checkpoint.metadata.model()?.ok_or_else(|| nameless(&found.file))?;
    model.visit(Write { out, found, folder: &adapters })?;
    let written = checkpoint::read(out.join(WEIGHTS_FILE))?.state;
    Ok((written.len(), written.fingerprint()))
}

struct Write<'a> {
    out: &'a Path,
    found: &'a Source,
    folder: &'a Path,
}

impl ArchitectureVisitor for Write<'_> {
    type Output = Result<(), Failure>;

    fn visit<A: Architecture>(self, architecture: &A) -> Self::Output {
        let Self { out, found, folder: adapters } = self;
        let model = found.network(architecture, found.checkpoint.state.clone())?;
        let place = adapters.display().to_string();
        let adapted = load_peft(model, adapters).map_err(|error| named(error.into(), &place))?;
        folder::whole(out, |aside| Ok(adapted.save_peft(aside, None)?))
    }
}
