//! From samples to tensors.

use burn::data::dataloader::batcher::Batcher;
use burn::prelude::Int;
use burn::tensor::{Device, Tensor, TensorData};

use crate::dataset::{ImageShape, Sample};

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
/// `[0, 1]`, no augmentation (a Burn loader does not say which epoch it is in).
#[derive(Debug, Clone, Copy)]
pub struct ImageBatcher {
    shape: ImageShape,
}

impl ImageBatcher {
    /// A batcher for pictures of `shape`.
    pub fn new(shape: ImageShape) -> Self {
        Self { shape }
    }
}

impl Batcher<Sample, Batch> for ImageBatcher {
    fn batch(&self, items: Vec<Sample>, device: &Device) -> Batch {
        let mut host = HostBatch {
            pixels: Vec::with_capacity(items.len() * self.shape.len()),
            shape: self.shape,
            labels: Vec::with_capacity(items.len()),
            indices: Vec::with_capacity(items.len()),
        };
        for item in items {
            host.pixels.extend(item.image.iter().map(|&b| f32::from(b) / 255.0));
            host.labels.push(item.label);
            host.indices.push(item.index);
        }
        host.to_device(device)
    }
}

#[cfg(test)]
mod tests;
