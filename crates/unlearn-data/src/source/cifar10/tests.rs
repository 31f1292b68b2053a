use std::fs;
use std::path::Path;

use super::super::records::PIXELS;
use super::*;

/// Three records a file instead of 10,000.
const TINY: Layout = Layout { label_classes: &[10], records: 3 };

fn batch(first_label: u8) -> Vec<u8> {
    (0..3_u8)
        .flat_map(|record| {
            std::iter::once((first_label + record) % 10)
                .chain((0..PIXELS).map(move |i| (i as u8).wrapping_mul(3).wrapping_add(record)))
        })
        .collect()
}

fn write_all(dir: &Path) {
    for (number, file) in FILES.into_iter().enumerate() {
        fs::write(dir.join(file), batch(number as u8)).unwrap();
    }
}

#[track_caller]
fn refused(dir: &Path, code: &str, words: &[&str]) {
    let error = open_with(dir, TINY).map(|_| ()).unwrap_err();
    let message = error.to_string();
    assert_eq!(error.code(), code, "{message}");
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

#[test]
fn files_are_read_in_order() {
    let dir = tempfile::tempdir().unwrap();
    write_all(dir.path());
    let data = open_with(dir.path(), TINY).unwrap();
    assert_eq!(data.train.labels().collect::<Vec<_>>(), [0, 1, 2, 1, 2, 3, 2, 3, 4, 3, 4, 5, 4, 5, 6]);
    assert_eq!(data.test.labels().collect::<Vec<_>>(), [5, 6, 7]);
    assert_eq!(data.train.image(4).unwrap(), &batch(0)[3_074..][..PIXELS]);
    assert_eq!(data.train.class_names()[9], "truck");
    assert_eq!(*data.train.normalization(), Normalization::cifar10());
}

#[test]
fn the_folder_of_the_archive_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("cifar-10-batches-bin");
    fs::create_dir(&inner).unwrap();
    write_all(&inner);
    assert_eq!(find(dir.path()).unwrap(), Some((inner, true)));
    assert_eq!(open_with(dir.path(), TINY).unwrap().train.len(), 15);
}

#[test]
fn both_layouts_give_one_fingerprint() {
    let (binary, python) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let fixture = include_bytes!("../pickle/fixtures/batch-protocol-4.pickle");
    let layout = Layout { label_classes: &[10], records: 2 };
    let records: Vec<u8> = [7_u8, 2]
        .into_iter()
        .enumerate()
        .flat_map(|(record, label)| {
            let pixels = (record * PIXELS..(record + 1) * PIXELS).map(|i| (i * 7 % 256) as u8);
            std::iter::once(label).chain(pixels)
        })
        .collect();
    let inner = python.path().join("cifar-10-batches-py");
    fs::create_dir(&inner).unwrap();
    for file in FILES {
        fs::write(binary.path().join(file), &records).unwrap();
        fs::write(inner.join(file.trim_end_matches(".bin")), fixture).unwrap();
    }
    let (a, b) = (open_with(binary.path(), layout).unwrap(), open_with(python.path(), layout).unwrap());
    assert_eq!(a.train.fingerprint(), b.train.fingerprint());
    assert_eq!(a.test.fingerprint(), b.test.fingerprint());
}

#[test]
fn two_layouts_in_one_folder_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    write_all(dir.path());
    for other in ["data_batch_1", "cifar-10-batches-py/data_batch_1", "cifar-10-batches-bin/data_batch_1.bin"]
    {
        let other = dir.path().join(other);
        fs::create_dir_all(other.parent().unwrap()).unwrap();
        fs::write(&other, b"another copy").unwrap();
        let name = other.file_name().unwrap().to_str().unwrap();
        refused(dir.path(), "E_FOLDER_LAYOUT", &["2 times", "data_batch_1.bin", name, "move the other"]);
        // `auto` finds the set and says the same.
        let error = crate::source::open("auto".parse().unwrap(), Some(dir.path())).unwrap_err();
        assert!(error.to_string().contains("2 times"), "{error}");
        fs::remove_file(other).unwrap();
    }
    open_with(dir.path(), TINY).unwrap();
}

#[test]
fn a_cut_file_is_refused_wherever_it_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    write_all(dir.path());
    let whole = batch(2);
    let file = dir.path().join("data_batch_3.bin");
    for len in (0..200).chain((200..whole.len()).step_by(61)).chain(whole.len() - 20..whole.len()) {
        fs::write(&file, &whole[..len]).unwrap();
        let records = format!("{} whole records and {} bytes", len / 3_073, len % 3_073);
        refused(
            dir.path(),
            "E_DATA_LEN",
            &["data_batch_3.bin", &format!("{len} bytes"), "9219", &records, "fetch"],
        );
    }
    for extra in [1, 2, 3_072, 3_073, 9_219] {
        fs::write(&file, [&whole[..], &vec![0; extra]].concat()).unwrap();
        refused(dir.path(), "E_DATA_LEN", &["data_batch_3.bin", &format!("{} bytes", whole.len() + extra)]);
    }
}

#[test]
fn a_label_without_a_class_is_named_with_its_place() {
    for (number, file) in FILES.into_iter().enumerate() {
        for record in 0..3 {
            for label in [10_u8, 37, 255] {
                let dir = tempfile::tempdir().unwrap();
                write_all(dir.path());
                let mut damaged = batch(number as u8);
                damaged[record * 3_073] = label;
                fs::write(dir.path().join(file), damaged).unwrap();
                let place = format!("record {record} (byte {}) has label {label}", record * 3_073);
                refused(dir.path(), "E_LABEL_RANGE", &[file, &place, "10 classes (0–9)"]);
            }
        }
    }
}

#[test]
fn missing_files_are_named() {
    for file in FILES {
        let dir = tempfile::tempdir().unwrap();
        write_all(dir.path());
        fs::remove_file(dir.path().join(file)).unwrap();
        refused(dir.path(), "E_IO", &[file]);
    }
    let dir = tempfile::tempdir().unwrap();
    write_all(dir.path());
    fs::remove_file(dir.path().join("test_batch.bin")).unwrap();
    fs::create_dir(dir.path().join("test_batch.bin")).unwrap();
    let error = open_with(dir.path(), TINY).map(|_| ()).unwrap_err();
    assert!(error.code() == "E_DATA_FORMAT" && error.to_string().contains("a folder"), "{error}");
}

/// The real lengths: a set that is whole in every record but has too few of them is refused.
#[test]
fn a_short_set_is_no_cifar10() {
    assert_eq!(LAYOUT.records * LAYOUT.record_len(), FILE_BYTES as usize);
    let dir = tempfile::tempdir().unwrap();
    write_all(dir.path());
    let error = open(dir.path()).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), "E_DATA_LEN");
    assert!(error.to_string().contains("30730000"), "{error}");
}

proptest::proptest! {
    #[test]
    fn labels_decide(labels in proptest::collection::vec(proptest::num::u8::ANY, 3)) {
        let dir = tempfile::tempdir().unwrap();
        write_all(dir.path());
        let mut bytes = batch(0);
        for (record, label) in labels.iter().enumerate() {
            bytes[record * 3_073] = *label;
        }
        fs::write(dir.path().join("test_batch.bin"), bytes).unwrap();
        match open_with(dir.path(), TINY) {
            Ok(data) => proptest::prop_assert_eq!(
                data.test.labels().collect::<Vec<_>>(),
                labels.iter().map(|&l| usize::from(l)).collect::<Vec<_>>()
            ),
            Err(DataError::LabelRange { record, got, offset, .. }) => {
                let first = labels.iter().position(|l| *l > 9);
                proptest::prop_assert_eq!(first, Some(record));
                proptest::prop_assert_eq!(got, i64::from(labels[record]));
                proptest::prop_assert_eq!(offset, Some(record as u64 * 3_073));
            }
            Err(other) => proptest::prop_assert!(false, "{}", other),
        }
    }
}
