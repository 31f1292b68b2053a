//! `unlearn eval RECIPE --model MODEL…`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{ArgAction, Args};
use unlearn::eval::Report;
use unlearn::models::{Architecture, ArchitectureVisitor, Classifier};

use super::recipe_of;
use crate::args::{DeviceArgs, RecipeArgs};
use crate::error::Failure;
use crate::output;
use crate::progress::Teller;
use crate::run::artefact::Trained;
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
    // Neither a folder that was taken meanwhile nor a closed output takes the other away.
    let printed = output::print(&report.to_markdown());
    if let Some(place) = &place {
        report::write(&Folder::open(place, &identity(&world)?)?, &report)?;
    }
    printed
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
        let names = network_names(&models)?;
        for ((path, trained), network) in models.into_iter().zip(names) {
            self.world.teller.stop().check()?;
            let evaluation = shop
                .evaluate(&trained.model)
                .map_err(|failure| failure.within(&path.display().to_string()))?;
            report::push(&mut report, self.world, network.as_deref(), &trained.record, evaluation)?;
        }
        Ok(report)
    }
}

/// A name for each model's network where they are of several, so that no gap is to another network's Retrain: the path of
/// the first model of it.
fn network_names<M: Classifier>(models: &[(&PathBuf, Trained<M>)]) -> Result<Vec<Option<String>>, Failure> {
    let networks = models.iter().map(|(_, trained)| trained.network()).collect::<Result<Vec<_>, _>>()?;
    if networks.iter().flatten().collect::<BTreeSet<_>>().len() < 2 {
        return Ok(vec![None; models.len()]);
    }
    let first = |network: &String| {
        let at = networks.iter().position(|other| other.as_ref() == Some(network))?;
        Some(models[at].0.display().to_string())
    };
    Ok(networks.iter().map(|network| network.as_ref().and_then(first)).collect())
}
