use proptest::prelude::*;

use super::*;
use crate::dataset::{ImageShape, Normalization};

/// A data set whose labels are the only thing that matters.
pub(crate) fn labelled(labels: &[u16], classes: usize) -> Dataset {
    let shape = ImageShape { channels: 1, height: 1, width: 1 };
    let images = (0..labels.len()).map(|i| i as u8).collect();
    let names = (0..classes).map(|c| format!("class {c}")).collect();
    Dataset::new("labels", shape, images, labels.to_vec(), names, Normalization::half(1)).unwrap()
}

fn balanced(per_class: usize) -> Dataset {
    let labels: Vec<u16> = (0..per_class * 10).map(|i| (i % 10) as u16).collect();
    labelled(&labels, 10)
}

#[test]
fn a_tenth_of_each_class_validates() {
    let data = balanced(50);
    let split = Split::new(&data, SplitRule::Stratified { fraction: 0.1, seed: Seed(1) }).unwrap();
    let mut counts = [0; 10];
    for &index in split.validation() {
        counts[data.label(index).unwrap()] += 1;
    }
    assert_eq!(counts, [5; 10]);
    assert_eq!(split.train().len(), 450);
}

#[test]
fn ids_tell_splits_and_data_apart() {
    let data = balanced(50);
    let rule = |seed| SplitRule::Stratified { fraction: 0.1, seed: Seed(seed) };
    let a = Split::new(&data, rule(0)).unwrap();
    assert_eq!(a, Split::new(&data, rule(0)).unwrap());
    assert_ne!(a.id(), Split::new(&data, rule(1)).unwrap().id(), "zero is a seed like any other");
    assert_ne!(a.id(), Split::new(&data, SplitRule::None).unwrap().id());
    assert_ne!(a.id(), Split::new(&balanced(60), rule(0)).unwrap().id());
}

#[test]
fn fractions_out_of_range_are_named() {
    let data = balanced(50);
    for fraction in [-0.1, 1.0, 1.5, f64::NAN, f64::INFINITY] {
        for rule in
            [SplitRule::Stratified { fraction, seed: Seed(1) }, SplitRule::Reference { fraction, seed: 1 }]
        {
            let error = Split::new(&data, rule).unwrap_err();
            assert_eq!(error.code(), "E_CONFIG");
            let message = error.to_string();
            assert!(
                message.contains("validation fraction") && message.contains(&fraction.to_string()),
                "{message}"
            );
        }
    }
}

#[test]
fn a_class_without_validation_samples_is_named() {
    let data = balanced(9);
    let error = Split::new(&data, SplitRule::Stratified { fraction: 0.1, seed: Seed(1) }).unwrap_err();
    assert_eq!(error.code(), "E_CONFIG");
    assert!(error.to_string().contains("9 samples of class 0"), "{error}");
    assert!(
        Split::new(&data, SplitRule::Reference { fraction: 0.1, seed: 1 }).unwrap().validation().is_empty()
    );
    assert!(Split::new(&data, SplitRule::Stratified { fraction: 0.0, seed: Seed(1) }).is_ok());
    // A class that has no samples at all needs none that validate.
    assert!(
        Split::new(&labelled(&[1; 20], 3), SplitRule::Stratified { fraction: 0.1, seed: Seed(1) }).is_ok()
    );
}

#[test]
fn a_stored_split_is_verified() {
    let data = balanced(20);
    let split = Split::new(&data, SplitRule::Stratified { fraction: 0.1, seed: Seed(1) }).unwrap();
    let text = serde_json::to_string(&split).unwrap();
    let stored: Split = serde_json::from_str(&text).unwrap();
    stored.verify(&data).unwrap();
    assert_eq!(stored.verify(&balanced(21)).unwrap_err().code(), "E_DATASET_MISMATCH");
    let first = split.validation()[0];
    let other = (0..200).find(|i| !split.validation().contains(i)).unwrap();
    let changed =
        text.replacen(&format!("\"validation\":[{first},"), &format!("\"validation\":[{other},"), 1);
    assert_ne!(changed, text);
    let changed: Split = serde_json::from_str(&changed).unwrap();
    assert_eq!(changed.verify(&data).unwrap_err().code(), "E_CONFIG");
}

proptest! {
    #[test]
    fn a_split_is_a_partition(
        labels in proptest::collection::vec(0..4_u16, 1..120),
        fraction in 0.0..0.99_f64,
        seed in any::<u32>(),
        reference in any::<bool>(),
    ) {
        let data = labelled(&labels, 4);
        let rule = if reference {
            SplitRule::Reference { fraction, seed }
        } else {
            SplitRule::Stratified { fraction, seed: Seed(seed.into()) }
        };
        if let Ok(split) = Split::new(&data, rule) {
            let mut all: Vec<_> = split.train().iter().chain(split.validation()).copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..labels.len()).collect::<Vec<_>>());
            prop_assert!(split.train().is_sorted() && split.validation().is_sorted());
            for (class, count) in data.class_counts().into_iter().enumerate() {
                let drawn = split.validation().iter().filter(|i| data.label(**i) == Some(class)).count();
                prop_assert_eq!(drawn, (fraction * count as f64) as usize);
            }
        } else {
            let counts = data.class_counts();
            prop_assert!(!reference && counts.iter().any(|n| *n > 0 && (fraction * *n as f64) < 1.0));
        }
    }
}
