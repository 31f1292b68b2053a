//! A part of a data set as the curvature oracle wants it.

use std::ops::Range;

use burn::Tensor;
use burn::tensor::Device;
use rand::seq::index::sample;
use unlearn_curvature::CurvatureError;
use unlearn_curvature::oracle::Samples;
use unlearn_data::{Augment, Dataset, HostBatch, Seed, Stream};

use crate::UnlearnError;

/// Samples of a data set in a fixed order, unaugmented, in the size in which models get them.
#[derive(Debug, Clone)]
pub struct DatasetSamples {
    dataset: Dataset,
    indices: Vec<usize>,
}

impl DatasetSamples {
    /// The samples at `indices`, in that order.
    ///
    /// # Errors
    /// [`DataError::IndexRange`](unlearn_data::DataError::IndexRange) for an index past the end.
    pub fn new(dataset: &Dataset, indices: Vec<usize>) -> Result<Self, UnlearnError> {
        if let Some((position, index)) = indices.iter().enumerate().find(|(_, i)| **i >= dataset.len()) {
            let (got, len) = (index.to_string(), dataset.len());
            return Err(unlearn_data::DataError::IndexRange { position, got, len }.into());
        }
        Ok(Self { dataset: dataset.clone(), indices })
    }

    /// At most `count` of the samples at `indices`, drawn without replacement from `seed` and kept in
    /// their order; all of them when `count` is absent or not smaller.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn drawn(
        dataset: &Dataset,
        indices: &[usize],
        count: Option<usize>,
        seed: Seed,
    ) -> Result<Self, UnlearnError> {
        let Some(count) = count.filter(|count| *count < indices.len()) else {
            return Self::new(dataset, indices.to_vec());
        };
        let mut rng = seed.rng(Stream::Estimate, 0, 0);
        let mut positions = sample(&mut rng, indices.len(), count).into_vec();
        positions.sort_unstable();
        Self::new(dataset, positions.into_iter().map(|p| indices[p]).collect())
    }
}

impl Samples for DatasetSamples {
    type Input = Tensor<4>;

    fn len(&self) -> usize {
        self.indices.len()
    }

    fn inputs(&self, range: Range<usize>, device: &Device) -> Result<Tensor<4>, CurvatureError> {
        let (stored, shape) = (self.dataset.shape(), self.dataset.input_shape());
        let size = [shape.height, shape.width];
        let indices = self.indices[range].to_vec();
        let mut pixels = Vec::with_capacity(indices.len() * shape.len());
        for &index in &indices {
            let image = self.dataset.image(index).ok_or_else(|| CurvatureError::Sample {
                index,
                reason: format!("the data set has {} samples", self.dataset.len()),
            })?;
            Augment::None.apply(image, (stored, size), Seed(0), 0, index, &mut pixels);
        }
        let labels = vec![0; indices.len()];
        Ok(HostBatch { pixels, shape, labels, indices }.to_device(device).images)
    }

    fn label(&self, index: usize) -> usize {
        self.dataset.label(self.indices[index]).unwrap_or(usize::MAX)
    }
}
