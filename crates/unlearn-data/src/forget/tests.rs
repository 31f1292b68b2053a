use proptest::prelude::*;

use super::*;
use crate::split::SplitRule;
use crate::split::tests::labelled;

fn data() -> (Dataset, Split) {
    let labels: Vec<u16> = (0..200).map(|i| i % 10).collect();
    let data = labelled(&labels, 10);
    let split = Split::new(&data, SplitRule::Stratified { fraction: 0.1, seed: Seed(1) }).unwrap();
    (data, split)
}

fn partition(spec: &str) -> Result<Partition, DataError> {
    let (data, split) = data();
    Partition::new(&data, &split, &spec.parse()?, Seed(2))
}

#[track_caller]
fn refused(spec: &ForgetSpec, code: &str, words: &[&str]) {
    let (data, split) = data();
    let error = Partition::new(&data, &split, spec, Seed(2)).unwrap_err();
    let message = error.to_string();
    assert_eq!(error.code(), code, "{message}");
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

#[test]
fn a_class_is_forgotten_whole() {
    let (data, split) = data();
    let partition = partition("class:3").unwrap();
    assert_eq!(partition.class(), Some(3));
    assert_eq!(partition.forget().len(), 18, "20 less the two that validate");
    assert!(partition.forget().iter().all(|i| data.label(*i) == Some(3)));
    assert!(partition.retain().iter().all(|i| data.label(*i) != Some(3)));
    assert!(partition.forget().iter().all(|i| split.train().contains(i)));
}

#[test]
fn shares_and_counts_are_exact() {
    for (spec, count) in [
        ("random:10%", 18),
        ("random:50%", 90),
        ("random:0.5%", 1),
        ("random:1", 1),
        ("random:179", 179),
        ("random:2.5%", 4),
        ("reference:18@2", 18),
    ] {
        assert_eq!(partition(spec).unwrap().forget().len(), count, "{spec}");
        assert_eq!(partition(spec).unwrap().class(), None);
    }
}

#[test]
fn the_forget_seed_alone_decides_the_draw() {
    let (data, split) = data();
    let draw = |seed| Partition::new(&data, &split, &"random:20".parse().unwrap(), Seed(seed)).unwrap();
    assert_eq!(draw(0), draw(0));
    assert_ne!(draw(0).forget(), draw(1).forget());
    assert_ne!(draw(0).id(), draw(1).id());
}

#[test]
fn nothing_and_everything_are_refused() {
    refused(&"random:0".parse().unwrap(), "E_FORGET_EMPTY", &["random:0", "at least one"]);
    refused(&"random:0%".parse().unwrap(), "E_FORGET_EMPTY", &["random:0%"]);
    refused(&"random:0.2%".parse().unwrap(), "E_FORGET_EMPTY", &["random:0.2%"]);
    refused(&ForgetSpec::Indices(vec![]), "E_FORGET_EMPTY", &["0 samples"]);
    refused(&"random:100%".parse().unwrap(), "E_RETAIN_EMPTY", &["all 180"]);
    refused(&"random:180".parse().unwrap(), "E_RETAIN_EMPTY", &["train from scratch"]);
    let (_, split) = data();
    refused(&ForgetSpec::Indices(split.train().to_vec()), "E_RETAIN_EMPTY", &["180"]);
    let one = labelled(&[0; 10], 1);
    let split = Split::new(&one, SplitRule::None).unwrap();
    let error = Partition::new(&one, &split, &ForgetSpec::Class(0), Seed(0)).unwrap_err();
    assert_eq!(error.code(), "E_RETAIN_EMPTY");
    // A class of the set that has no samples.
    let two = labelled(&[0; 10], 2);
    let split = Split::new(&two, SplitRule::None).unwrap();
    let error = Partition::new(&two, &split, &ForgetSpec::Class(1), Seed(0)).unwrap_err();
    assert_eq!(error.code(), "E_FORGET_EMPTY");
    assert!(error.to_string().contains("class:1"), "{error}");
}

#[test]
fn numbers_out_of_range_are_named() {
    refused(&ForgetSpec::Class(10), "E_CONFIG", &["forget class", "got 10", "0–9"]);
    refused(&"random:181".parse().unwrap(), "E_CONFIG", &["181", "at most 180"]);
    refused(&"random:100.5%".parse().unwrap(), "E_CONFIG", &["100.5%"]);
    refused(&"random:-1%".parse().unwrap(), "E_CONFIG", &["-1%"]);
    refused(&"random:NaN%".parse().unwrap(), "E_CONFIG", &["NaN%"]);
    refused(&"reference:5@0".parse().unwrap(), "E_CONFIG", &["seed", "at least 1"]);
    refused(&"reference:900@2".parse().unwrap(), "E_CONFIG", &["900"]);
}

#[test]
fn index_faults_each_have_their_error() {
    refused(&ForgetSpec::Indices(vec![1, 200]), "E_INDEX_RANGE", &["200", "entry 1", "0–199"]);
    refused(&ForgetSpec::Indices(vec![usize::MAX]), "E_INDEX_RANGE", &["entry 0"]);
    let (_, split) = data();
    let (a, b) = (split.train()[0], split.train()[1]);
    refused(&ForgetSpec::Indices(vec![a, b, a, b, a]), "E_INDEX_DUP", &["3 duplicates", "remove"]);
    let held_out = split.validation()[0];
    refused(&ForgetSpec::Indices(vec![a, held_out]), "E_SPLIT", &[&held_out.to_string(), "validation"]);
}

#[test]
fn splits_of_other_data_are_refused() {
    let (data, _) = data();
    let mut labels: Vec<u16> = (0..200).map(|i| i % 10).collect();
    labels.swap(0, 1);
    let other = labelled(&labels, 10);
    let split = Split::new(&other, SplitRule::None).unwrap();
    let error = Partition::new(&data, &split, &ForgetSpec::Class(1), Seed(0)).unwrap_err();
    assert_eq!(error.code(), "E_DATASET_MISMATCH");
    assert!(error.to_string().contains(data.fingerprint()), "{error}");
}

#[test]
fn specs_are_read_and_shown_alike() {
    for text in ["class:0", "random:10%", "random:4500", "random:0.5%", "reference:4500@2"] {
        assert_eq!(text.parse::<ForgetSpec>().unwrap().to_string(), text);
    }
    for text in [
        "",
        "class",
        "class:",
        "class:x",
        "class:-1",
        "random:",
        "random:x%",
        "random:%",
        "random:1.5",
        "reference:5",
        "reference:x@1",
        "klass:1",
        "random:99999999999999999999999",
    ] {
        let error = text.parse::<ForgetSpec>().unwrap_err();
        assert_eq!(error.code(), "E_CONFIG", "{text}");
        assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        assert!(error.to_string().contains("random:10%"), "{error}");
    }
    let error = "indices:no/such/file".parse::<ForgetSpec>().unwrap_err();
    assert_eq!(error.code(), "E_IO");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "3\n1\n").unwrap();
    let spec = format!("indices:{}", file.path().display());
    assert_eq!(spec.parse::<ForgetSpec>().unwrap(), ForgetSpec::Indices(vec![3, 1]));
}

proptest! {
    #[test]
    fn forget_and_retain_are_the_training_samples(
        labels in proptest::collection::vec(0..5_u16, 2..150),
        kind in 0..4_u8,
        number in 0..150_usize,
        seed in any::<u64>(),
    ) {
        let data = labelled(&labels, 5);
        let split = Split::new(&data, SplitRule::Reference { fraction: 0.2, seed: 3 }).unwrap();
        let spec = match kind {
            0 => ForgetSpec::Class(number % 6),
            1 => ForgetSpec::Random(Amount::Count(number)),
            2 => ForgetSpec::Random(Amount::Percent(number as f64)),
            _ => ForgetSpec::Reference { count: number, seed: (seed % 100) as u32 },
        };
        if let Ok(partition) = Partition::new(&data, &split, &spec, Seed(seed)) {
            prop_assert!(!partition.forget().is_empty() && !partition.retain().is_empty());
            prop_assert!(partition.forget().is_sorted() && partition.retain().is_sorted());
            let mut all: Vec<_> = partition.forget().iter().chain(partition.retain()).copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, split.train());
        }
    }

    #[test]
    fn any_index_list_is_a_partition_or_its_own_error(
        indices in proptest::collection::vec(0..230_usize, 0..40),
    ) {
        let (data, split) = data();
        let outcome = Partition::new(&data, &split, &ForgetSpec::Indices(indices.clone()), Seed(0));
        let mut sorted = indices.clone();
        sorted.sort_unstable();
        let expected = if indices.iter().any(|i| *i >= 200) {
            Some("E_INDEX_RANGE")
        } else if sorted.windows(2).any(|w| w[0] == w[1]) {
            Some("E_INDEX_DUP")
        } else if indices.iter().any(|i| split.validation().contains(i)) {
            Some("E_SPLIT")
        } else if indices.is_empty() {
            Some("E_FORGET_EMPTY")
        } else {
            None
        };
        match outcome {
            Ok(partition) => {
                prop_assert_eq!(expected, None);
                prop_assert_eq!(partition.forget(), sorted);
            }
            Err(error) => prop_assert_eq!(Some(error.code()), expected),
        }
    }
}
