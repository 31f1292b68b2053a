use super::*;
use crate::source::synthetic::Synthetic;

fn data(count: usize) -> Dataset {
    let settings = Synthetic { train: count, test: 10, size: 8, seed: Seed(3) };
    settings.generate().unwrap().train
}

fn loader(count: usize, batch_size: usize) -> Loader {
    let data = data(count);
    let indices: Vec<usize> = (0..count).collect();
    Loader::new(&data, &indices, batch_size)
        .unwrap()
        .with_shuffle(Seed(1))
        .with_augment(Augment::CropFlip, Seed(2))
}

#[test]
fn threads_change_neither_order_nor_content() {
    let expected: Vec<_> = loader(50, 8).with_workers(0).epoch(3).collect();
    for workers in [1, 2, 5] {
        let got: Vec<_> = loader(50, 8).with_workers(workers).epoch(3).collect();
        assert_eq!(got, expected, "{workers} workers");
    }
    let other_epoch: Vec<_> = loader(50, 8).epoch(4).collect();
    assert_ne!(other_epoch, expected);
}

#[test]
fn resuming_in_the_middle_gives_the_same_rest() {
    let whole: Vec<_> = loader(50, 8).with_workers(2).epoch(7).collect();
    for workers in [0, 1, 2, 5] {
        for first in 0..=whole.len() + 1 {
            let rest: Vec<_> = loader(50, 8).with_workers(workers).epoch_from(7, first).collect();
            assert_eq!(rest, whole[first.min(whole.len())..], "{workers} workers from batch {first}");
        }
    }
}

#[test]
fn every_sample_comes_once_and_no_batch_has_one() {
    for count in [10, 16, 17, 18, 24, 25] {
        for batch_size in [2, 7, 8, 16, 40] {
            let loader = loader(count, batch_size);
            let batches: Vec<_> = loader.epoch(0).collect();
            assert_eq!(batches.len(), loader.batches_per_epoch());
            assert!(batches.iter().all(|b| (2..=batch_size + 1).contains(&b.len())), "{count}/{batch_size}");
            let mut seen: Vec<_> = batches.iter().flat_map(|b| b.indices.clone()).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..count).collect::<Vec<_>>());
        }
    }
}

#[test]
fn one_single_sample_is_still_a_batch() {
    let data = data(10);
    let batches: Vec<_> = Loader::new(&data, &[4], 8).unwrap().epoch(0).collect();
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0].indices, [4]);
    assert_eq!(batches[0].labels, [data.label(4).unwrap()]);
}

#[test]
fn batches_hold_the_pictures_they_name() {
    let data = data(20);
    for batch in Loader::new(&data, &[7, 3, 11], 2).unwrap().epoch(0) {
        for (position, (&index, &label)) in batch.indices.iter().zip(&batch.labels).enumerate() {
            assert_eq!(Some(label), data.label(index));
            let size = batch.shape.len();
            let expected: Vec<f32> =
                data.image(index).unwrap().iter().map(|&b| f32::from(b) / 255.0).collect();
            assert_eq!(batch.pixels[position * size..(position + 1) * size], expected);
        }
    }
}

#[test]
fn wrong_settings_are_named() {
    let data = data(10);
    for (indices, batch_size, code) in
        [(&[0_usize][..], 0, "E_CONFIG"), (&[], 4, "E_CONFIG"), (&[3, 10], 4, "E_INDEX_RANGE")]
    {
        let error = Loader::new(&data, indices, batch_size).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    }
    let message = Loader::new(&data, &[3, 10], 4).unwrap_err().to_string();
    assert!(message.contains("10 (entry 1)") && message.contains("0–9"), "{message}");
}
