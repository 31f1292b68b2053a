//! One file a verb.

pub(crate) mod completions;
pub(crate) mod recipe;

use crate::args::{Cli, Command};
use crate::error::Failure;

/// Carries out the command line.
pub(crate) fn dispatch(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Recipe(command) => recipe::main(&command),
        Command::Completions(arguments) => completions::main(&arguments),
    }
}
