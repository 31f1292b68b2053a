//! `unlearn run RECIPE`.

use std::path::PathBuf;

use clap::Args;

use crate::args::{DeviceArgs, RecipeArgs};
use crate::error::Failure;
use crate::progress::Teller;
use crate::recipe::Recipe;
use crate::run::folder::Place;
use crate::run::known;
use crate::run::world::{World, with_folders};
use crate::{device, output};

/// Arguments of `unlearn run`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Folder for models, evaluations and results [default: runs/NAME of the recipe].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with the run in that folder: finished stages are skipped, the one under way continues.
    #[arg(long)]
    resume: bool,
}

/// Carries out a recipe and prints the table.
pub(crate) fn main(arguments: &RunArgs, teller: Teller) -> Result<(), Failure> {
    let recipe = Recipe::load(&arguments.recipe.recipe, &arguments.recipe.set)?;
    let recipe = with_folders(recipe, &arguments.recipe)?;
    let out = arguments.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(&recipe.name));
    let place = Place { out, resume: arguments.resume };
    // What is cheap to find wrong is looked at before the pictures are read.
    device::open(&arguments.device.device)?;
    place.check()?;
    place.check_run(&known(&recipe, &arguments.device.device)?)?;
    let world = World::open(recipe, &[], &arguments.device.device, teller)?;
    let report = crate::run::execute(&world, &place)?;
    output::print(&report.to_markdown())?;
    crate::run::report::verdict(&report)
}
