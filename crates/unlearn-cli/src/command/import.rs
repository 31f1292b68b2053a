//! `unlearn import SOURCE --out DIR`.

use std::path::{Path, PathBuf};

use clap::Args;
use tempfile::TempDir;
use unlearn::models::checkpoint::{self, Checkpoint, Metadata};
use unlearn::models::lora::{CONFIG_FILE, Kept};
use unlearn::models::{Architecture, ArchitectureVisitor, ModelConfig, StateDict, Stem, load_peft};
use unlearn::prune::MaskSet;
use unlearn::train::commit::Pending;

use crate::error::{Exit, Failure};
use crate::hub;
use crate::output;
use crate::run::artefact::{MASK, MODEL, adapter_files, take};
use crate::run::origin::{MASK_ID, mask_id};
use crate::run::provenance::Provenance;
use crate::run::source::{self, Source};

/// Arguments of `unlearn import`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "The folder can stand wherever a model is asked for: `unlearn forget RECIPE --model DIR`. Masks that \
a pruned PyTorch checkpoint holds (X_orig, X_mask), or the mask.safetensors that `export --for transformers --masks` \
wrote, become its mask."
)]
pub(crate) struct ImportArgs {
    /// A PyTorch checkpoint (.pth, .pth.tar) or safetensors file (names of torchvision, Hugging Face or timm), a folder
    /// of Hugging Face, a folder that peft wrote, or ORG/NAME[@REVISION] on Hugging Face's hub.
    source: PathBuf,
    /// Folder for the model; it must not exist yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The architecture by name (resnet18), for files that do not say it themselves.
    #[arg(long, value_name = "NAME", requires = "classes")]
    model: Option<String>,
    /// Number of classes of that architecture.
    #[arg(long, value_name = "K", requires = "model")]
    classes: Option<usize>,
    /// Width of its first stage, where it is not the published one.
    #[arg(long, value_name = "CHANNELS", requires = "model")]
    width: Option<usize>,
    /// The network that adapters from peft are merged into (they are kept beside the result): what `train`, `prune`,
    /// `forget` or `import` made, a checkpoint file or a folder of Hugging Face.
    #[arg(long, value_name = "PATH")]
    base: Option<PathBuf>,
}

/// ε of timm's layer norms, which no file of its says.
pub(super) const TIMM_EPSILON: f64 = 1e-6;

/// Reads, checks and writes.
pub(crate) fn main(arguments: &ImportArgs, quiet: bool) -> Result<(), Failure> {
    super::export::must_be_free(&arguments.out)?;
    let out = Target::of(&arguments.out)?;
    let adapters = arguments.source.join(CONFIG_FILE).is_file();
    let path = match (adapters, &arguments.base) {
        (true, Some(base)) => base,
        (true, None) => {
            return Err(Failure::config(
                "--base",
                "absent",
                "the network that these adapters were made for",
                "name it with --base",
            ));
        }
        (false, Some(base)) => {
            return Err(Failure::config(
                "--base",
                base.display().to_string(),
                "no base for a whole network",
                "leave --base out, or name a folder with an adapter_config.json",
            ));
        }
        (false, None) => &arguments.source,
    };
    let fetched = hub::resolve(path, quiet)?;
    let mut found = source::read(fetched.as_ref().map_or(path, |fetched| &fetched.folder))?;
    let model = config(arguments, &found)?;
    let adapters = adapters.then_some(arguments.source.as_path());
    let mut metadata = found.checkpoint.metadata.clone().with_model(&model);
    if let Some(fetched) = &fetched {
        let provenance = Provenance::of(&fetched.folder, Some(&fetched.id))?;
        metadata = provenance.with_mask(&fetched.folder)?.write(metadata);
    }
    let state = std::mem::take(&mut found.checkpoint.state);
    let brought = model.visit(Bring { found: &found, state, adapters, out: &out })?;
    let metadata = metadata.with(MASK_ID, mask_id(brought.mask.as_ref()));
    out.put(&brought, &metadata)?;
    let sparsity = brought.mask.as_ref().map_or(0.0, MaskSet::sparsity);
    output::print(&format!(
        "wrote {}: {} tensors, sparsity {:.1} %, SHA-256 {}",
        arguments.out.display(),
        brought.state.len(),
        100.0 * sparsity,
        brought.state.fingerprint()
    ))
}

/// The architecture: what the file says, what the command line says, and both must agree.
fn config(arguments: &ImportArgs, found: &Source) -> Result<ModelConfig, Failure> {
    let Source { checkpoint: Checkpoint { state, metadata, .. }, file, timm } = found;
    let given = match (&arguments.model, arguments.classes) {
        (Some(name), Some(classes)) => {
            let preset = ModelConfig::preset(name, classes)?;
            let mut model = arguments.width.map_or(preset.clone(), |width| preset.with_width(width));
            model.validate()?;
            match &mut model {
                ModelConfig::Vit(vit) if *timm => vit.layer_norm_eps = TIMM_EPSILON,
                // Stride and pooling have no weights; this kernel is taken to come with those of the publication.
                ModelConfig::ResNet(resnet) if first_kernel(state) == Some(7) => {
                    tracing::warn!(
                        "its first kernel is 7 × 7: read as torchvision's stem, with stride 2 and max pooling behind it"
                    );
                    resnet.stem = Stem::ImageNet;
                }
                _ => {}
            }
            Some(model)
        }
        _ => None,
    };
    match (metadata.model()?, given) {
        (Some(said), Some(given)) if said != given => Err(Failure::new(
            "E_CKPT_MODEL",
            Exit::Checkpoint,
            file.display().to_string(),
            format!("{said:?}"),
            format!("{given:?}, as --model, --classes and --width say"),
            "leave these out: the file says what it is",
        )),
        (Some(model), _) | (None, Some(model)) => Ok(model),
        (None, None) => Err(Failure::config(
            "--model",
            format!("absent, and {} does not say what it is", file.display()),
            "the architecture",
            "add --model resnet18 --classes 10, or what it is; a folder of Hugging Face says it in config.json",
        )),
    }
}

/// The side of the first convolution's kernel.
fn first_kernel(state: &StateDict) -> Option<usize> {
    state.get("conv1.weight").and_then(|weight| weight.shape.last().copied())
}

/// What is written.
struct Brought {
    state: StateDict,
    mask: Option<MaskSet>,
    /// Files of the adapters that were merged, now or in the stage that is imported.
    adapter: Vec<(String, Vec<u8>)>,
}

/// Where the folder is to be.
struct Target<'a> {
    path: &'a Path,
    parent: &'a Path,
    name: &'a str,
}

impl<'a> Target<'a> {
    fn of(path: &'a Path) -> Result<Self, Failure> {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            let (got, mend) = (path.display().to_string(), "name the folder that is to be made");
            return Err(Failure::config("--out", got, "a path that ends in a name, in UTF-8", mend));
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        Ok(Self { path, parent: parent.unwrap_or(Path::new(".")), name })
    }

    /// A folder for the writers, which want paths.
    fn aside(&self) -> Result<TempDir, Failure> {
        let io = |error: std::io::Error| Failure::io(self.parent, &error);
        std::fs::create_dir_all(self.parent).map_err(io)?;
        tempfile::Builder::new().prefix(".unlearn-tmp-").tempdir_in(self.parent).map_err(io)
    }

    /// Writes the folder as a stage is written: aside, `COMMIT.json` last, then under its name. A kill leaves no half of
    /// it there: a model without its mask, or a mask alone.
    fn put(&self, brought: &Brought, metadata: &Metadata) -> Result<(), Failure> {
        let aside = self.aside()?;
        let mut files = Vec::new();
        if let Some(mask) = &brought.mask {
            let path = aside.path().join(MASK);
            mask.save(&path)?;
            files.push((MASK.to_owned(), take(&path)?));
        }
        let path = aside.path().join(MODEL);
        checkpoint::write(&path, &brought.state, metadata)?;
        files.push((MODEL.to_owned(), take(&path)?));
        drop(aside);
        let mut pending = Pending::new(self.parent)?;
        for (name, content) in files.iter().chain(&brought.adapter) {
            pending.write(name, content)?;
        }
        // Another may have made it meanwhile.
        super::export::must_be_free(self.path)?;
        pending.commit(self.name)?;
        Ok(())
    }
}

/// Checks a network against its architecture, and merges adapters.
struct Bring<'a> {
    found: &'a Source,
    /// Its weights, taken out.
    state: StateDict,
    adapters: Option<&'a Path>,
    out: &'a Target<'a>,
}

impl ArchitectureVisitor for Bring<'_> {
    type Output = Result<Brought, Failure>;

    fn visit<A: Architecture>(self, architecture: &A) -> Self::Output {
        let Self { found, state, adapters, out } = self;
        let model = found.network(architecture, state.clone())?;
        let mask = found.mask(&model)?;
        let read = |folder: &Path| {
            let place = folder.display().to_string();
            load_peft(model.clone(), folder).map_err(|error| source::named(error.into(), &place))
        };
        let Some(folder) = adapters else {
            // What a stage keeps of its own goes along.
            let own =
                found.adapter()?.map(|own| adapter_files(&read(&own)?, out.aside()?.path())).transpose()?;
            return Ok(Brought { state, mask, adapter: own.unwrap_or_default() });
        };

        let adapted = read(folder)?;
        let kept: Kept = mask
            .iter()
            .flat_map(MaskSet::iter)
            .map(|(path, mask)| (path.clone(), mask.keep().to_vec()))
            .collect();
        let mut merged = StateDict::of(&adapted.masked_merge(&kept)?)?;
        let adapter = adapter_files(&adapted, out.aside()?.path())?;
        for name in ["normalize.mean", "normalize.std"] {
            if state.get(name).is_none() {
                merged.remove(name);
            }
        }
        Ok(Brought { state: merged, mask, adapter })
    }
}
