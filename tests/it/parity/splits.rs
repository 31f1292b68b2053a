//! Splits and forget sets as NumPy's legacy generator draws them for the published code.

use unlearn::data::{Dataset, ForgetSpec, ImageShape, Normalization, Partition, Seed, Split, SplitRule};

use crate::goldens::Goldens;

#[derive(serde::Deserialize)]
struct Splits {
    validation_seed1_10x5000: Vec<Vec<usize>>,
    validation_seed2_10x5000: Vec<Vec<usize>>,
    random_forget_seed1_45000_4500: Vec<usize>,
}

/// 50,000 one-pixel samples whose classes take turns: position `p` of class `c` is sample
/// `10 · p + c`.
fn dataset(per_class: usize) -> Dataset {
    let count = per_class * 10;
    let shape = ImageShape { channels: 1, height: 1, width: 1 };
    let labels = (0..count).map(|i| (i % 10) as u16).collect();
    let names = (0..10).map(|c| c.to_string()).collect();
    Dataset::new("turns", shape, vec![0; count], labels, names, Normalization::half(1)).unwrap()
}

#[test]
fn validation_samples_are_numpys() {
    let Some(goldens) = Goldens::open() else { return };
    let splits: Splits = goldens.json("splits.json");
    let data = dataset(5_000);
    for (seed, classes) in [(1, &splits.validation_seed1_10x5000), (2, &splits.validation_seed2_10x5000)] {
        assert_eq!(classes.len(), 10);
        let mut expected: Vec<usize> = classes
            .iter()
            .enumerate()
            .flat_map(|(class, positions)| positions.iter().map(move |p| 10 * p + class))
            .collect();
        expected.sort_unstable();
        let split = Split::new(&data, SplitRule::Reference { fraction: 0.1, seed }).unwrap();
        assert_eq!(split.validation(), expected, "seed {seed}");
        assert_eq!(split.train().len(), 45_000);
    }
}

#[test]
fn random_forget_sets_are_numpys() {
    let Some(goldens) = Goldens::open() else { return };
    let splits: Splits = goldens.json("splits.json");
    let data = dataset(5_000);
    let split = Split::new(&data, SplitRule::Reference { fraction: 0.1, seed: 2 }).unwrap();
    let count = splits.random_forget_seed1_45000_4500.len();
    // The published code's `--seed 2` draws with `RandomState(1)` over the training samples.
    let spec = ForgetSpec::Reference { count, seed: 2 };
    let partition = Partition::new(&data, &split, &spec, Seed(0)).unwrap();
    let mut expected: Vec<usize> =
        splits.random_forget_seed1_45000_4500.iter().map(|&position| split.train()[position]).collect();
    expected.sort_unstable();
    assert_eq!(partition.forget(), expected);
    assert_eq!(partition.retain().len(), 45_000 - count);
}
