//! Pruned weights as `torch.nn.utils.prune` keeps them.

use unlearn::curvature::ParamTree;
use unlearn::data::{Seed, Stream};
use unlearn::models::checkpoint::{HostTensor, Mask};
use unlearn::models::{Architecture, ArchitectureVisitor, StateDict};

use crate::error::{Exit, Failure};
use crate::run::source::Source;

/// `X` as `X_orig` and `X_mask`, by the network's masks. Of a file that does not say what it is, those in it are taken as
/// they are.
pub(super) fn split(mut state: StateDict, found: &Source) -> Result<StateDict, Failure> {
    let masks = match found.checkpoint.metadata.model()? {
        Some(model) => {
            let channels = state.get("normalize.mean").map_or(3, |mean| mean.values.len());
            model.visit(OnDisk { found, channels })?
        }
        None => found.checkpoint.masks.iter().map(|(name, mask)| (name.to_owned(), mask.clone())).collect(),
    };
    for (name, mask) in masks {
        let Some(tensor) = state.remove(&name) else {
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
        state.insert(format!("{name}_mask"), HostTensor { shape: mask.shape, values })?;
    }
    Ok(state)
}

/// The network's masks under the names and in the layouts that its weights have on disk.
struct OnDisk<'a> {
    found: &'a Source,
    channels: usize,
}

impl ArchitectureVisitor for OnDisk<'_> {
    type Output = Result<Vec<(String, Mask)>, Failure>;

    fn visit<A: Architecture>(self, architecture: &A) -> Self::Output {
        let mut rng = Seed(0).rng(Stream::Init, 0, 0);
        let device = crate::device::any()?;
        let (mean, std) = (vec![0.5; self.channels], vec![0.25; self.channels]);
        let model = architecture.build(&mean, &std, &device, &mut rng)?;
        let Some(set) = self.found.mask(&model)? else { return Ok(Vec::new()) };
        // Ones and zeros take the way of the weights: into the model, and out under the names on disk.
        let mut tree = ParamTree::new();
        for (path, mask) in set.iter() {
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
