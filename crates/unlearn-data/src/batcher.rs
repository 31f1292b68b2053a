//! From samples to tensors.

use burn::data::dataloader::batcher::Batcher;
use burn::prelude::Int;
use burn::tensor::{Device, Tensor, TensorData};

use crate::augment::Augment;
use crate::dataset::{Dataset, ImageShape, Sample};
use crate::seed::Seed;

/// A batch on the host, before any tensor exists.
#[derive(Debug, Clone, PartialEq)]
pub struct HostBatch {
    /// Pixels in `[0, 1]`, `[n, channels, height, width]` row-major.
    pub pixels: Vec<f32>,
    /// Shape of each picture.
    pub shape: ImageShape,
    /// Classes, `[n]`.
    pub labels: Vec<usize>,
    /// Places in the data set, `[n]`.
    pub indices: Vec<usize>,
}

impl HostBatch {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Uploads the batch. Give an autodiff device for training: it decides whether batch norms
    /// use batch statistics.
    pub fn to_device(self, device: &Device) -> Batch {
        let n = self.len();
        let ImageShape { channels, height, width } = self.shape;
        let images = TensorData::new(self.pixels, [n, channels, height, width]);
        let labels: Vec<i32> = self.labels.iter().map(|&l| l as i32).collect();
        Batch {
            images: Tensor::from_data(images, device),
            targets: Tensor::from_data(TensorData::new(labels, [n]), device),
            labels: self.labels,
            indices: self.indices,
        }
    }
}

/// A batch on a device. The labels stay on the host as well, checked against the class count when
/// the data set was built.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Pixels in `[0, 1]`, `[n, channels, height, width]`; normalisation is the model's first step.
    pub images: Tensor<4>,
    /// Classes, `[n]`.
    pub targets: Tensor<1, Int>,
    /// Classes on the host, `[n]`.
    pub labels: Vec<usize>,
    /// Places in the data set, `[n]`.
    pub indices: Vec<usize>,
}

impl Batch {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// Burn's `Batcher` over [`Sample`]s, for use with Burn's own data loader: scales bytes to
/// `[0, 1]` and to the size that the data set is shown in, no augmentation (a Burn loader does not say which
/// epoch it is in).
#[derive(Debug, Clone, Copy)]
pub struct ImageBatcher {
    stored: ImageShape,
    shown: ImageShape,
}

impl ImageBatcher {
    /// A batcher for pictures of `shape`.
    pub fn new(shape: ImageShape) -> Self {
        Self { stored: shape, shown: shape }
    }

    /// A batcher for the pictures of `dataset`, resized as [`Dataset::shown_at`] says.
    pub fn of(dataset: &Dataset) -> Self {
        Self { stored: dataset.shape(), shown: dataset.input_shape() }
    }
}

impl Batcher<Sample, Batch> for ImageBatcher {
    fn batch(&self, items: Vec<Sample>, device: &Device) -> Batch {
        let mut host = HostBatch {
            pixels: Vec::with_capacity(items.len() * self.shown.len()),
            shape: self.shown,
            labels: Vec::with_capacity(items.len()),
            indices: Vec::with_capacity(items.len()),
        };
        for item in items {
            let size = [self.shown.height, self.shown.width];
            // Nothing is drawn without an augmentation: seed and epoch do not matter.
            Augment::None.apply(&item.image, (self.stored, size), Seed(0), 0, item.index, &mut host.pixels);
            host.labels.push(item.label);
            host.indices.push(item.index);
        }
        host.to_device(device)
    }
}

#[cfg(test)]
mod tests;
