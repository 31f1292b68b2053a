//! Labelled pictures in memory, in one canonical order that every index refers to.

use std::fmt::Write as _;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::DataError;

/// Channels, height and width of a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageShape {
    /// Colour channels (3 for RGB).
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl ImageShape {
    /// Bytes of one picture.
    pub fn len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Whether a picture has no pixel.
    pub fn is_empty(&self) -> bool {
        self.channels == 0 || self.height == 0 || self.width == 0
    }

    /// [`len`](Self::len) of a shape that may come from a stranger.
    pub(crate) fn checked_len(self) -> Option<usize> {
        self.channels.checked_mul(self.height)?.checked_mul(self.width)
    }
}

/// Per-channel mean and standard deviation of pixels scaled to `[0, 1]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Normalization {
    /// Mean, one a channel.
    pub mean: Vec<f32>,
    /// Standard deviation, one a channel.
    pub std: Vec<f32>,
}

impl Normalization {
    /// CIFAR-10, as the published unlearning code has it.
    pub fn cifar10() -> Self {
        Self { mean: vec![0.4914, 0.4822, 0.4465], std: vec![0.2470, 0.2435, 0.2616] }
    }

    /// CIFAR-100.
    pub fn cifar100() -> Self {
        Self { mean: vec![0.5071, 0.4866, 0.4409], std: vec![0.2673, 0.2564, 0.2762] }
    }

    /// ImageNet.
    pub fn imagenet() -> Self {
        Self { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] }
    }

    /// Mean one half, deviation one half, for `channels` channels: what vision transformers are pretrained with.
    pub fn half(channels: usize) -> Self {
        Self { mean: vec![0.5; channels], std: vec![0.5; channels] }
    }

    fn check(&self, name: &str, channels: usize) -> Result<(), DataError> {
        if self.mean.len() != channels || self.std.len() != channels {
            return Err(DataError::Invalid {
                what: format!("normalization of data set {name}"),
                got: format!("{} means and {} deviations", self.mean.len(), self.std.len()),
                expected: format!("{channels} of each, one a channel"),
                mend: "give one value a channel".into(),
            });
        }
        let numbers = self.mean.iter().chain(&self.std);
        if !numbers.clone().all(|v| v.is_finite()) || self.std.iter().any(|v| *v <= 0.0) {
            return Err(DataError::Invalid {
                what: format!("normalization of data set {name}"),
                got: format!("{self:?}"),
                expected: "finite means and deviations above zero".into(),
                mend: "give the mean and deviation of pixels scaled to [0, 1]".into(),
            });
        }
        Ok(())
    }
}

/// One labelled picture, as Burn's own data loader hands it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Pixels, `[channels, height, width]` row-major.
    pub image: Vec<u8>,
    /// The class.
    pub label: usize,
    /// The place in the data set's canonical order.
    pub index: usize,
}

#[derive(Debug)]
struct Inner {
    name: String,
    shape: ImageShape,
    images: Vec<u8>,
    labels: Vec<u16>,
    class_names: Vec<String>,
    normalization: Normalization,
    fingerprint: String,
}

/// Labelled pictures of one shape. Cheap to clone: the pixels are shared.
///
/// The fingerprint is a SHA-256 over shape, class count, labels and pixels in canonical order, so
/// that two data sets with equal fingerprints give equal meaning to an index.
#[derive(Debug, Clone)]
pub struct Dataset {
    inner: Arc<Inner>,
    view: View,
}

/// How pictures are shown to a model; no part of what the data are.
#[derive(Debug, Clone, Default)]
struct View {
    size: Option<[usize; 2]>,
    normalization: Option<Arc<Normalization>>,
}

impl Dataset {
    /// Builds a data set.
    ///
    /// * `images`: `[n, channels, height, width]` bytes, row-major;
    /// * `labels`: `[n]`, each below `class_names.len()`.
    ///
    /// # Errors
    /// [`DataError::Invalid`] for lengths that do not fit, [`DataError::LabelRange`] for a label
    /// without a class.
    pub fn new(
        name: impl Into<String>,
        shape: ImageShape,
        images: Vec<u8>,
        labels: Vec<u16>,
        class_names: Vec<String>,
        normalization: Normalization,
    ) -> Result<Self, DataError> {
        let name = name.into();
        let bytes = shape.checked_len().and_then(|len| len.checked_mul(labels.len()));
        if shape.is_empty() || bytes != Some(images.len()) {
            return Err(DataError::Invalid {
                what: format!("data set {name}"),
                got: format!("{} bytes for {} labels of shape {shape:?}", images.len(), labels.len()),
                expected: "channels × height × width bytes a label, none of them zero".into(),
                mend: "check the reader of this data set".into(),
            });
        }
        normalization.check(&name, shape.channels)?;
        let classes = class_names.len();
        if let Some((record, &label)) = labels.iter().enumerate().find(|(_, l)| usize::from(**l) >= classes) {
            return Err(DataError::LabelRange {
                file: name,
                record,
                offset: None,
                got: i64::from(label),
                classes,
            });
        }
        let mut hash = Sha256::new();
        hash.update(b"unlearn/dataset/v1");
        for n in [shape.channels, shape.height, shape.width, classes, labels.len()] {
            hash.update((n as u64).to_le_bytes());
        }
        for label in &labels {
            hash.update(label.to_le_bytes());
        }
        hash.update(&images);
        let fingerprint = hex(&hash.finalize());
        Ok(Self {
            inner: Arc::new(Inner { name, shape, images, labels, class_names, normalization, fingerprint }),
            view: View::default(),
        })
    }

    /// The same data, shown to models in another size: every loader resizes each picture (bilinear, with antialiasing,
    /// as torchvision does on tensors) after its augmentation. Indices, pixels and fingerprint stay.
    ///
    /// # Errors
    /// [`DataError::Invalid`] for a size of zero or above 65,536.
    pub fn shown_at(mut self, height: usize, width: usize) -> Result<Self, DataError> {
        if ![height, width].iter().all(|side| (1..=1 << 16).contains(side)) {
            return Err(DataError::Invalid {
                what: format!("size of the pictures of {}", self.name()),
                got: format!("{height} × {width}"),
                expected: "1 to 65,536 rows and columns".into(),
                mend: "give the size that the model takes".into(),
            });
        }
        self.view.size = Some([height, width]);
        Ok(self)
    }

    /// The same data with other constants for the model.
    ///
    /// # Errors
    /// [`DataError::Invalid`] as [`new`](Self::new).
    pub fn with_normalization(mut self, normalization: Normalization) -> Result<Self, DataError> {
        normalization.check(self.name(), self.shape().channels)?;
        self.view.normalization = Some(Arc::new(normalization));
        Ok(self)
    }

    /// The data set's name (`cifar10/train`).
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.inner.labels.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.inner.labels.is_empty()
    }

    /// Shape of every picture as it is stored.
    pub fn shape(&self) -> ImageShape {
        self.inner.shape
    }

    /// Shape of every picture as a model gets it: that of [`shown_at`](Self::shown_at) where it was called.
    pub fn input_shape(&self) -> ImageShape {
        let shape = self.shape();
        self.view.size.map_or(shape, |[height, width]| ImageShape { height, width, ..shape })
    }

    /// Number of classes.
    pub fn num_classes(&self) -> usize {
        self.inner.class_names.len()
    }

    /// Names of the classes by label.
    pub fn class_names(&self) -> &[String] {
        &self.inner.class_names
    }

    /// Constants that the model subtracts and divides by.
    pub fn normalization(&self) -> &Normalization {
        self.view.normalization.as_deref().unwrap_or(&self.inner.normalization)
    }

    /// SHA-256 in lower-case hexadecimal; see the type's documentation.
    pub fn fingerprint(&self) -> &str {
        &self.inner.fingerprint
    }

    /// Pixels of sample `index`, `[channels, height, width]`; `None` past the end.
    pub fn image(&self, index: usize) -> Option<&[u8]> {
        let size = self.inner.shape.len();
        self.inner.images.get(index.checked_mul(size)?..)?.get(..size)
    }

    /// Class of sample `index`; `None` past the end.
    pub fn label(&self, index: usize) -> Option<usize> {
        self.inner.labels.get(index).map(|&l| usize::from(l))
    }

    /// Classes of all samples.
    pub fn labels(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.inner.labels.iter().map(|&l| usize::from(l))
    }

    /// Number of samples in each class.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.num_classes()];
        for label in self.labels() {
            counts[label] += 1;
        }
        counts
    }

    /// A new data set of the samples at `indices`, in that order; its own indices start at zero
    /// and its fingerprint is its own.
    ///
    /// # Errors
    /// [`DataError::IndexRange`] for an index past the end.
    pub fn subset(&self, name: impl Into<String>, indices: &[usize]) -> Result<Self, DataError> {
        let mut images = Vec::with_capacity(indices.len() * self.shape().len());
        let mut labels = Vec::with_capacity(indices.len());
        for (position, &index) in indices.iter().enumerate() {
            let Some(image) = self.image(index) else {
                return Err(DataError::IndexRange { position, got: index.to_string(), len: self.len() });
            };
            images.extend_from_slice(image);
            labels.push(self.inner.labels[index]);
        }
        let (names, normalization) = (self.inner.class_names.clone(), self.inner.normalization.clone());
        let subset = Self::new(name, self.shape(), images, labels, names, normalization)?;
        Ok(Self { view: self.view.clone(), ..subset })
    }

    /// The first `count` samples of each class, in canonical order.
    ///
    /// # Errors
    /// [`DataError::Invalid`] when a class has fewer.
    pub fn take_per_class(&self, count: usize) -> Result<Self, DataError> {
        self.subset(self.name(), &first_of_each(self.name(), self.labels(), self.num_classes(), count)?)
    }
}

/// Where the first `count` samples of each class are, in order, in the set `name` of samples with these labels.
pub(crate) fn first_of_each(
    name: &str,
    labels: impl Iterator<Item = usize>,
    classes: usize,
    count: usize,
) -> Result<Vec<usize>, DataError> {
    let mut taken = vec![0_usize; classes];
    // Grown as it fills: `count` may be any number that somebody wrote into a recipe.
    let mut indices = Vec::new();
    for (index, label) in labels.enumerate() {
        if taken[label] < count {
            taken[label] += 1;
            indices.push(index);
        }
    }
    match taken.iter().position(|&n| n < count) {
        Some(class) => Err(DataError::Invalid {
            what: format!("samples of class {class} in {name}"),
            got: taken[class].to_string(),
            expected: format!("at least {count}"),
            mend: "ask for fewer samples a class".into(),
        }),
        None => Ok(indices),
    }
}

impl burn::data::dataset::Dataset<Sample> for Dataset {
    fn get(&self, index: usize) -> Result<Sample, burn::data::dataset::DatasetError> {
        // Burn's contract: an index past the end is the caller's bug and may panic; ours is kept
        // to the same words that slice indexing uses.
        let size = self.inner.shape.len();
        Ok(Sample {
            image: self.inner.images[index * size..(index + 1) * size].to_vec(),
            label: usize::from(self.inner.labels[index]),
            index,
        })
    }

    fn len(&self) -> usize {
        Dataset::len(self)
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests;
