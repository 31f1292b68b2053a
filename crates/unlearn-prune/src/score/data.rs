//! The samples that a data-dependent score looks at.

use std::collections::BTreeMap;
use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use unlearn_curvature::CurvatureError;
use unlearn_curvature::oracle::Samples;
use unlearn_data::{Batch, HostBatch, Loader};

use crate::PruneError;

/// The samples that SNIP and GraSP look at, on the host. What is not here is never read: give a
/// loader over the retain set and the score knows nothing of the forget set.
#[derive(Debug, Clone)]
pub struct ScoringData {
    batches: Vec<HostBatch>,
}

impl ScoringData {
    /// The first `limit` samples of the loader's first epoch.
    ///
    /// # Errors
    /// [`PruneError::Config`] when `limit` is zero.
    pub fn first(loader: &Loader, limit: usize) -> Result<Self, PruneError> {
        let mut left = limit;
        let mut batches = Vec::new();
        for mut batch in loader.epoch(0) {
            if left == 0 {
                break;
            }
            keep_samples(&mut batch, |place, _| place < left);
            left -= batch.len();
            batches.push(batch);
        }
        Self::of(batches)
    }

    /// The first `count` samples of each class in the loader's first epoch (the GraSP paper takes
    /// 10 a class). A class with fewer gives what it has.
    ///
    /// # Errors
    /// [`PruneError::Config`] when `count` is zero.
    pub fn per_class(loader: &Loader, count: usize) -> Result<Self, PruneError> {
        let mut taken = BTreeMap::<usize, usize>::new();
        let mut batches = Vec::new();
        for mut batch in loader.epoch(0) {
            keep_samples(&mut batch, |_, label| {
                let taken = taken.entry(label).or_default();
                *taken += 1;
                *taken <= count
            });
            if !batch.is_empty() {
                batches.push(batch);
            }
        }
        Self::of(batches)
    }

    /// These batches.
    ///
    /// # Errors
    /// [`PruneError::Config`] when they hold no sample, or one does not hold what it says.
    pub fn of(batches: Vec<HostBatch>) -> Result<Self, PruneError> {
        let samples: usize = batches.iter().map(HostBatch::len).sum();
        if samples == 0 {
            return Err(PruneError::Config {
                field: "samples of the score",
                got: "0".into(),
                expected: "at least 1".into(),
                mend: "raise the limit".into(),
            });
        }
        for batch in &batches {
            let (got, expected) = (batch.pixels.len(), batch.len() * batch.shape.len());
            if got != expected {
                return Err(PruneError::Config {
                    field: "pixels of a batch",
                    got: got.to_string(),
                    expected: format!("{expected} for {} samples of {:?}", batch.len(), batch.shape),
                    mend: "give whole pictures".into(),
                });
            }
        }
        Ok(Self { batches: batches.into_iter().filter(|b| !b.is_empty()).collect() })
    }

    /// Number of samples.
    pub fn num_samples(&self) -> usize {
        self.batches.iter().map(HostBatch::len).sum()
    }

    /// The same samples in batches of at most `size`.
    pub(super) fn pieces(&self, size: usize) -> Result<Self, PruneError> {
        let mut pieces = Vec::new();
        for batch in &self.batches {
            let pixels = batch.shape.len();
            for start in (0..batch.len()).step_by(size) {
                let end = (start + size).min(batch.len());
                pieces.push(HostBatch {
                    pixels: batch.pixels[start * pixels..end * pixels].to_vec(),
                    shape: batch.shape,
                    labels: batch.labels[start..end].to_vec(),
                    indices: batch.indices[start..end].to_vec(),
                });
            }
        }
        Self::of(pieces)
    }

    /// Checks the labels against a model's number of classes: a bad one would read out of bounds
    /// on a GPU.
    pub(super) fn check(&self, classes: usize) -> Result<(), PruneError> {
        match self.batches.iter().flat_map(|b| &b.labels).find(|l| **l >= classes) {
            None => Ok(()),
            Some(label) => Err(PruneError::Config {
                field: "label of a sample",
                got: label.to_string(),
                expected: format!("below the model's {classes} classes"),
                mend: "score with the data that the model is for".into(),
            }),
        }
    }

    pub(super) fn batches(&self, device: &Device) -> impl Iterator<Item = Batch> {
        self.batches.iter().map(|b| b.clone().to_device(device))
    }
}

impl Samples for ScoringData {
    type Input = Tensor<4>;

    fn len(&self) -> usize {
        self.num_samples()
    }

    fn inputs(&self, range: Range<usize>, device: &Device) -> Result<Tensor<4>, CurvatureError> {
        let mut parts = Vec::new();
        let mut first = 0;
        for batch in &self.batches {
            let (start, end) = (range.start.max(first), range.end.min(first + batch.len()));
            if start < end {
                let size = batch.shape.len();
                let pixels = batch.pixels[(start - first) * size..(end - first) * size].to_vec();
                let shape = [end - start, batch.shape.channels, batch.shape.height, batch.shape.width];
                parts.push(Tensor::from_data(TensorData::new(pixels, shape), device));
            }
            first += batch.len();
        }
        if parts.is_empty() {
            let reason = format!("there are {} samples", self.num_samples());
            return Err(CurvatureError::Sample { index: range.start, reason });
        }
        Ok(Tensor::cat(parts, 0))
    }

    fn label(&self, index: usize) -> usize {
        self.batches.iter().flat_map(|batch| &batch.labels).nth(index).copied().unwrap_or(usize::MAX)
    }
}

/// Keeps the samples for which `keep(place, label)` holds.
fn keep_samples(batch: &mut HostBatch, mut keep: impl FnMut(usize, usize) -> bool) {
    let size = batch.shape.len();
    let kept: Vec<_> = (0..batch.len()).filter(|&i| keep(i, batch.labels[i])).collect();
    batch.pixels = kept.iter().flat_map(|i| batch.pixels[i * size..(i + 1) * size].to_vec()).collect();
    batch.labels = kept.iter().map(|&i| batch.labels[i]).collect();
    batch.indices = kept.iter().map(|&i| batch.indices[i]).collect();
}
