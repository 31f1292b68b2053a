//! The command `unlearn`.
//!
//! ```text
//! arguments ─► recipe ─► stages (train, prune, forget, evaluate) ─► report
//!                 every failure ─► error[E_CODE] where: got …; expected … / mend: …  + exit code
//! ```

mod args;
mod boundary;
mod command;
mod device;
mod download;
mod error;
mod hub;
mod output;
mod progress;
mod recipe;
mod regular;
mod run;
mod stop;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::args::Cli;
use crate::error::{Exit, Failure};

fn main() -> ExitCode {
    // Before anything else, which may start threads. Where it cannot be done the command is slower, and else the same.
    let _ = unlearn::train::keep_freed_memory();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    output::start_log(cli.output);
    match boundary::catch(|| command::dispatch(cli)) {
        Ok(()) => ExitCode::from(Exit::Done as u8),
        Err(failure) => {
            output::failure(&failure);
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// Help and version are results; everything else clap says becomes our error shape.
fn refuse(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        let shown = error.print().is_ok();
        let asked = error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
        return ExitCode::from(if shown && asked { Exit::Done as u8 } else { Exit::Usage as u8 });
    }
    let text = error.to_string();
    let mut parts = text.split("\n\n").map(str::trim);
    let got = parts.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    let rest: Vec<&str> = parts.collect();
    let usage = rest.iter().find_map(|p| p.strip_prefix("Usage: ")).unwrap_or("unlearn COMMAND");
    let tip = rest.iter().find_map(|p| p.strip_prefix("tip: "));
    let failure = Failure::new(
        "E_USAGE",
        Exit::Usage,
        "command line",
        got,
        usage,
        tip.map_or_else(|| "`unlearn help` lists verbs and arguments".to_owned(), str::to_owned),
    );
    output::failure(&failure);
    ExitCode::from(Exit::Usage as u8)
}
