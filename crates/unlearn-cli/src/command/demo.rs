//! `unlearn demo`.

use std::path::PathBuf;

use clap::{ArgAction, Args};

use crate::args::DeviceArgs;
use crate::error::Failure;
use crate::output;
use crate::progress::Teller;
use crate::recipe::Recipe;
use crate::run::check_place;
use crate::run::folder::Place;
use crate::run::world::World;

/// The recipe, which stands in `recipes/demo.toml` too.
const RECIPE: &str = include_str!("demo.toml");

/// What `--quick` changes: sizes only, so that the same code runs.
const QUICK: [&str; 10] = [
    "name=demo-quick",
    "data.train_per_class=20",
    "data.test_per_class=10",
    "data.size=16",
    "model.width=4",
    "training.epochs=2",
    "method.finetune.epochs=1",
    "method.finetune-l1.epochs=1",
    "method.fisher.samples=8",
    "method.influence.samples=8",
];

/// Arguments of `unlearn demo`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DemoArgs {
    #[command(flatten)]
    device: DeviceArgs,
    /// Tiny sizes: seconds instead of minutes, and numbers that mean nothing.
    #[arg(long)]
    quick: bool,
    /// Keep models, evaluations and results in this folder [default: keep nothing].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with the demo in that folder.
    #[arg(long, requires = "out")]
    resume: bool,
    /// Change a key of the demo's recipe, as --set training.epochs=3.
    #[arg(long, value_name = "KEY=VALUE", action = ArgAction::Append)]
    set: Vec<String>,
}

/// Runs the demo and prints its table.
pub(crate) fn main(arguments: &DemoArgs, teller: Teller) -> Result<(), Failure> {
    let quick = QUICK.iter().filter(|_| arguments.quick);
    let sets: Vec<String> = quick.map(|s| (*s).to_owned()).chain(arguments.set.iter().cloned()).collect();
    let recipe = Recipe::built_in("demo.toml", RECIPE, &sets)?;
    let mut temporary = None;
    let stop = teller.stop().clone();
    let out = if let Some(out) = &arguments.out {
        out.clone()
    } else {
        let folder = tempfile::tempdir().map_err(|e| Failure::io(&std::env::temp_dir(), &e))?;
        stop.keep_nothing(Some(folder.path().to_owned()));
        temporary.insert(folder).path().join("demo")
    };
    let place = Place { out, resume: arguments.resume };
    place.check()?;
    check_place(&place, &recipe, &arguments.device.device)?;
    let world = World::open(recipe, &[], &arguments.device.device, teller)?;
    let report = crate::run::execute(&world, &place).map_err(|failure| stop.advise(failure))?;
    output::print(&report.to_markdown())?;
    crate::run::report::verdict(&report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_recipe_is_the_shipped_one() {
        let package = std::env::var("CARGO_MANIFEST_DIR").unwrap();
        let shipped = format!("{package}/../../recipes/demo.toml");
        assert_eq!(std::fs::read_to_string(shipped).unwrap(), RECIPE);
    }
}
