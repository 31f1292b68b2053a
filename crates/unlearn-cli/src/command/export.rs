//! `unlearn export MODEL --out FILE-OR-FOLDER`.

mod adapters;
mod folder;
mod masks;
mod transformers;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use unlearn::models::checkpoint::{self, Metadata};
use unlearn::models::vit::to_timm;
use unlearn::models::{ModelConfig, StateDict, VitConfig};

use super::import::TIMM_EPSILON;
use crate::error::{Exit, Failure};
use crate::output;
use crate::run::folder::check_parent;
use crate::run::origin::MASK_ID;
use crate::run::source::{self, Source};

/// Arguments of `unlearn export`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Both file formats hold a state dict under PyTorch's names; torchvision's networks open it with \
load_state_dict(..., strict=False), which leaves out normalize.mean and normalize.std. With --for transformers the \
result is a folder for ViTForImageClassification.from_pretrained. With --for peft it is a folder for \
PeftModel.from_pretrained: the adapters that a method with lora = {...} trained, or that import merged, and that were \
kept beside the model; they belong to the network without them."
)]
pub(crate) struct ExportArgs {
    /// What `train`, `prune`, `forget` or `import` made, a checkpoint file, or a folder of Hugging Face.
    model: PathBuf,
    /// The file to write: its ending, .pth or .safetensors, is the format. With --for transformers and
    /// --for peft, the folder.
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// Who is to open it.
    #[arg(long = "for", value_name = "LIBRARY", value_enum, default_value = "pytorch")]
    library: Library,
    /// Write the mask of a pruned network, too: in a file, a weight X as X_orig and X_mask, as torch.nn.utils.prune does;
    /// in a folder, as mask.safetensors, which transformers passes over and import reads. Without it, pruned weights are
    /// zeros and the mask stays behind.
    #[arg(long)]
    masks: bool,
}

/// Names and layout of what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Library {
    /// A file under our names: torchvision's, and Hugging Face's for vision transformers.
    Pytorch,
    /// A folder of Hugging Face; vision transformers only.
    Transformers,
    /// A file under timm's names; vision transformers only.
    Timm,
    /// A folder of adapters.
    Peft,
}

/// Reads and writes.
pub(crate) fn main(arguments: &ExportArgs) -> Result<(), Failure> {
    let ExportArgs { model, out, library, masks } = arguments;
    let torch = match library {
        Library::Transformers | Library::Peft => false,
        Library::Pytorch | Library::Timm => is_torch(out)?,
    };
    if *library == Library::Peft && *masks {
        let mend = "leave one of them out: the mask belongs to the network, not to its adapters";
        return Err(Failure::config("--masks", "--for peft", "a format with a place for masks", mend));
    }
    must_be_free(out)?;
    let found = source::read(model)?;
    if *library != Library::Peft && !masks && found.has_mask() {
        let model = model.display();
        tracing::warn!(%model, "its mask stays behind, and what was pruned is plain zeros: --masks writes it, too");
    }
    let (tensors, fingerprint) = match library {
        Library::Peft => adapters::write(out, &found)?,
        Library::Transformers => transformers::write(out, vit(&found, *library)?, found, *masks)?,
        Library::Timm => {
            let config = vit(&found, *library)?;
            if config.layer_norm_eps.to_bits() != TIMM_EPSILON.to_bits() {
                let epsilon = config.layer_norm_eps;
                tracing::warn!(epsilon, "timm's layer norms have 1e-6 unless norm_layer says otherwise");
            }
            if *masks {
                let (state, metadata) = masks::timm(&found)?;
                file(out, torch, &state, &metadata)?
            } else {
                file(out, torch, &to_timm(&found.checkpoint.state)?, &unmasked(&found))?
            }
        }
        Library::Pytorch => {
            let state = &found.checkpoint.state;
            if *masks {
                let state = masks::split(state.clone(), &masks::of(&found)?, &found)?;
                file(out, torch, &state, &found.checkpoint.metadata)?
            } else {
                file(out, torch, state, &unmasked(&found))?
            }
        }
    };
    output::print(&format!(
        "wrote {}: {tensors} tensors, SHA-256 of their values {fingerprint}",
        out.display()
    ))
}

fn name_of(library: Library) -> &'static str {
    match library {
        Library::Pytorch => "pytorch",
        Library::Transformers => "transformers",
        Library::Timm => "timm",
        Library::Peft => "peft",
    }
}

/// The format by the ending.
fn is_torch(out: &Path) -> Result<bool, Failure> {
    let ending = out.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    match &*ending {
        "pth" | "pt" => Ok(true),
        "safetensors" => Ok(false),
        other => Err(Failure::config(
            "--out",
            format!("{}, which ends in {other:?}", out.display()),
            "a name that ends in .pth or .safetensors",
            "choose the format by the ending, or add --for transformers or --for peft to write a folder",
        )),
    }
}

/// What the network says of itself, but for the mask that stays behind.
fn unmasked(found: &Source) -> Metadata {
    let said = found.checkpoint.metadata.iter().filter(|(key, _)| *key != MASK_ID);
    said.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn file(out: &Path, torch: bool, state: &StateDict, metadata: &Metadata) -> Result<(usize, String), Failure> {
    if torch {
        checkpoint::write_torch(out, state)?;
    } else {
        checkpoint::write(out, state, metadata)?;
    }
    Ok((state.len(), state.fingerprint()))
}

/// The architecture, which must be a vision transformer.
fn vit(found: &Source, library: Library) -> Result<VitConfig, Failure> {
    match found.checkpoint.metadata.model()? {
        Some(ModelConfig::Vit(config)) => Ok(config),
        Some(other) => Err(Failure::config(
            "--for",
            format!("{} for {other:?}", name_of(library)),
            "a vision transformer",
            "leave --for out: torchvision opens a residual network's file",
        )),
        None => Err(nameless(&found.file)),
    }
}

/// Nothing is ever written over.
pub(super) fn must_be_free(out: &Path) -> Result<(), Failure> {
    if out.symlink_metadata().is_err() {
        return check_parent(out);
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
