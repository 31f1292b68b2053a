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

    /// The inputs of `range` on `device`: an autodiff device for the oracle, a plain one for the engine.
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

/// Two sets of pictures one after the other, so that one pass serves both.
#[derive(Debug, Clone, Copy)]
pub struct Joined<'a, A, B> {
    first: &'a A,
    second: &'a B,
}

impl<'a, A, B> Joined<'a, A, B> {
    /// The samples of `first`, then those of `second`.
    pub fn new(first: &'a A, second: &'a B) -> Self {
        Self { first, second }
    }
}

impl<A, B> Samples for Joined<'_, A, B>
where
    A: Samples<Input = Tensor<4>>,
    B: Samples<Input = Tensor<4>>,
{
    type Input = Tensor<4>;

    fn len(&self) -> usize {
        self.first.len() + self.second.len()
    }

    fn inputs(&self, range: Range<usize>, device: &Device) -> Result<Tensor<4>, CurvatureError> {
        let n = self.first.len();
        if range.end <= n {
            return self.first.inputs(range, device);
        }
        let second = self.second.inputs(range.start.max(n) - n..range.end - n, device)?;
        if range.start >= n {
            return Ok(second);
        }
        Ok(Tensor::cat(vec![self.first.inputs(range.start..n, device)?, second], 0))
    }

    fn label(&self, index: usize) -> usize {
        match index.checked_sub(self.first.len()) {
            None => self.first.label(index),
            Some(index) => self.second.label(index),
        }
    }
}
