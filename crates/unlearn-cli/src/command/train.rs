//! `unlearn train RECIPE --out DIR`.

use clap::Args;
use unlearn::models::{Architecture, ArchitectureVisitor};

use super::recipe_of;
use crate::args::{DeviceArgs, PlaceArgs, RecipeArgs};
use crate::error::Failure;
use crate::output;
use crate::progress::Teller;
use crate::run::single::{Job, Single};
use crate::run::workshop::Workshop;
use crate::run::world::World;

/// Arguments of `unlearn train`.
#[derive(Debug, Clone, Args)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Trains the dense original of a recipe.
pub(crate) fn main(arguments: &TrainArgs, teller: Teller) -> Result<(), Failure> {
    let place = arguments.place.place();
    place.check()?;
    let recipe = recipe_of(&arguments.recipe)?;
    let job = Job { place: &place, verb: "train", extra: serde_json::Value::Null };
    job.check(&recipe, &arguments.device.device)?;
    let world = World::open(recipe, &[], &arguments.device.device, teller)?;
    output::print(&world.recipe.model.visit(Train { world: &world, job })?)
}

struct Train<'a> {
    world: &'a World,
    job: Job<'a>,
}

impl ArchitectureVisitor for Train<'_> {
    type Output = Result<String, Failure>;

    fn visit<A: Architecture>(self, architecture: &A) -> Self::Output {
        let shop = Workshop::new(self.world, architecture)?;
        let early = crate::run::early_epochs(&self.world.recipe);
        Single::new(self.job, &shop).make(|work| shop.train(work, &early))
    }
}
