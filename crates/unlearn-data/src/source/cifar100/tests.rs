use std::fs;
use std::path::Path;

use super::super::records::PIXELS;
use super::*;

const TINY: Layout = Layout { label_classes: &[20, 100], records: 2 };

fn records(labels: [(u8, u8); 2]) -> Vec<u8> {
    labels
        .into_iter()
        .flat_map(|(coarse, fine)| [coarse, fine].into_iter().chain((0..PIXELS).map(move |i| i as u8 ^ fine)))
        .collect()
}

fn write(dir: &Path, train: [(u8, u8); 2]) {
    fs::write(dir.join("train.bin"), records(train)).unwrap();
    fs::write(dir.join("test.bin"), records([(1, 5), (2, 6)])).unwrap();
}

#[test]
fn fine_labels_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), [(19, 99), (0, 0)]);
    let data = open_with(dir.path(), TINY, TINY).unwrap();
    assert_eq!(data.train.labels().collect::<Vec<_>>(), [99, 0]);
    assert_eq!(data.train.image(0).unwrap()[..2], [99, 98]);
    assert_eq!(data.test.labels().collect::<Vec<_>>(), [5, 6]);
    assert_eq!(data.train.num_classes(), 100);
}

#[test]
fn both_label_bytes_are_checked() {
    for (labels, place) in [
        ([(20, 3), (0, 0)], "record 0 (byte 0) has label 20; this set has 20 classes"),
        ([(0, 0), (3, 100)], "record 1 (byte 3075) has label 100; this set has 100 classes"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), labels);
        let error = open_with(dir.path(), TINY, TINY).map(|_| ()).unwrap_err();
        assert_eq!(error.code(), "E_LABEL_RANGE");
        assert!(error.to_string().contains(place), "{error}");
    }
}

#[test]
fn lengths_are_exact() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), [(0, 0), (0, 0)]);
    let whole = fs::read(dir.path().join("test.bin")).unwrap();
    for len in [0, 1, 3_073, 3_074, whole.len() - 1] {
        fs::write(dir.path().join("test.bin"), &whole[..len]).unwrap();
        let error = open_with(dir.path(), TINY, TINY).map(|_| ()).unwrap_err();
        assert_eq!(error.code(), "E_DATA_LEN");
        assert!(error.to_string().contains("test.bin") && error.to_string().contains("3074"), "{error}");
    }
}

#[test]
fn the_python_layout_is_read() {
    // The CIFAR-10 fixture has `labels`; CIFAR-100 asks for `fine_labels`.
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("cifar-100-python");
    fs::create_dir(&inner).unwrap();
    let fixture = include_bytes!("../pickle/fixtures/batch-protocol-3.pickle");
    for file in ["train", "test"] {
        fs::write(inner.join(file), fixture).unwrap();
    }
    let error = open_with(dir.path(), TINY, TINY).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), "E_DATA_FORMAT");
    assert!(error.to_string().contains("`fine_labels`"), "{error}");
    // `labels` as protocol 3 writes it, and the longer name in its place.
    let at = fixture.windows(11).position(|w| w == b"X\x06\0\0\0labels").unwrap();
    let renamed = [&fixture[..at], b"X\x0b\0\0\0fine_labels", &fixture[at + 11..]].concat();
    for file in ["train", "test"] {
        fs::write(inner.join(file), &renamed).unwrap();
    }
    let data = open_with(dir.path(), TINY, TINY).unwrap();
    assert_eq!(data.train.labels().collect::<Vec<_>>(), [7, 2]);
}

#[test]
fn the_names_are_the_alphabetical_ones() {
    assert!(CLASS_NAMES.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!((CLASS_NAMES[0], CLASS_NAMES[53], CLASS_NAMES[99]), ("apple", "orange", "worm"));
}
