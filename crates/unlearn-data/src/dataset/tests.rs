use super::*;

const SHAPE: ImageShape = ImageShape { channels: 1, height: 2, width: 2 };

fn build(images: Vec<u8>, labels: Vec<u16>) -> Result<Dataset, DataError> {
    let names = vec!["a".into(), "b".into(), "c".into()];
    Dataset::new("set", SHAPE, images, labels, names, Normalization::half(1))
}

fn data() -> Dataset {
    build((0..16).collect(), vec![0, 2, 1, 2]).unwrap()
}

#[test]
fn samples_are_found_by_their_place() {
    let data = data();
    assert_eq!((data.len(), data.num_classes(), data.is_empty()), (4, 3, false));
    assert_eq!(data.image(2), Some(&[8, 9, 10, 11][..]));
    assert_eq!((data.image(4), data.label(4)), (None, None));
    assert_eq!(data.image(usize::MAX), None);
    assert_eq!(data.class_counts(), [1, 1, 2]);
    let sample = burn::data::dataset::Dataset::get(&data, 3).unwrap();
    assert_eq!(sample, Sample { image: vec![12, 13, 14, 15], label: 2, index: 3 });
}

#[test]
fn subsets_keep_pictures_with_their_labels() {
    let data = data();
    let subset = data.subset("part", &[3, 0]).unwrap();
    assert_eq!((subset.image(0), subset.label(0)), (data.image(3), Some(2)));
    assert_eq!((subset.image(1), subset.label(1)), (data.image(0), Some(0)));
    assert_eq!(data.subset("part", &[0, 4]).unwrap_err().code(), "E_INDEX_RANGE");
    let first = data.take_per_class(1).unwrap();
    assert_eq!(first.labels().collect::<Vec<_>>(), [0, 2, 1]);
    let error = data.take_per_class(2).unwrap_err();
    assert_eq!(error.code(), "E_CONFIG");
    assert!(error.to_string().contains("class 0"), "{error}");
}

#[test]
fn every_change_shows_in_the_fingerprint() {
    let data = data();
    let mut seen = std::collections::BTreeSet::from([data.fingerprint().to_owned()]);
    for at in 0..16 {
        let mut images: Vec<u8> = (0..16).collect();
        images[at] ^= 1;
        assert!(seen.insert(build(images, vec![0, 2, 1, 2]).unwrap().fingerprint().to_owned()), "pixel {at}");
    }
    for labels in [vec![0, 2, 1, 1], vec![2, 0, 1, 2]] {
        assert!(seen.insert(build((0..16).collect(), labels).unwrap().fingerprint().to_owned()));
    }
    for indices in [&[0, 1, 2][..], &[1, 0, 2, 3], &[0, 1, 2, 3, 3], &[]] {
        assert!(seen.insert(data.subset("set", indices).unwrap().fingerprint().to_owned()), "{indices:?}");
    }
    let same = data.subset("another name", &[0, 1, 2, 3]).unwrap();
    assert_eq!(same.fingerprint(), data.fingerprint(), "a name is no content");
}

#[test]
fn what_does_not_fit_is_named() {
    let error = build(vec![0; 15], vec![0; 4]).unwrap_err();
    assert_eq!(error.code(), "E_CONFIG");
    assert!(error.to_string().contains("15 bytes for 4 labels"), "{error}");
    let error = build(vec![0; 8], vec![1, 3]).unwrap_err();
    assert_eq!(error.code(), "E_LABEL_RANGE");
    assert!(error.to_string().contains("record 1 has label 3"), "{error}");
    let names = vec!["a".into()];
    for normalization in [
        Normalization::half(2),
        Normalization { mean: vec![0.5], std: vec![0.0] },
        Normalization { mean: vec![f32::NAN], std: vec![1.0] },
        Normalization { mean: vec![0.5], std: vec![-1.0] },
        Normalization { mean: vec![0.5], std: vec![f32::INFINITY] },
    ] {
        let error =
            Dataset::new("set", SHAPE, vec![0; 4], vec![0], names.clone(), normalization).unwrap_err();
        assert_eq!(error.code(), "E_CONFIG");
        assert!(error.to_string().contains("normalization of data set set"), "{error}");
    }
    let none = ImageShape { channels: 1, height: 0, width: 2 };
    assert!(Dataset::new("set", none, vec![], vec![0], names.clone(), Normalization::half(1)).is_err());
    let huge = ImageShape { channels: usize::MAX, height: 2, width: 2 };
    assert!(Dataset::new("set", huge, vec![], vec![], names, Normalization::half(1)).is_err());
}
