use std::sync::Arc;

use burn::data::dataloader::{DataLoader, DataLoaderBuilder};

use super::*;
use crate::seed::Seed;
use crate::source::synthetic::Synthetic;
use crate::{Dataset, Loader};

fn data() -> Dataset {
    Synthetic { train: 60, test: 10, size: 8, seed: Seed(5) }.generate().unwrap().train
}

/// The same data through Burn's own loader.
fn burns(data: &Dataset, shuffle: Option<u64>, workers: usize) -> Arc<dyn DataLoader<Batch>> {
    let builder = DataLoaderBuilder::new(ImageBatcher::of(data))
        .batch_size(16)
        .num_workers(workers)
        .set_device(Device::flex());
    match shuffle {
        Some(seed) => builder.shuffle(seed).build(data.clone()),
        None => builder.build(data.clone()),
    }
}

#[test]
fn burns_loader_gives_the_same_batches_as_ours() {
    let data = data();
    let indices: Vec<usize> = (0..data.len()).collect();
    let ours: Vec<_> = Loader::new(&data, &indices, 16).unwrap().epoch(0).collect();
    let theirs: Vec<_> = burns(&data, None, 0).iter().map(Result::unwrap).collect();
    assert_eq!(ours.len(), theirs.len());
    for (host, theirs) in ours.into_iter().zip(theirs) {
        let ours = host.to_device(&Device::flex());
        assert_eq!(ours.images.dims(), [ours.len(), 3, 8, 8]);
        assert_eq!(ours.images.to_data(), theirs.images.to_data());
        assert_eq!(ours.targets.to_data(), theirs.targets.to_data());
        assert_eq!((ours.labels, ours.indices), (theirs.labels, theirs.indices));
    }
}

#[test]
fn burns_workers_and_shuffling_lose_no_sample() {
    let data = data();
    let mut seen = Vec::new();
    for batch in burns(&data, Some(42), 3).iter() {
        let batch = batch.unwrap();
        for (&index, &label) in batch.indices.iter().zip(&batch.labels) {
            assert_eq!(data.label(index), Some(label));
            seen.push(index);
        }
    }
    assert_ne!(seen, (0..60).collect::<Vec<_>>());
    seen.sort_unstable();
    assert_eq!(seen, (0..60).collect::<Vec<_>>());
}

#[test]
fn both_loaders_show_pictures_in_the_size_that_is_asked_for() {
    let data = data().shown_at(12, 10).unwrap();
    let indices: Vec<usize> = (0..data.len()).collect();
    let ours: Vec<_> = Loader::new(&data, &indices, 16).unwrap().epoch(0).collect();
    let theirs: Vec<_> = burns(&data, None, 0).iter().map(Result::unwrap).collect();
    assert_eq!(ours.len(), theirs.len());
    for (host, theirs) in ours.into_iter().zip(theirs) {
        assert_eq!(theirs.images.dims(), [host.len(), 3, 12, 10]);
        assert_eq!(host.to_device(&Device::flex()).images.to_data(), theirs.images.to_data());
    }
}
