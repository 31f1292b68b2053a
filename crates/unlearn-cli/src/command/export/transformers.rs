//! Folders of Hugging Face.

use std::path::Path;

use unlearn::data::{Seed, Stream};
use unlearn::models::vit::HuggingFaceVit;
use unlearn::models::{StateDict, VitConfig};

use crate::error::Failure;
use crate::run::artefact::MASK;
use crate::run::source::{Source, channels, check_size};

/// What the pictures are scaled by where the network does not say: Hugging Face's own default for these models.
const HALF: f32 = 0.5;

/// Writes the folder, whole or not at all; gives the number of its tensors and the fingerprint of their values. Its mask is
/// a file of ours beside them, which `transformers` does not look at and `import` does.
pub(super) fn write(
    out: &Path,
    config: VitConfig,
    mut found: Source,
    masks: bool,
) -> Result<(usize, String), Failure> {
    let state = std::mem::take(&mut found.checkpoint.state);
    let channels = channels(&state);
    check_size(&config, &state, channels, &found.file)?;
    let mut rng = Seed(0).rng(Stream::Init, 0, 0);
    let half = vec![HALF; channels];
    let fresh = config.init(&half, &half, &crate::device::any()?, &mut rng)?;
    let mut whole = state;
    whole.complete_from(&StateDict::of(&fresh)?, "normalize.");
    let (tensors, fingerprint) = (whole.len(), whole.fingerprint());
    let model = whole.load_into(fresh)?;
    let mask = if masks { found.mask(&model)? } else { None };

    super::folder::whole(out, |aside| {
        HuggingFaceVit::write(aside, &model, &config)?;
        if let Some(mask) = mask {
            mask.save(aside.join(MASK))?;
        }
        Ok(())
    })?;
    Ok((tensors, fingerprint))
}
