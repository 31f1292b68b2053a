//! One file a verb.

pub(crate) mod completions;
pub(crate) mod data;
pub(crate) mod demo;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod forget;
pub(crate) mod import;
pub(crate) mod methods;
pub(crate) mod prune;
pub(crate) mod recipe;
pub(crate) mod run;
pub(crate) mod train;

use crate::args::{Cli, Command, RecipeArgs};
use crate::error::Failure;
use crate::progress::Teller;
use crate::recipe::Recipe;
use crate::run::world::with_folders;
use crate::stop::Stop;

/// Carries out the command line.
pub(crate) fn dispatch(cli: Cli) -> Result<(), Failure> {
    let teller = || Ok::<_, Failure>(Teller::new(cli.output.quiet, Stop::listen()?));
    match cli.command {
        Command::Demo(arguments) => demo::main(&arguments, teller()?),
        Command::Run(arguments) => run::main(&arguments, teller()?),
        Command::Train(arguments) => train::main(&arguments, teller()?),
        Command::Prune(arguments) => prune::main(&arguments, teller()?),
        Command::Forget(arguments) => forget::main(&arguments, teller()?),
        Command::Eval(arguments) => eval::main(&arguments, teller()?),
        Command::Data(command) => data::main(&command, cli.output),
        Command::Recipe(command) => recipe::main(&command),
        Command::Import(arguments) => import::main(&arguments, cli.output.quiet),
        Command::Export(arguments) => export::main(&arguments),
        Command::Methods(arguments) => methods::main(&arguments),
        Command::Completions(arguments) => completions::main(&arguments),
    }
}

/// The recipe on the command line, with what stands beside it there.
fn recipe_of(arguments: &RecipeArgs) -> Result<Recipe, Failure> {
    with_folders(Recipe::load(&arguments.recipe, &arguments.set)?, arguments)
}
