//! `unlearn forget RECIPE --model MODEL --method NAME --out DIR`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, json};
use unlearn::models::{Architecture, ArchitectureVisitor};

use super::recipe_of;
use crate::args::{DeviceArgs, PlaceArgs, RecipeArgs};
use crate::error::{Exit, Failure};
use crate::output;
use crate::progress::Teller;
use crate::recipe::{MethodConfig, Recipe};
use crate::run::single::{Job, Single};
use crate::run::workshop::{Workshop, algorithm};
use crate::run::world::World;
use crate::run::{artefact, origin, source};

/// Arguments of `unlearn forget`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ForgetArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// The model that is to forget: what `train` or `prune` made, or a safetensors or PyTorch
    /// checkpoint. It is not changed.
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// A [[method]] of the recipe by its label or name, or any method with its defaults.
    #[arg(long, value_name = "NAME")]
    method: String,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Makes a model forget.
pub(crate) fn main(arguments: &ForgetArgs, teller: Teller) -> Result<(), Failure> {
    let place = arguments.place.place();
    place.check()?;
    let recipe = recipe_of(&arguments.recipe)?;
    let method = method(&recipe, &arguments.method);
    recipe.model.visit(Check { method: &method })?;
    let job = Job { place: &place, verb: "forget", extra: json!({ "method": method }) };
    job.check(&recipe, &arguments.device.device)?;
    let said = source::check(&arguments.model, &recipe)?;
    let world = World::open(recipe, &[said], &arguments.device.device, teller)?;
    let forget = Forget { world: &world, job, method: &method, model: &arguments.model };
    output::print(&world.recipe.model.visit(forget)?)
}

fn method(recipe: &Recipe, name: &str) -> MethodConfig {
    let of = |matches: &dyn Fn(&MethodConfig) -> bool| recipe.method.iter().find(|m| matches(m)).cloned();
    of(&|m| m.label() == name).or_else(|| of(&|m| m.name == name)).unwrap_or_else(|| {
        let mut usual = MethodConfig { name: name.to_owned(), label: None, parameters: Map::new() };
        usual.write_out_defaults();
        usual
    })
}

/// Finds a wrong name before the data are read.
struct Check<'a> {
    method: &'a MethodConfig,
}

impl ArchitectureVisitor for Check<'_> {
    type Output = Result<(), Failure>;

    fn visit<A: Architecture>(self, _architecture: &A) -> Self::Output {
        algorithm::<A>(self.method).map(drop)
    }
}

struct Forget<'a> {
    world: &'a World,
    job: Job<'a>,
    method: &'a MethodConfig,
    model: &'a Path,
}

impl ArchitectureVisitor for Forget<'_> {
    type Output = Result<String, Failure>;

    fn visit<A: Architecture>(self, architecture: &A) -> Self::Output {
        let world = self.world;
        let shop = Workshop::new(world, architecture)?;
        let original = artefact::load::<A>(self.model, world, shop.fresh())?;
        // A second request on top of a first is legitimate; that it is one must be known.
        if origin::check_forgotten(&original.record, world, self.model).is_err() {
            tracing::warn!(model = %self.model.display(), "has been made to forget another set before");
        }
        let mut single = Single::new(self.job, &shop);
        single.from(Some(&original))?;
        single.make(|work| {
            let result = shop.forget(work, "forget:", self.method, &original);
            result.map_err(|failure| match failure.exit {
                Exit::Diverged => failure.within(self.method.label()),
                _ => failure,
            })
        })
    }
}
