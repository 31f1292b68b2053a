//! Batches in an order that depends on (seed, epoch) and on nothing else.

use rand::seq::SliceRandom;

use crate::DataError;
use crate::augment::Augment;
use crate::batcher::HostBatch;
use crate::dataset::Dataset;
use crate::prefetch::Prefetch;
use crate::seed::{Seed, Stream};

/// Streams batches of some samples of a data set, epoch by epoch.
///
/// Batch `b` of epoch `e` is a pure function of the loader's settings: it can be asked for again,
/// alone, on any number of threads. The last batch may be short; a last batch of *one* sample is
/// joined to the one before it, because batch normalisation has no variance over one sample and
/// dropping it would silently lose a record.
#[derive(Debug, Clone)]
pub struct Loader {
    dataset: Dataset,
    indices: Vec<usize>,
    batch_size: usize,
    shuffle: Option<Seed>,
    augment: (Augment, Seed),
    workers: usize,
}

impl Loader {
    /// Streams the samples at `indices`, in that order and unchanged.
    ///
    /// # Errors
    /// [`DataError::Invalid`] for batch size zero or no indices, [`DataError::IndexRange`] for an
    /// index past the end.
    pub fn new(dataset: &Dataset, indices: &[usize], batch_size: usize) -> Result<Self, DataError> {
        if batch_size == 0 || indices.is_empty() {
            return Err(DataError::Invalid {
                what: "loader".into(),
                got: format!("batch size {batch_size} over {} samples", indices.len()),
                expected: "at least one of each".into(),
                mend: "give a batch size and a non-empty index list".into(),
            });
        }
        if let Some((position, index)) = indices.iter().enumerate().find(|(_, i)| **i >= dataset.len()) {
            return Err(DataError::IndexRange { position, got: index.to_string(), len: dataset.len() });
        }
        Ok(Self {
            dataset: dataset.clone(),
            indices: indices.to_vec(),
            batch_size,
            shuffle: None,
            augment: (Augment::None, Seed(0)),
            workers: 1,
        })
    }

    /// Draws a new order each epoch from `seed`.
    #[must_use]
    pub fn with_shuffle(mut self, seed: Seed) -> Self {
        self.shuffle = Some(seed);
        self
    }

    /// Augments each picture, drawn from `seed`.
    #[must_use]
    pub fn with_augment(mut self, augment: Augment, seed: Seed) -> Self {
        self.augment = (augment, seed);
        self
    }

    /// Prepares batches ahead on `workers` threads (default 1; 0 prepares each when it is asked
    /// for). Neither order nor content depends on it. At most two batches a worker wait in
    /// memory; the threads end when the iterator is dropped.
    #[must_use]
    pub fn with_workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// The data set behind the loader.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// The samples, in unshuffled order.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// The seed that the order of each epoch is drawn from; `None` keeps the order.
    pub fn shuffle(&self) -> Option<Seed> {
        self.shuffle
    }

    /// What is done to each picture, and the seed that it is drawn from.
    pub fn augment(&self) -> (Augment, Seed) {
        self.augment
    }

    /// Number of samples an epoch.
    pub fn num_samples(&self) -> usize {
        self.indices.len()
    }

    /// Largest number of samples a batch (one more when a single sample would be left over).
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// Number of batches an epoch.
    pub fn batches_per_epoch(&self) -> usize {
        let n = self.indices.len();
        let full = n.div_ceil(self.batch_size);
        if full > 1 && n % self.batch_size == 1 { full - 1 } else { full }
    }

    /// The order of samples in `epoch`.
    pub fn order(&self, epoch: u64) -> Vec<usize> {
        let mut order = self.indices.clone();
        if let Some(seed) = self.shuffle {
            order.shuffle(&mut seed.rng(Stream::Shuffle, epoch, 0));
        }
        order
    }

    /// All batches of `epoch`, in order.
    pub fn epoch(&self, epoch: u64) -> impl ExactSizeIterator<Item = HostBatch> + Send + use<> {
        self.epoch_from(epoch, 0)
    }

    /// The batches of `epoch` from number `first` on: what a resumed run continues with. None are
    /// left where `first` is past the end.
    pub fn epoch_from(
        &self,
        epoch: u64,
        first: usize,
    ) -> impl ExactSizeIterator<Item = HostBatch> + Send + use<> {
        let order = self.order(epoch);
        let loader = self.clone();
        let batches = self.batches_per_epoch();
        Prefetch::new(first, batches, self.workers, move |number| {
            let start = number * loader.batch_size;
            let end = if number + 1 == batches { order.len() } else { start + loader.batch_size };
            loader.assemble(epoch, &order[start..end])
        })
    }

    fn assemble(&self, epoch: u64, indices: &[usize]) -> HostBatch {
        let (stored, shape) = (self.dataset.shape(), self.dataset.input_shape());
        let size = [shape.height, shape.width];
        let mut pixels = Vec::with_capacity(indices.len() * shape.len());
        let mut labels = Vec::with_capacity(indices.len());
        for &index in indices {
            // Both were checked in `new`.
            if let (Some(image), Some(label)) = (self.dataset.image(index), self.dataset.label(index)) {
                self.augment.0.apply(image, (stored, size), self.augment.1, epoch, index, &mut pixels);
                labels.push(label);
            }
        }
        HostBatch { pixels, shape, labels, indices: indices.to_vec() }
    }
}

#[cfg(test)]
mod tests;
