//! Results go to stdout, everything else to stderr. The only place that prints.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;

use crate::args::OutputArgs;
use crate::error::{Exit, Failure};

/// Prints a result to stdout.
///
/// A reader that closes the pipe early (`unlearn … | head`) is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    match write!(out, "{text}{newline}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(
            "E_IO",
            Exit::Environment,
            "stdout",
            error.to_string(),
            "an output that takes the result",
            "make room or redirect the output elsewhere",
        )),
        _ => Ok(()),
    }
}

/// Prints a failure to stderr; when even that is closed there is nobody left to tell.
pub(crate) fn failure(failure: &Failure) {
    let _ = writeln!(io::stderr().lock(), "{failure}");
}

/// Sends `tracing` to stderr: RUST_LOG decides, or else `-v`.
pub(crate) fn start_log(arguments: OutputArgs) {
    let level = match (arguments.quiet, arguments.verbose) {
        (true, _) => "error",
        (_, 0) => "warn",
        (_, 1) => "info,unlearn=info",
        _ => "info,unlearn=debug,unlearn_data=debug,unlearn_train=debug,unlearn_prune=debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    // A second subscriber in one process is impossible here; if there is one, it logs already.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        .without_time()
        .with_ansi(false)
        // Whoever closed stderr, or let its disk fill up, wants no notes; else it would panic.
        .log_internal_errors(false)
        .try_init();
}
