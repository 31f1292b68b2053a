//! Fixed-length records of one picture each, as the CIFAR files have them: label bytes, then
//! 1,024 red, 1,024 green, 1,024 blue.

use std::io::Read as _;
use std::path::Path;

use super::{allocate, open_file};
use crate::DataError;
use crate::dataset::{Dataset, ImageShape, Normalization};

/// Shape of every CIFAR picture.
pub(super) const SHAPE: ImageShape = ImageShape { channels: 3, height: 32, width: 32 };
/// Bytes of every CIFAR picture.
pub(super) const PIXELS: usize = 3_072;

/// How a file's records are laid out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// Number of classes of each label byte; the last one is the label that is kept.
    pub(super) label_classes: &'static [usize],
    /// Records in each file.
    pub(super) records: usize,
}

impl Layout {
    pub(super) fn record_len(self) -> usize {
        self.label_classes.len() + PIXELS
    }
}

/// Pixels and labels collected from one or more files.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub(super) images: Vec<u8>,
    pub(super) labels: Vec<u16>,
}

impl Collected {
    pub(super) fn with_capacity(records: usize) -> Result<Self, DataError> {
        // Only a promise of memory: the length stays zero.
        let mut images = allocate("the pictures", records.checked_mul(PIXELS))?;
        images.clear();
        Ok(Self { images, labels: Vec::with_capacity(records) })
    }

    /// Appends the records of a binary file.
    pub(super) fn read(&mut self, file: &Path, layout: Layout) -> Result<(), DataError> {
        let bytes = read_exactly(file, layout)?;
        self.parse(file, &bytes, layout)
    }

    fn parse(&mut self, file: &Path, bytes: &[u8], layout: Layout) -> Result<(), DataError> {
        for (record, chunk) in bytes.chunks_exact(layout.record_len()).enumerate() {
            let (labels, pixels) = chunk.split_at(layout.label_classes.len());
            for (place, (&label, &classes)) in labels.iter().zip(layout.label_classes).enumerate() {
                if usize::from(label) >= classes {
                    return Err(DataError::LabelRange {
                        file: file.display().to_string(),
                        record,
                        offset: Some((record * layout.record_len() + place) as u64),
                        got: i64::from(label),
                        classes,
                    });
                }
            }
            self.labels.extend(labels.last().map(|&label| u16::from(label)));
            self.images.extend_from_slice(pixels);
        }
        Ok(())
    }

    pub(super) fn into_dataset(
        self,
        name: &str,
        classes: &[&str],
        normalization: Normalization,
    ) -> Result<Dataset, DataError> {
        let classes = classes.iter().map(|&c| c.to_owned()).collect();
        Dataset::new(name, SHAPE, self.images, self.labels, classes, normalization)
    }
}

fn read_exactly(file: &Path, layout: Layout) -> Result<Vec<u8>, DataError> {
    let unreadable = |source| DataError::io(file, "read", source);
    let mut handle = open_file(file)?;
    let got = handle.metadata().map_err(unreadable)?.len();
    let (record, expected) = (layout.record_len(), layout.records * layout.record_len());
    let wrong = |got: u64| DataError::Length {
        file: file.to_owned(),
        got,
        expected: format!(
            "{expected}, which is {} records of {record} bytes; there are {} whole records and {} bytes",
            layout.records,
            got / record as u64,
            got % record as u64
        ),
    };
    if got != expected as u64 {
        return Err(wrong(got));
    }
    let mut bytes = allocate("a data file", Some(expected))?;
    handle.read_exact(&mut bytes).map_err(unreadable)?;
    // Still growing while it is read?
    if handle.read(&mut [0]).map_err(unreadable)? != 0 {
        return Err(wrong(got + 1));
    }
    Ok(bytes)
}
