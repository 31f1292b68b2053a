//! What curvature is taken over: labelled inputs of any kind.

use std::ops::Range;

use burn::Tensor;
use burn::tensor::{Device, Int};

use crate::CurvatureError;

/// Labelled inputs, in a fixed order. Implement it for your own data; [`TensorSamples`] serves
/// pictures that lie in one tensor.
pub trait Samples: Sync {
    /// What the forward pass takes: a tensor, or a struct of tensors.
    type Input;

    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there is no sample.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The inputs of `range` on `device`, which is an autodiff device.
    ///
    /// # Errors
    /// Whatever keeps a sample from being read, as a [`CurvatureError`].
    fn inputs(&self, range: Range<usize>, device: &Device) -> Result<Self::Input, CurvatureError>;

    /// The class of sample `index`.
    fn label(&self, index: usize) -> usize;
}

/// Pictures `[n, channels, height, width]` in one tensor, with their labels `[n]`.
#[derive(Debug, Clone)]
pub struct TensorSamples {
    images: Tensor<4>,
    labels: Vec<usize>,
}

impl TensorSamples {
    /// Takes `images` `[n, channels, height, width]` and one label each.
    ///
    /// # Errors
    /// [`CurvatureError::Argument`] when there is not one label a picture.
    pub fn new(images: Tensor<4>, labels: Vec<usize>) -> Result<Self, CurvatureError> {
        if images.dims()[0] != labels.len() {
            return Err(CurvatureError::Argument {
                field: "labels",
                got: format!("{} labels for {} pictures", labels.len(), images.dims()[0]),
                expected: "one a picture",
            });
        }
        let images = if images.is_autodiff() { images.inner() } else { images };
        Ok(Self { images, labels })
    }

    /// The samples at `range`.
    ///
    /// # Errors
    /// [`CurvatureError::Argument`] when it reaches past the end.
    pub fn slice(&self, range: Range<usize>) -> Result<Self, CurvatureError> {
        if range.start >= range.end || range.end > self.labels.len() {
            return Err(CurvatureError::Argument {
                field: "range",
                got: format!("{}..{} of {} samples", range.start, range.end, self.labels.len()),
                expected: "at least one sample, and none past the end",
            });
        }
        Ok(Self { images: self.images.clone().slice([range.clone()]), labels: self.labels[range].to_vec() })
    }

    /// The labels, `[n]`, as a tensor on `device`.
    pub fn targets(&self, device: &Device) -> Tensor<1, Int> {
        let labels: Vec<i32> = self.labels.iter().map(|&l| l as i32).collect();
        Tensor::from_data(burn::tensor::TensorData::new(labels, [self.labels.len()]), device)
    }
}

impl Samples for TensorSamples {
    type Input = Tensor<4>;

    fn len(&self) -> usize {
        self.labels.len()
    }

    fn inputs(&self, range: Range<usize>, device: &Device) -> Result<Tensor<4>, CurvatureError> {
        let plain = device.clone().without_autodiff();
        Ok(self.images.clone().slice([range]).to_device(&plain).autodiff())
    }

    fn label(&self, index: usize) -> usize {
        self.labels[index]
    }
}
