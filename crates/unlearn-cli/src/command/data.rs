//! `unlearn data fetch | info | pack`.

mod fetch;
mod info;
mod pack;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::args::OutputArgs;
use crate::error::Failure;

/// What to do with data.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum DataCommand {
    /// Download a data set, check it, and unpack it.
    Fetch(FetchArgs),
    /// Read a data set whole and tell what it holds.
    Info(InfoArgs),
    /// Write a data set into one file that is read much faster than a folder of pictures.
    Pack(PackArgs),
}

/// Data sets that can be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fetchable {
    /// CIFAR-10, binary layout (162 MiB).
    Cifar10,
}

/// Arguments of `unlearn data fetch`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "The archive's length and SHA-256 are known beforehand, so any mirror will do. A download \
that breaks off is continued by the same command."
)]
pub(crate) struct FetchArgs {
    /// The data set.
    #[arg(value_enum)]
    set: Fetchable,
    /// Where the archive lies; a mirror of the official address.
    #[arg(long, default_value = fetch::CIFAR10_URL)]
    url: String,
    /// Folder to unpack into; it is made when it is not there.
    #[arg(long, value_name = "DIR", default_value = "data")]
    out: PathBuf,
    /// Give a try up when no byte arrives for so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    stall: u64,
}

/// Arguments of `unlearn data info`.
#[derive(Debug, Clone, Args)]
pub(crate) struct InfoArgs {
    /// Folder of the data set, or a packed file.
    dir: PathBuf,
    /// auto, cifar10, cifar100, folder or packed.
    #[arg(long, default_value = "auto")]
    kind: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `unlearn data pack`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PackArgs {
    /// Folder of the data set.
    input: PathBuf,
    /// File to write; it must not exist.
    output: PathBuf,
    /// auto, cifar10, cifar100 or folder.
    #[arg(long, default_value = "auto")]
    kind: String,
}

/// Carries out `unlearn data …`.
pub(crate) fn main(command: &DataCommand, output: OutputArgs) -> Result<(), Failure> {
    match command {
        DataCommand::Fetch(FetchArgs { set: Fetchable::Cifar10, url, out, stall }) => {
            fetch::cifar10(url, out, Duration::from_secs(*stall), output.quiet)
        }
        DataCommand::Info(InfoArgs { dir, kind, json }) => info::main(dir, kind, *json),
        DataCommand::Pack(PackArgs { input, output, kind }) => pack::main(input, output, kind),
    }
}
