//! `unlearn run RECIPE`.

use std::path::PathBuf;

use clap::Args;

use crate::args::{DeviceArgs, RecipeArgs};
use crate::error::Failure;
use crate::output;
use crate::progress::Teller;
use crate::recipe::Recipe;
use crate::run::check_place;
use crate::run::folder::Place;
use crate::run::world::{World, with_folders};

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
    place.check()?;
    check_place(&place, &recipe, &arguments.device.device)?;
    let world = World::open(recipe, &[], &arguments.device.device, teller)?;
    let report = crate::run::execute(&world, &place)?;
    output::print(&report.to_markdown())?;
    crate::run::report::verdict(&report)
}
