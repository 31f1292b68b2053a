//! CIFAR-100 (Krizhevsky 2009): 50,000 training and 10,000 test pictures of 32×32 pixels in 100
//! fine classes. The 20 coarse classes are checked but not kept.
//!
//! * binary: `train.bin` and `test.bin`, records of 3,074 bytes (coarse label, fine label,
//!   pixels), in the folder or in `cifar-100-binary/` below it;
//! * python: `train` and `test`, pickled, in the folder or in `cifar-100-python/` below it.

use std::path::{Path, PathBuf};

use super::records::{Collected, Layout};
use super::{Reader, TrainTest, only_place, pickle};
use crate::DataError;
use crate::dataset::{Dataset, Normalization};

/// The entry in the list of readers.
pub const READER: Reader = Reader {
    id: "cifar100",
    layout: "train.bin and test.bin (or without .bin, pickled)",
    detect: |dir| !matches!(find(dir), Ok(None)),
    open,
    apart: None,
};

/// The fine classes, by label; also their alphabetical order.
#[rustfmt::skip]
pub const CLASS_NAMES: [&str; 100] = [
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle",
    "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle",
    "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur",
    "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard",
    "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain",
    "mouse", "mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree",
    "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket",
    "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider",
    "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor",
    "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm",
];

const TRAIN: Layout = Layout { label_classes: &[20, 100], records: 50_000 };
const TEST: Layout = Layout { label_classes: &[20, 100], records: 10_000 };

/// Reads both halves from `dir`.
///
/// # Errors
/// As [`super::cifar10::open`].
pub fn open(dir: &Path) -> Result<TrainTest, DataError> {
    open_with(dir, TRAIN, TEST)
}

fn open_with(dir: &Path, train: Layout, test: Layout) -> Result<TrainTest, DataError> {
    let (folder, binary) = find(dir)?.unwrap_or_else(|| (dir.to_owned(), true));
    let half = |name: &str, file: &str, layout: Layout| -> Result<Dataset, DataError> {
        let mut collected = Collected::with_capacity(layout.records)?;
        if binary {
            collected.read(&folder.join(format!("{file}.bin")), layout)?;
        } else {
            pickle::read_batch(&folder.join(file), "fine_labels", layout.records, 100, &mut collected)?;
        }
        collected.into_dataset(name, &CLASS_NAMES, Normalization::cifar100())
    };
    Ok(TrainTest {
        train: half("cifar100/train", "train", train)?,
        test: half("cifar100/test", "test", test)?,
    })
}

/// The folder that holds the files, and whether they are binary.
///
/// # Errors
/// [`DataError::Folder`] when both layouts, or two copies of one, lie there.
fn find(dir: &Path) -> Result<Option<(PathBuf, bool)>, DataError> {
    let places = [
        (dir.to_owned(), "train.bin", true),
        (dir.join("cifar-100-binary"), "train.bin", true),
        (dir.to_owned(), "train", false),
        (dir.join("cifar-100-python"), "train", false),
    ];
    only_place(dir, places)
}

#[cfg(test)]
mod tests;
