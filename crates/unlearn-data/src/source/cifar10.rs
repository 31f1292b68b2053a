//! CIFAR-10 (Krizhevsky 2009): 50,000 training and 10,000 test pictures of 32×32 pixels in ten
//! classes.
//!
//! Two layouts hold the same pictures in the same order and give the same fingerprints:
//!
//! * binary: `data_batch_1.bin` … `data_batch_5.bin` and `test_batch.bin`, 10,000 records of 3,073
//!   bytes each, in the folder or in `cifar-10-batches-bin/` below it;
//! * python: `data_batch_1` … `data_batch_5` and `test_batch`, pickled, in the folder or in
//!   `cifar-10-batches-py/` below it.

use std::path::{Path, PathBuf};

use super::records::{Collected, Layout};
use super::{Reader, TrainTest, only_place, pickle};
use crate::DataError;
use crate::dataset::{Dataset, Normalization};

/// The entry in the list of readers.
pub const READER: Reader = Reader {
    id: "cifar10",
    layout: "data_batch_1.bin … data_batch_5.bin and test_batch.bin (or without .bin, pickled)",
    detect: |dir| !matches!(find(dir), Ok(None)),
    open,
    apart: None,
};

/// The classes, by label; also their alphabetical order.
pub const CLASS_NAMES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Bytes of each binary file, which is all there is to tell a cut one by.
pub const FILE_BYTES: u64 = 30_730_000;

/// Names of the binary files: five training files, then the test file.
pub const FILES: [&str; 6] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
    "test_batch.bin",
];

const LAYOUT: Layout = Layout { label_classes: &[10], records: 10_000 };

/// Reads both halves from `dir`.
///
/// # Errors
/// [`DataError::Length`] for a file that is not exactly 10,000 records long,
/// [`DataError::LabelRange`] naming record and byte, [`DataError::Format`] for a pickle that holds
/// something else, [`DataError::Folder`] where both layouts lie there, [`DataError::Io`].
pub fn open(dir: &Path) -> Result<TrainTest, DataError> {
    open_with(dir, LAYOUT)
}

fn open_with(dir: &Path, layout: Layout) -> Result<TrainTest, DataError> {
    let (folder, binary) = find(dir)?.unwrap_or_else(|| (dir.to_owned(), true));
    let half = |name: &str, files: &[&str]| -> Result<Dataset, DataError> {
        let mut collected = Collected::with_capacity(files.len() * layout.records)?;
        for file in files {
            if binary {
                collected.read(&folder.join(file), layout)?;
            } else {
                let file = folder.join(file.trim_end_matches(".bin"));
                pickle::read_batch(&file, "labels", layout.records, 10, &mut collected)?;
            }
        }
        collected.into_dataset(name, &CLASS_NAMES, Normalization::cifar10())
    };
    Ok(TrainTest { train: half("cifar10/train", &FILES[..5])?, test: half("cifar10/test", &FILES[5..])? })
}

/// The folder that holds the files, and whether they are binary.
///
/// # Errors
/// [`DataError::Folder`] when both layouts, or two copies of one, lie there.
fn find(dir: &Path) -> Result<Option<(PathBuf, bool)>, DataError> {
    let places = [
        (dir.to_owned(), "data_batch_1.bin", true),
        (dir.join("cifar-10-batches-bin"), "data_batch_1.bin", true),
        (dir.to_owned(), "data_batch_1", false),
        (dir.join("cifar-10-batches-py"), "data_batch_1", false),
    ];
    only_place(dir, places)
}

#[cfg(test)]
mod tests;
