//! `unlearn eval RECIPE --model MODEL…`.

use std::path::PathBuf;

use clap::{ArgAction, Args};
use unlearn::eval::Report;
use unlearn::models::{Architecture, ArchitectureVisitor};

use super::recipe_of;
use crate::args::{DeviceArgs, RecipeArgs};
use crate::error::Failure;
use crate::output;
use crate::progress::Teller;
use crate::run::folder::{Folder, Place};
use crate::run::workshop::Workshop;
use crate::run::world::World;
use crate::run::{artefact, identity, origin, report, source};

/// Arguments of `unlearn eval`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "The gap of each row is to the model that `unlearn forget --method retrain` made \
of the same network, when that is among the models.")]
pub(crate) struct EvalArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// A model to measure: what `train`, `prune` or `forget` made, or a safetensors or PyTorch
    /// checkpoint. May be given often; each is a row.
    #[arg(long, value_name = "PATH", required = true, action = ArgAction::Append)]
    model: Vec<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Write results.json, results.csv and results.md into this folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Measures models and prints the table.
pub(crate) fn main(arguments: &EvalArgs, teller: Teller) -> Result<(), Failure> {
    teller.stop().keep_nothing(None);
    let place = arguments.out.clone().map(|out| Place { out, resume: false });
    if let Some(place) = &place {
        place.check()?;
    }
    let recipe = recipe_of(&arguments.recipe)?;
    let said =
        arguments.model.iter().map(|path| source::check(path, &recipe)).collect::<Result<Vec<_>, _>>()?;
    let world = World::open(recipe, &said, &arguments.device.device, teller)?;
    let report = world.recipe.model.visit(Eval { world: &world, models: &arguments.model })?;
    if let Some(place) = &place {
        let folder = Folder::open(place, &identity(&world)?)?;
        report::write(&folder, &report)?;
    }
    output::print(&report.to_markdown())
}

struct Eval<'a> {
    world: &'a World,
    models: &'a [PathBuf],
}

impl ArchitectureVisitor for Eval<'_> {
    type Output = Result<Report, Failure>;

    fn visit<A: Architecture>(self, architecture: &A) -> Self::Output {
        let shop = Workshop::new(self.world, architecture)?;
        let mut models = Vec::new();
        for path in self.models {
            // All are read before the first is measured: what is wrong is found at once.
            let trained = artefact::load::<A>(path, self.world, shop.fresh())?;
            origin::check_forgotten(&trained.record, self.world, path)?;
            models.push((path, trained));
        }
        let mut report = Report::new(report::about(self.world));
        for (path, trained) in models {
            self.world.teller.stop().check()?;
            let evaluation = shop
                .evaluate(&trained.model)
                .map_err(|failure| failure.within(&path.display().to_string()))?;
            report::push(&mut report, self.world, None, &trained.record, evaluation)?;
        }
        Ok(report)
    }
}
