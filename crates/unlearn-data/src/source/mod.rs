//! Where data sets come from: one file a reader, and the list of them.
//!
//! | id | what it reads |
//! |---|---|
//! | `cifar10` | CIFAR-10, binary or python layout |
//! | `cifar100` | CIFAR-100, binary or python layout |
//! | `folder` | `train/CLASS/*.png`, `test/CLASS/*.jpg` |
//! | `packed` | one file, written by [`packed::write`] |
//! | `synthetic` | nothing: the pictures are drawn from a seed |
//! | `auto` | whichever of the first four lies there |
//!
//! [`open`] reads everything or says what is wrong; it never leaves a picture out. [`open_first`] does the same with the
//! first so many samples of each class.

pub mod archive;
pub mod cifar10;
pub mod cifar100;
pub mod image_folder;
mod kind;
pub mod packed;
mod pickle;
mod picture;
mod records;
pub mod synthetic;

use std::path::{Path, PathBuf};

pub use kind::SourceKind;

use crate::DataError;
use crate::dataset::Dataset;

/// The two halves of a data set: what is learned and forgotten, and what is only ever tested on.
#[derive(Debug, Clone)]
pub struct TrainTest {
    /// Training samples (validation samples are split off these; see [`crate::Split`]).
    pub train: Dataset,
    /// Test samples.
    pub test: Dataset,
}

/// A reader of one layout on disk.
#[derive(Debug)]
pub struct Reader {
    /// The name in recipes and on the command line.
    pub id: &'static str,
    /// What must lie there.
    pub layout: &'static str,
    detect: fn(&Path) -> bool,
    open: fn(&Path) -> Result<TrainTest, DataError>,
    apart: Option<Apart>,
}

/// For layouts whose labels stand apart from pictures that take long to open.
#[derive(Debug)]
struct Apart {
    outline: OpenFirst,
    open_first: OpenFirst,
}

type OpenFirst = fn(&Path, PerClass) -> Result<TrainTest, DataError>;

/// How many samples of each class are wanted, the first ones in canonical order; of `None`, all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerClass {
    /// Of the training samples.
    pub train: Option<usize>,
    /// Of the test samples.
    pub test: Option<usize>,
}

impl PerClass {
    /// Every sample.
    pub const ALL: Self = Self { train: None, test: None };

    /// What is wanted of a data set that has been read.
    fn of(self, TrainTest { train, test }: TrainTest) -> Result<TrainTest, DataError> {
        let first = |set: Dataset, count: Option<usize>| match count {
            Some(count) => set.take_per_class(count),
            None => Ok(set),
        };
        Ok(TrainTest { train: first(train, self.train)?, test: first(test, self.test)? })
    }

    /// No class is left without a sample.
    fn check(self) -> Result<(), DataError> {
        if self.train != Some(0) && self.test != Some(0) {
            return Ok(());
        }
        Err(DataError::Invalid {
            what: "samples wanted of each class".into(),
            got: "none".into(),
            expected: "at least one, or all".into(),
            mend: "ask for more samples a class".into(),
        })
    }
}

/// Every reader, by name.
pub const READERS: [&Reader; 4] =
    [&cifar10::READER, &cifar100::READER, &image_folder::READER, &packed::READER];

/// Reads the data set `kind` from `dir` (for `packed`, a file). Synthetic data need no `dir`.
///
/// # Errors
/// [`DataError::Invalid`] when `dir` is missing or not needed; [`DataError::Io`] when it cannot be
/// read; [`DataError::Folder`] when no layout, or more than one, is found there; and whatever the
/// reader of that layout finds wrong.
///
/// ```
/// use unlearn_data::source::{self, SourceKind};
///
/// let data = source::open("synthetic".parse::<SourceKind>()?, None)?;
/// assert_eq!(data.train.num_classes(), 10);
/// # Ok::<(), unlearn_data::DataError>(())
/// ```
pub fn open(kind: SourceKind, dir: Option<&Path>) -> Result<TrainTest, DataError> {
    if let SourceKind::Synthetic(synthetic) = &kind {
        return match dir {
            None => synthetic.generate(),
            Some(dir) => Err(DataError::Invalid {
                what: "data folder".into(),
                got: format!("{} for synthetic data", dir.display()),
                expected: "none: synthetic pictures are drawn, not read".into(),
                mend: "leave the folder away, or choose `auto` to read it".into(),
            }),
        };
    }
    let Some(dir) = dir else {
        return Err(DataError::Invalid {
            what: "data folder".into(),
            got: "none".into(),
            expected: format!("the folder (or packed file) that holds the `{}` data", kind.id()),
            mend: "name it, or use the built-in `synthetic` data".into(),
        });
    };
    (reading(&kind, dir)?.open)(dir)
}

/// The first samples of each class of the data set that [`open`] reads, as [`Dataset::take_per_class`] takes them. Of an
/// image folder no other picture is opened; where its pictures have no known constants for a model (see
/// [`Normalization`](crate::Normalization)), they are those of the training samples that are taken.
///
/// # Errors
/// [`DataError::Invalid`] for no sample a class, or more than there are; else as [`open`].
pub fn open_first(kind: SourceKind, dir: Option<&Path>, wanted: PerClass) -> Result<TrainTest, DataError> {
    wanted.check()?;
    if let (Some(dir), false) = (dir, matches!(kind, SourceKind::Synthetic(_))) {
        let reader = reading(&kind, dir)?;
        return match &reader.apart {
            Some(apart) => (apart.open_first)(dir, wanted),
            None => wanted.of((reader.open)(dir)?),
        };
    }
    wanted.of(open(kind, dir)?)
}

fn reading(kind: &SourceKind, dir: &Path) -> Result<&'static Reader, DataError> {
    let reader = reader(kind, dir)?;
    tracing::debug!(reader = reader.id, dir = %dir.display(), "reading a data set");
    Ok(reader)
}

/// Names, classes and labels of the data set that [`open_first`] reads from `dir`, with one black pixel in place of each
/// picture; `None` where that cannot be had without opening the pictures (everywhere but in an image folder). What labels
/// alone decide, as whether there is such a sample to forget, can be checked on it before thousands of pictures are
/// decoded: a split or a forget set has the same indices as on the data, though other ids, as the fingerprint is another.
///
/// # Errors
/// [`DataError::Io`] and [`DataError::Folder`] as [`open`] for what is wrong with the folders, [`DataError::Invalid`] as
/// [`open_first`].
pub fn outline(kind: &SourceKind, dir: &Path, wanted: PerClass) -> Result<Option<TrainTest>, DataError> {
    wanted.check()?;
    if matches!(kind, SourceKind::Synthetic(_)) {
        return Ok(None);
    }
    reader(kind, dir)?.apart.as_ref().map(|apart| (apart.outline)(dir, wanted)).transpose()
}

fn reader(kind: &SourceKind, dir: &Path) -> Result<&'static Reader, DataError> {
    std::fs::metadata(dir).map_err(|source| DataError::io(dir, "read", source))?;
    match READERS.into_iter().find(|reader| reader.id == kind.id()) {
        Some(reader) => Ok(reader),
        None => detect(dir),
    }
}

/// The one reader whose layout lies in `dir`.
///
/// # Errors
/// [`DataError::Folder`] when there is none or more than one.
pub fn detect(dir: &Path) -> Result<&'static Reader, DataError> {
    let found: Vec<_> = READERS.into_iter().filter(|r| (r.detect)(dir)).collect();
    match found[..] {
        [reader] => Ok(reader),
        _ => Err(DataError::Folder {
            path: dir.to_owned(),
            fault: crate::error::FolderFault::Layout,
            got: match found.len() {
                0 => "no data set is found here".into(),
                _ => format!("more than one: {}", found.iter().map(|r| r.id).collect::<Vec<_>>().join(", ")),
            },
            expected: match found.len() {
                0 => READERS.map(|r| r.layout).join("; or "),
                _ => "one data set".into(),
            },
            mend: match found.len() {
                0 => "Name the folder that holds these files".into(),
                _ => "Say which one is meant instead of `auto`".into(),
            },
        }),
    }
}

/// Opens a regular file: a pipe would be waited for, a device never ends.
fn open_file(path: &Path) -> Result<std::fs::File, DataError> {
    let unreadable = |source| DataError::io(path, "read", source);
    let about = std::fs::metadata(path).map_err(unreadable)?;
    if about.is_file() {
        return std::fs::File::open(path).map_err(unreadable);
    }
    let got = if about.is_dir() { "a folder" } else { "a pipe or device" };
    Err(DataError::format(
        path,
        got,
        "a regular file",
        "Name the file itself, or copy what the pipe gives into one",
    ))
}

/// `len` zero bytes, or a typed error where the system would rather end the process.
fn allocate(what: &str, len: Option<usize>) -> Result<Vec<u8>, DataError> {
    let too_large = |bytes| DataError::TooLarge { what: what.into(), bytes };
    let len = len.ok_or_else(|| too_large(u64::MAX))?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| too_large(len as u64))?;
    bytes.resize(len, 0);
    Ok(bytes)
}

/// A builder of scratch files and folders that are given their final name when they are whole. A data
/// set is an ordinary file: it gets the rights that the umask leaves of `mode`, not those of a scratch
/// file, which are for its owner's eyes only.
fn scratch(prefix: &str, mode: u32) -> tempfile::Builder<'_, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    builder
}

/// The one of `places` (folder, file, layout) whose file is there.
///
/// # Errors
/// [`DataError::Folder`] when there are more than one: they may hold different pictures.
fn only_place<L: Copy>(
    dir: &Path,
    places: impl IntoIterator<Item = (PathBuf, &'static str, L)>,
) -> Result<Option<(PathBuf, L)>, DataError> {
    let found: Vec<_> = places.into_iter().filter(|(folder, file, _)| folder.join(file).is_file()).collect();
    match &found[..] {
        [] => Ok(None),
        [(folder, _, layout)] => Ok(Some((folder.clone(), *layout))),
        _ => Err(DataError::Folder {
            path: dir.to_owned(),
            fault: crate::error::FolderFault::Layout,
            got: format!(
                "the same data set {} times: {}",
                found.len(),
                found
                    .iter()
                    .map(|(folder, file, _)| folder.join(file).display().to_string())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            expected: "one copy, in one layout".into(),
            mend: "Name the folder of the one that is meant, or move the other away".into(),
        }),
    }
}

#[cfg(test)]
mod tests;
