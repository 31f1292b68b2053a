//! `unlearn completions SHELL`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;
use crate::error::Failure;
use crate::output;

/// Arguments of `unlearn completions`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "bash: unlearn completions bash > ~/.local/share/bash-completion/completions/unlearn")]
pub(crate) struct CompletionsArgs {
    /// The shell to complete for.
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the completion script.
pub(crate) fn main(arguments: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "unlearn", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
