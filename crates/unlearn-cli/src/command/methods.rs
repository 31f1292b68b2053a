//! `unlearn methods [NAME]`.

use clap::Args;
use unlearn::algos::methods;

use crate::error::Failure;
use crate::output;

/// Arguments of `unlearn methods`.
#[derive(Debug, Clone, Args)]
pub(crate) struct MethodsArgs {
    /// The method whose manual page to print; all are listed without it.
    name: Option<String>,
}

/// Prints the list or a page.
pub(crate) fn main(arguments: &MethodsArgs) -> Result<(), Failure> {
    let text = if let Some(name) = &arguments.name {
        methods::card(name)?.page()
    } else {
        let line = |card: &methods::MethodCard| format!("{:16} {}", card.name, card.summary());
        methods::cards().iter().map(line).collect::<Vec<_>>().join("\n")
    };
    output::print(&text)
}
