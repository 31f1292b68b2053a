//! The command line.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::command::{
    completions::CompletionsArgs, data::DataCommand, demo::DemoArgs, eval::EvalArgs, export::ExportArgs,
    forget::ForgetArgs, import::ImportArgs, methods::MethodsArgs, prune::PruneArgs, recipe::RecipeCommand,
    run::RunArgs, train::TrainArgs,
};
use crate::run::folder::Place;

/// Machine unlearning for image classifiers: train, prune, forget, and measure the gap to
/// retraining.
#[derive(Debug, Parser)]
#[command(name = "unlearn", version, about, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 done, 2 usage or recipe, 3 data, 4 checkpoint, 5 environment, \
6 diverged, 75 interrupted (go on with --resume), 8 verification, 70 internal fault.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What is told on the way.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct OutputArgs {
    /// No progress bar and no notes; results and errors only.
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Tell more on stderr: -v what is done, -vv how (the variable RUST_LOG overrides it).
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show everything on built-in pictures: train, prune, forget by every method, compare.
    Demo(DemoArgs),
    /// Carry out a whole recipe and report.
    Run(RunArgs),
    /// Train the original model of a recipe.
    Train(TrainArgs),
    /// Prune a trained model and train what is left.
    Prune(PruneArgs),
    /// Make a trained model forget.
    Forget(ForgetArgs),
    /// Measure what models have forgotten.
    Eval(EvalArgs),
    /// Fetch, look at and pack data sets.
    #[command(subcommand)]
    Data(DataCommand),
    /// Look after recipes.
    #[command(subcommand)]
    Recipe(RecipeCommand),
    /// Take a network from PyTorch or adapters from peft.
    Import(ImportArgs),
    /// Hand a network to PyTorch, transformers or timm, or its adapters to peft.
    Export(ExportArgs),
    /// List the unlearning methods, or print the manual page of one.
    Methods(MethodsArgs),
    /// Print completions for a shell.
    Completions(CompletionsArgs),
}

/// A recipe and what overrides it.
#[derive(Debug, Clone, Args)]
pub(crate) struct RecipeArgs {
    /// The recipe, a TOML file (see docs/recipes.md).
    pub(crate) recipe: PathBuf,
    /// Change a key of the recipe before it is checked, as --set training.epochs=3. May be given
    /// often; elements of an array go by number, label or name (--set method.finetune.epochs=1).
    #[arg(long, value_name = "KEY=VALUE", action = ArgAction::Append)]
    pub(crate) set: Vec<String>,
    /// Folder of the pictures; overrides data.dir.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// A folder of Hugging Face (config.json, model.safetensors), or ORG/NAME[@REVISION] on its hub, whose weights
    /// training begins with; overrides training.pretrained.
    #[arg(long, value_name = "SOURCE")]
    pub(crate) pretrained: Option<PathBuf>,
}

/// Where the numbers are crunched.
#[derive(Debug, Clone, Args)]
pub(crate) struct DeviceArgs {
    /// flex, ndarray, wgpu, vulkan or cuda, as far as built in. Nothing else is ever used instead.
    #[arg(long, value_name = "DEVICE", default_value = "flex")]
    pub(crate) device: String,
}

/// Where one model is made.
#[derive(Debug, Clone, Args)]
pub(crate) struct PlaceArgs {
    /// Folder for the result: DIR/model/model.safetensors and what belongs to it.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Go on with the run in that folder.
    #[arg(long)]
    resume: bool,
}

impl PlaceArgs {
    pub(crate) fn place(&self) -> Place {
        Place { out: self.out.clone(), resume: self.resume }
    }
}
