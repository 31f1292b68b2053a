//! Pruned weights as `torch.nn.utils.prune` keeps them.

use unlearn::curvature::ParamTree;
use unlearn::data::{Seed, Stream};
use unlearn::models::checkpoint::{HostTensor, Mask};
use unlearn::models::{Architecture, ArchitectureVisitor, StateDict};
use unlearn::prune::MaskSet;

use crate::error::Failure;
use crate::run::artefact::{MASK, MODEL};
use crate::run::source::Source;

/// `X` as `X_orig` and `X_mask`, by the masks in the file or beside it.
pub(super) fn split(mut state: StateDict, found: &Source) -> Result<StateDict, Failure> {
    let in_file = found.checkpoint.masks.iter();
    let mut masks: Vec<(String, Mask)> =
        in_file.map(|(name, mask)| (name.to_owned(), mask.clone())).collect();
    let beside = found.file.with_file_name(MASK);
    if found.file.file_name().is_some_and(|name| name == MODEL) && beside.exists() {
        let set = MaskSet::load(&beside)?;
        let Some(model) = found.checkpoint.metadata.model()? else {
            return Err(super::nameless(&found.file));
        };
        let channels = state.get("normalize.mean").map_or(3, |mean| mean.values.len());
        masks = model.visit(OnDisk { set: &set, channels })?;
    }
    for (name, mask) in masks {
        if let Some(tensor) = state.remove(&name) {
            let values = mask.keep.iter().map(|&keep| if keep { 1.0 } else { 0.0 }).collect();
            state.insert(format!("{name}_orig"), tensor)?;
            state.insert(format!("{name}_mask"), HostTensor { shape: mask.shape, values })?;
        }
    }
    Ok(state)
}

/// A set of masks under the names and in the layouts that the model's weights have on disk.
struct OnDisk<'a> {
    set: &'a MaskSet,
    channels: usize,
}

impl ArchitectureVisitor for OnDisk<'_> {
    type Output = Result<Vec<(String, Mask)>, Failure>;

    fn visit<A: Architecture>(self, architecture: &A) -> Self::Output {
        let mut rng = Seed(0).rng(Stream::Init, 0, 0);
        let device = crate::device::any()?;
        let (mean, std) = (vec![0.5; self.channels], vec![0.25; self.channels]);
        let model = architecture.build(&mean, &std, &device, &mut rng)?;
        self.set.check(&model)?;
        // Ones and zeros take the way of the weights: into the model, and out under the names on disk.
        let mut tree = ParamTree::new();
        for (path, mask) in self.set.iter() {
            let values = mask.keep().iter().map(|&keep| if keep { 1.0 } else { 0.0 }).collect();
            tree.insert_host(path.clone(), mask.shape().to_vec(), values, &device)?;
        }
        let masked = StateDict::of(&tree.write_into(&model)?)?;
        let before = StateDict::of(&model)?;
        let changed = masked.iter().filter(|(name, tensor)| before.get(name) != Some(*tensor));
        Ok(changed
            .map(|(name, tensor)| {
                let keep = tensor.values.iter().map(|&v| v == 1.0).collect();
                (name.to_owned(), Mask { shape: tensor.shape.clone(), keep })
            })
            .collect())
    }
}
