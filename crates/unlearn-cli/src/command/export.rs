//! `unlearn export MODEL --out FILE`.

use std::path::{Path, PathBuf};

use clap::Args;
use unlearn::models::checkpoint::{self, HostTensor, Mask};
use unlearn::models::{Architecture, ArchitectureVisitor, StateDict};
use unlearn::prune::MaskSet;

use crate::error::{Exit, Failure};
use crate::output;
use crate::run::artefact::{MASK, MODEL, model_file};

/// Arguments of `unlearn export`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Both formats hold a state dict under PyTorch's names; torchvision's networks open it with \
load_state_dict(..., strict=False), which leaves out normalize.mean and normalize.std."
)]
pub(crate) struct ExportArgs {
    /// What `train`, `prune`, `forget` or `import` made, or a checkpoint file.
    model: PathBuf,
    /// The file to write: its ending, .pth or .safetensors, is the format.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Write a pruned weight X as X_orig and X_mask, as torch.nn.utils.prune does. Without it, pruned weights are
    /// zeros and the mask stays behind.
    #[arg(long)]
    masks: bool,
}

/// Reads and writes.
pub(crate) fn main(arguments: &ExportArgs) -> Result<(), Failure> {
    let ending = arguments.out.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    let torch = match &*ending {
        "pth" | "pt" => true,
        "safetensors" => false,
        other => {
            return Err(Failure::config(
                "--out",
                format!("{}, which ends in {other:?}", arguments.out.display()),
                "a name that ends in .pth or .safetensors",
                "choose the format by the ending",
            ));
        }
    };
    must_be_free(&arguments.out)?;
    let file = model_file(&arguments.model);
    let read = checkpoint::read(&file)?;
    let mut state = read.state;
    if arguments.masks {
        let mut masks: Vec<(String, Mask)> =
            read.masks.iter().map(|(n, m)| (n.to_owned(), m.clone())).collect();
        let beside = file.with_file_name(MASK);
        if file.file_name().is_some_and(|name| name == MODEL) && beside.exists() {
            let set = MaskSet::load(&beside)?;
            let Some(model) = read.metadata.model()? else { return Err(nameless(&file)) };
            masks = model.visit(OnDisk { set: &set })?;
        }
        for (name, mask) in masks {
            state = with_mask(state, &name, mask)?;
        }
    }
    if torch {
        checkpoint::write_torch(&arguments.out, &state)?;
    } else {
        checkpoint::write(&arguments.out, &state, &read.metadata)?;
    }
    output::print(&format!(
        "wrote {}: {} tensors, SHA-256 of their values {}",
        arguments.out.display(),
        state.len(),
        state.fingerprint()
    ))
}

/// Nothing is ever written over.
pub(super) fn must_be_free(out: &Path) -> Result<(), Failure> {
    if out.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(Failure::new(
        "E_EXISTS",
        Exit::Environment,
        out.display().to_string(),
        "something that exists already",
        "a name that is free",
        "delete it or choose another",
    ))
}

fn nameless(file: &Path) -> Failure {
    Failure::new(
        "E_CKPT_MODEL",
        Exit::Checkpoint,
        file.display().to_string(),
        "no word on its architecture",
        "metadata that names it",
        "import the file with --model first",
    )
}

/// `X` as `X_orig` and `X_mask`.
fn with_mask(mut state: StateDict, name: &str, mask: Mask) -> Result<StateDict, Failure> {
    if let Some(tensor) = state.remove(name) {
        let values = mask.keep.iter().map(|&keep| if keep { 1.0 } else { 0.0 }).collect();
        state.insert(format!("{name}_orig"), tensor)?;
        state.insert(format!("{name}_mask"), HostTensor { shape: mask.shape, values })?;
    }
    Ok(state)
}

/// A set of masks under the names and in the layouts that the model's weights have on disk.
struct OnDisk<'a> {
    set: &'a MaskSet,
}

impl ArchitectureVisitor for OnDisk<'_> {
    type Output = Result<Vec<(String, Mask)>, Failure>;

    fn visit<A: Architecture>(self, architecture: &A) -> Self::Output {
        use unlearn::curvature::ParamTree;
        let mut rng = unlearn::data::Seed(0).rng(unlearn::data::Stream::Init, 0, 0);
        let device = crate::device::any()?;
        let model = architecture.build(&[0.5; 3], &[0.25; 3], &device, &mut rng)?;
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
