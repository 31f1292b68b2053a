//! `unlearn recipe check FILE`.

use std::path::PathBuf;

use clap::{ArgAction, Subcommand};

use crate::error::Failure;
use crate::output;
use crate::recipe::Recipe;

/// Verbs of `unlearn recipe`.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum RecipeCommand {
    /// Check a recipe and print it resolved.
    Check {
        /// The recipe.
        recipe: PathBuf,
        /// Change a key before the check, as --set training.epochs=3.
        #[arg(long, value_name = "KEY=VALUE", action = ArgAction::Append)]
        set: Vec<String>,
    },
}

/// Carries it out.
pub(crate) fn main(command: &RecipeCommand) -> Result<(), Failure> {
    match command {
        RecipeCommand::Check { recipe, set } => output::print(&Recipe::load(recipe, set)?.to_toml()?),
    }
}
