//! Pruned weights as `torch.nn.utils.prune` keeps them.

use unlearn::curvature::ParamTree;
use unlearn::models::checkpoint::{HostTensor, Mask, MaskMap, Metadata};
use unlearn::models::vit::{masks_from_timm, masks_to_timm, to_timm};
use unlearn::models::{Architecture, ArchitectureVisitor, StateDict};

use crate::error::{Exit, Failure};
use crate::run::origin::UNMASKED;
use crate::run::source::Source;

/// The network's masks under the names on disk. Of a file that does not say what it is, those in it are taken as they are.
pub(super) fn of(found: &Source) -> Result<MaskMap, Failure> {
    let Some(model) = found.checkpoint.metadata.model()? else { return Ok(found.checkpoint.masks.clone()) };
    model.visit(OnDisk { found })
}

/// `X` as `X_orig` and `X_mask`.
pub(super) fn split(mut state: StateDict, masks: &MaskMap, found: &Source) -> Result<StateDict, Failure> {
    for (name, mask) in masks.iter() {
        let Some(tensor) = state.remove(name) else {
            return Err(Failure::new(
                "E_MASK_FILE",
                Exit::Checkpoint,
                found.file.display().to_string(),
                format!("a mask for {name}"),
                "weights of that name",
                "import the file with --model first, which lists the names of the network",
            ));
        };
        let values = mask.keep.iter().map(|&keep| if keep { 1.0 } else { 0.0 }).collect();
        state.insert(format!("{name}_orig"), tensor)?;
        state.insert(format!("{name}_mask"), HostTensor { shape: mask.shape.clone(), values })?;
    }
    Ok(state)
}

/// The same under timm's names, and what the file is to say of itself, so that the masks come back as they are: queries,
/// keys and values have one mask together there, even when not all of them have one here.
pub(super) fn timm(found: &Source) -> Result<(StateDict, Metadata), Failure> {
    let ours = of(found)?;
    let theirs = masks_to_timm(&ours)?;
    let state = split(to_timm(&found.checkpoint.state)?, &theirs, found)?;
    let together = masks_from_timm(&theirs)?;
    let unmasked: Vec<&str> =
        together.iter().map(|(name, _)| name).filter(|name| ours.get(name).is_none()).collect();
    let mut metadata = found.checkpoint.metadata.clone();
    if !unmasked.is_empty() {
        metadata = metadata.with(UNMASKED, serde_json::Value::from(unmasked).to_string());
    }
    Ok((state, metadata))
}

/// The network's masks under the names and in the layouts that its weights have on disk.
struct OnDisk<'a> {
    found: &'a Source,
}

impl ArchitectureVisitor for OnDisk<'_> {
    type Output = Result<MaskMap, Failure>;

    fn visit<A: Architecture>(self, architecture: &A) -> Self::Output {
        let device = crate::device::any()?;
        let model = self.found.network(architecture, self.found.checkpoint.state.clone())?;
        let Some(set) = self.found.mask(&model)? else { return Ok(MaskMap::default()) };
        // Ones and zeros take the way of the weights: into the model, and out under the names on disk. So do other numbers,
        // and where the two differ is a mask.
        let written = |pruned: f32, kept: f32| -> Result<StateDict, Failure> {
            let mut tree = ParamTree::new();
            for (path, mask) in set.iter() {
                let values = mask.keep().iter().map(|&keep| if keep { kept } else { pruned }).collect();
                tree.insert_host(path.clone(), mask.shape().to_vec(), values, &device)?;
            }
            Ok(StateDict::of(&tree.write_into(&model)?)?)
        };
        let (masked, other) = (written(0.0, 1.0)?, written(2.0, 3.0)?);
        let masks = masked.iter().filter(|(name, tensor)| other.get(name) != Some(*tensor));
        Ok(masks
            .map(|(name, tensor)| {
                let keep = tensor.values.iter().map(|&v| v == 1.0).collect();
                (name.to_owned(), Mask { shape: tensor.shape.clone(), keep })
            })
            .collect())
    }
}
