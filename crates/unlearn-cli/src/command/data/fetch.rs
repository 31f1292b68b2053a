//! Data sets from the net: downloaded under a known hash, unpacked by known names.

use std::path::Path;
use std::time::Duration;

use unlearn::data::source::archive::{self, Member};
use unlearn::data::source::{TrainTest, cifar10};

use super::info::Facts;
use crate::download::Download;
use crate::error::{Exit, Failure};
use crate::output;

/// The official address of CIFAR-10's binary layout.
pub(super) const CIFAR10_URL: &str = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz";

/// Length and SHA-256 of the archive there, as TensorFlow Datasets pins them too.
const CIFAR10_BYTES: u64 = 170_052_171;
const CIFAR10_SHA256: &str = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd";

/// An archive that is known beforehand.
struct Archive<'a> {
    /// Its file name while it is here.
    file: &'a str,
    bytes: u64,
    sha256: &'a str,
    /// Folder that its members are unpacked into.
    folder: &'a str,
    members: &'a [Member<'a>],
}

/// Fetches CIFAR-10 into `out/cifar-10-batches-bin`, unless it is there already.
pub(super) fn cifar10(url: &str, out: &Path, stall: Duration, quiet: bool) -> Result<(), Failure> {
    let names = cifar10::FILES.map(|file| format!("cifar-10-batches-bin/{file}"));
    let members: Vec<_> = names
        .iter()
        .zip(cifar10::FILES)
        .map(|(name, file)| Member { name, file, bytes: cifar10::FILE_BYTES })
        .collect();
    let archive = Archive {
        file: "cifar-10-binary.tar.gz",
        bytes: CIFAR10_BYTES,
        sha256: CIFAR10_SHA256,
        folder: "cifar-10-batches-bin",
        members: &members,
    };
    let download = Download { stall, quiet, ..Download::new(url, archive.bytes, archive.sha256) };
    let data = fetch(&archive, &download, out, cifar10::open)?;
    output::print(&format!("{}\n{}", out.join(archive.folder).display(), Facts::of(&data).to_text()))
}

/// Downloads, checks and unpacks `archive` below `out`, and reads it with `open`. What is there
/// already is only read.
fn fetch(
    archive: &Archive<'_>,
    download: &Download<'_>,
    out: &Path,
    open: fn(&Path) -> Result<TrainTest, unlearn::data::DataError>,
) -> Result<TrainTest, Failure> {
    let folder = out.join(archive.folder);
    if folder.symlink_metadata().is_ok() {
        return open(&folder).map_err(|error| {
            let failure = Failure::from(error);
            Failure { mend: format!("{}; delete the folder first", failure.mend), ..failure }
        });
    }
    writable(out)?;
    let file = out.join(archive.file);
    download.to(&file)?;
    archive::unpack(&file, archive.members, &folder)?;
    // It did its work, and is fetched again where it is missed.
    std::fs::remove_file(&file).map_err(|e| Failure::io(&file, &e))?;
    Ok(open(&folder)?)
}

/// Makes `out` and a file without a name in it: said now, not after a long download.
fn writable(out: &Path) -> Result<(), Failure> {
    let outcome = std::fs::create_dir_all(out).and_then(|()| tempfile::tempfile_in(out).map(drop));
    outcome.map_err(|e| {
        Failure::new(
            "E_OUTDIR",
            Exit::Environment,
            out.display().to_string(),
            e.to_string(),
            "a folder that can be written",
            "choose another with --out",
        )
    })
}

#[cfg(test)]
mod tests;
