//! Pictures in folders: `DIR/train/CLASS/*` and `DIR/test/CLASS/*`, PNG or JPEG, all of one size.
//!
//! Classes are the sub-folders' names in byte order; pictures are ordered by class, then by file
//! name in byte order. Both halves must have the same classes. Nothing is skipped: whatever is
//! not a picture in a class folder is an error, and links are not followed.

use std::fs::FileType;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{Apart, PerClass, Reader, TrainTest, allocate, cifar10, picture};
use crate::DataError;
use crate::dataset::{Dataset, ImageShape, Normalization, first_of_each};
use crate::error::{FolderFault, ImageFault};

/// The entry in the list of readers.
pub const READER: Reader = Reader {
    id: "folder",
    layout: "train/CLASS/*.png and test/CLASS/*.png (or jpg, jpeg)",
    detect: |dir| dir.join("train").is_dir() && dir.join("test").is_dir(),
    open,
    apart: Some(Apart { outline, open_first }),
};

/// Reads both halves below `dir`.
///
/// # Errors
/// [`DataError::Folder`] for anything wrong with the folders, [`DataError::Image`] for anything
/// wrong with a picture (of several, the first in order), [`DataError::Io`].
pub fn open(dir: &Path) -> Result<TrainTest, DataError> {
    open_first(dir, PerClass::ALL)
}

/// The same, of which no more pictures are opened than are wanted.
fn open_first(dir: &Path, wanted: PerClass) -> Result<TrainTest, DataError> {
    let [train, test] = halves(dir, wanted)?;
    let first_path = &train.pictures[0].0;
    let first = picture::read(first_path)?;
    let shape = ImageShape { channels: 3, height: first.height, width: first.width };
    let train_images = decode(&train, shape, first_path)?;
    let test_images = decode(&test, shape, first_path)?;
    let normalization = if train.classes == cifar10::CLASS_NAMES && (shape.height, shape.width) == (32, 32) {
        Normalization::cifar10()
    } else {
        measured(&train_images, shape)
    };
    both([train, test], shape, [train_images, test_images], &normalization)
}

/// The same before any picture is opened: a black pixel in place of each.
fn outline(dir: &Path, wanted: PerClass) -> Result<TrainTest, DataError> {
    let halves = halves(dir, wanted)?;
    let shape = ImageShape { channels: 3, height: 1, width: 1 };
    let black = |list: &Listing| vec![0; list.pictures.len() * shape.len()];
    let images = [black(&halves[0]), black(&halves[1])];
    both(halves, shape, images, &Normalization::half(shape.channels))
}

/// What is wanted of both halves.
fn halves(dir: &Path, wanted: PerClass) -> Result<[Listing; 2], DataError> {
    let (train, test) = (list(&dir.join("train"))?, list(&dir.join("test"))?);
    same_classes(dir, &train, &test)?;
    Ok([train.first("train", wanted.train)?, test.first("test", wanted.test)?])
}

fn both(
    [train, test]: [Listing; 2],
    shape: ImageShape,
    [train_images, test_images]: [Vec<u8>; 2],
    normalization: &Normalization,
) -> Result<TrainTest, DataError> {
    let build = |half: &str, images, list: Listing| {
        let labels = list.pictures.iter().map(|(_, label)| *label).collect();
        Dataset::new(name(half), shape, images, labels, list.classes, normalization.clone())
    };
    Ok(TrainTest { train: build("train", train_images, train)?, test: build("test", test_images, test)? })
}

fn name(half: &str) -> String {
    format!("folder/{half}")
}

/// What one half consists of, before any picture is opened.
struct Listing {
    classes: Vec<String>,
    /// Path and label, in canonical order; at least one.
    pictures: Vec<(PathBuf, u16)>,
}

impl Listing {
    /// The first `count` pictures of each class.
    fn first(mut self, half: &str, count: Option<usize>) -> Result<Self, DataError> {
        let Some(count) = count else { return Ok(self) };
        let labels = self.pictures.iter().map(|(_, label)| usize::from(*label));
        let mut wanted =
            first_of_each(&name(half), labels, self.classes.len(), count)?.into_iter().peekable();
        let mut index = 0;
        self.pictures.retain(|_| {
            index += 1;
            wanted.next_if_eq(&(index - 1)).is_some()
        });
        Ok(self)
    }
}

fn list(half: &Path) -> Result<Listing, DataError> {
    let mut classes = Vec::new();
    let mut pictures = Vec::new();
    for (name, kind) in entries(half)? {
        let path = half.join(&name);
        if !kind.is_dir() {
            return Err(fault(
                path,
                FolderFault::Foreign,
                "a file among the class folders",
                "only folders, one a class",
                "Move the picture into its class's folder, or delete the file",
            ));
        }
        let label = u16::try_from(classes.len()).map_err(|_| {
            fault(half.into(), FolderFault::Layout, "over 65,536 classes", "fewer", "Check the folder")
        })?;
        let before = pictures.len();
        for (file, kind) in entries(&path)? {
            let file = path.join(file);
            if !kind.is_file() || !picture::is_picture(&file) {
                return Err(fault(
                    file,
                    FolderFault::Foreign,
                    if kind.is_dir() { "a folder inside a class" } else { "not a picture file" },
                    "png, jpg and jpeg files only; none is ever skipped",
                    "Move it away or delete it",
                ));
            }
            pictures.push((file, label));
        }
        if pictures.len() == before {
            return Err(fault(
                path,
                FolderFault::Empty,
                "a class without pictures",
                "at least one",
                "Add pictures or delete the folder (in train and test)",
            ));
        }
        classes.push(name);
    }
    if classes.is_empty() {
        return Err(fault(
            half.into(),
            FolderFault::Empty,
            "no class folders",
            "one folder a class",
            "Name the folder that holds train/CLASS and test/CLASS",
        ));
    }
    Ok(Listing { classes, pictures })
}

/// Names and kinds of what lies in `dir`, in byte order.
fn entries(dir: &Path) -> Result<Vec<(String, FileType)>, DataError> {
    let unreadable = |source| DataError::io(dir, "read", source);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().into_string().map_err(|_| {
            fault(
                entry.path(),
                FolderFault::Name,
                "a name that is not UTF-8",
                "UTF-8 names, so that the order is the same everywhere",
                "Rename it",
            )
        })?;
        let kind = entry.file_type().map_err(|e| DataError::io(&entry.path(), "read", e))?;
        if kind.is_symlink() {
            return Err(fault(
                entry.path(),
                FolderFault::Link,
                "a symbolic link",
                "real files and folders; links are not followed",
                "Copy what it points to into its place",
            ));
        }
        found.push((name, kind));
    }
    found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let mut folded: Vec<_> = found.iter().map(|(name, _)| (name.to_lowercase(), name)).collect();
    folded.sort_unstable();
    if let Some(pair) = folded.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(fault(
            dir.join(pair[1].1),
            FolderFault::Duplicate,
            &format!("{:?} is there too", pair[0].1),
            "names that differ in more than upper and lower case",
            "Rename one of them: on some file systems they are the same",
        ));
    }
    Ok(found)
}

fn same_classes(dir: &Path, train: &Listing, test: &Listing) -> Result<(), DataError> {
    for (half, here, there) in [("test", train, test), ("train", test, train)] {
        if let Some(class) = here.classes.iter().find(|c| there.classes.binary_search(c).is_err()) {
            return Err(fault(
                dir.join(half),
                FolderFault::Layout,
                &format!("no class {class:?}"),
                "the same classes in train and test",
                "Add the class's folder with its pictures, or delete the class",
            ));
        }
    }
    Ok(())
}

/// Decodes all pictures in parallel into one block, in order.
fn decode(list: &Listing, shape: ImageShape, first: &Path) -> Result<Vec<u8>, DataError> {
    let mut images = allocate("the pictures", list.pictures.len().checked_mul(shape.len()))?;
    let failed = images
        .par_chunks_exact_mut(shape.len())
        .zip(&list.pictures)
        .find_map_first(|(out, (path, _))| decode_one(path, shape, first, out).err());
    match failed {
        Some(error) => Err(error),
        None => Ok(images),
    }
}

fn decode_one(path: &Path, shape: ImageShape, first: &Path, out: &mut [u8]) -> Result<(), DataError> {
    let picture = picture::read(path)?;
    if (picture.height, picture.width) != (shape.height, shape.width) {
        return Err(DataError::Image {
            file: path.to_owned(),
            fault: ImageFault::Shape,
            got: format!("{} × {} pixels", picture.width, picture.height),
            expected: format!(
                "{} × {}, as the first picture, {}",
                shape.width,
                shape.height,
                first.display()
            ),
            mend: "Scale all pictures to one size".into(),
        });
    }
    out.copy_from_slice(&picture.rgb);
    Ok(())
}

/// Mean and standard deviation of each channel over all pixels of `images`, from exact integer sums.
fn measured(images: &[u8], shape: ImageShape) -> Normalization {
    let area = shape.height * shape.width;
    let (mut mean, mut std) = (Vec::new(), Vec::new());
    for channel in 0..shape.channels {
        let (mut count, mut sum, mut squares) = (0_u64, 0_u64, 0_u64);
        for image in images.chunks_exact(shape.len()) {
            for &value in &image[channel * area..(channel + 1) * area] {
                count += 1;
                sum += u64::from(value);
                squares += u64::from(value) * u64::from(value);
            }
        }
        let average = sum as f64 / count as f64;
        let variance = (squares as f64 / count as f64 - average * average).max(0.0);
        mean.push((average / 255.0) as f32);
        // One grey level at least: a constant channel must not be divided by zero.
        std.push((variance.sqrt() / 255.0).max(1.0 / 255.0) as f32);
    }
    Normalization { mean, std }
}

fn fault(path: PathBuf, fault: FolderFault, got: &str, expected: &str, mend: &str) -> DataError {
    DataError::Folder { path, fault, got: got.into(), expected: expected.into(), mend: mend.into() }
}

#[cfg(test)]
mod tests;
