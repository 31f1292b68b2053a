//! `unlearn prune RECIPE --model MODEL --out DIR`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use unlearn::models::{Architecture, ArchitectureVisitor};

use super::recipe_of;
use crate::args::{DeviceArgs, PlaceArgs, RecipeArgs};
use crate::error::{Exit, Failure, nearest};
use crate::output;
use crate::progress::Teller;
use crate::recipe::{NetworkConfig, PruneAt, PruningConfig, Recipe};
use crate::run::single::{Job, Single};
use crate::run::workshop::Workshop;
use crate::run::world::World;
use crate::run::{artefact, source};

/// Arguments of `unlearn prune`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PruneArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// The trained model: what `unlearn train` made, or a safetensors or PyTorch checkpoint. Where it
    /// is pruned already, its mask stays in force and the rate is of what is left.
    /// Not needed where the network is pruned before training (at = "init").
    #[arg(long, value_name = "PATH", required_unless_present = "untrained")]
    model: Option<PathBuf>,
    /// Prune the new network (pruning.at = "init").
    #[arg(long, conflicts_with = "model")]
    untrained: bool,
    /// Which [[network]] of the recipe [default: the only one with a pruning].
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Prunes and trains what is left.
pub(crate) fn main(arguments: &PruneArgs, teller: Teller) -> Result<(), Failure> {
    let place = arguments.place.place();
    place.check()?;
    let recipe = recipe_of(&arguments.recipe)?;
    let (name, pruning) = network(&recipe, arguments.network.as_deref())?;
    if (pruning.at == PruneAt::Init) != arguments.untrained {
        return Err(Failure::config(
            format!("network {name}: pruning.at"),
            format!("{:?} {} --untrained", pruning.at, if arguments.untrained { "with" } else { "without" }),
            "--untrained for at = \"init\", --model for at = \"trained\"",
            "change one of the two",
        ));
    }
    let job = Job { place: &place, verb: "prune", extra: json!({ "network": name }) };
    job.check(&recipe, &arguments.device.device)?;
    let said =
        arguments.model.iter().map(|path| source::check(path, &recipe)).collect::<Result<Vec<_>, _>>()?;
    let world = World::open(recipe, &said, &arguments.device.device, teller)?;
    let model = arguments.model.as_deref();
    let prune = Prune { world: &world, job, name: &name, pruning: &pruning, model };
    output::print(&world.recipe.model.visit(prune)?)
}

/// The network that is meant, with its pruning.
fn network(recipe: &Recipe, name: Option<&str>) -> Result<(String, PruningConfig), Failure> {
    let pruned: Vec<(&NetworkConfig, &PruningConfig)> =
        recipe.network.iter().filter_map(|n| Some((n, n.pruning.as_ref()?))).collect();
    let found = match name {
        Some(name) => pruned.iter().find(|(network, _)| network.name == name),
        None => pruned.first().filter(|_| pruned.len() == 1),
    };
    let names: Vec<&str> = pruned.iter().map(|(n, _)| n.name.as_str()).collect();
    found.map(|(network, pruning)| (network.name.clone(), (*pruning).clone())).ok_or_else(|| {
        let near = name.and_then(|name| nearest(name, names.iter().copied()));
        Failure::new(
            "E_NETWORK",
            Exit::Usage,
            "--network",
            name.map_or_else(|| format!("none, with {} pruned networks", pruned.len()), |n| format!("{n:?}")),
            format!("one [[network]] with a pruning (there are {names:?})"),
            near.map_or_else(
                || "name one, or add a pruning".into(),
                |near| format!("did you mean {near:?}?"),
            ),
        )
    })
}

struct Prune<'a> {
    world: &'a World,
    job: Job<'a>,
    name: &'a str,
    pruning: &'a PruningConfig,
    model: Option<&'a Path>,
}

impl ArchitectureVisitor for Prune<'_> {
    type Output = Result<String, Failure>;

    fn visit<A: Architecture>(self, architecture: &A) -> Self::Output {
        let world = self.world;
        let shop = Workshop::new(world, architecture)?;
        let trained = match self.model {
            None => None,
            Some(path) => {
                let mut trained = artefact::load::<A>(path, world, shop.fresh())?;
                if let Some(folder) = source::file(path).parent() {
                    trained.early = artefact::early::<A>(folder, world, || shop.fresh())?;
                }
                Some(trained)
            }
        };
        shop.check_pruning(self.name, self.pruning, trained.as_ref().and_then(|t| t.mask.as_ref()))?;
        let mut single = Single::new(self.job, &shop);
        single.from(trained.as_ref())?;
        single.make(|work| shop.prune(work, self.name, self.pruning, trained.as_ref()))
    }
}
