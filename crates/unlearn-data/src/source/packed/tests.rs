use std::fs;

use tempfile::TempDir;

use super::*;
use crate::seed::Seed;
use crate::source::synthetic::Synthetic;

fn data() -> TrainTest {
    Synthetic { train: 20, test: 10, size: 8, seed: Seed(1) }.generate().unwrap()
}

fn packed() -> (TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("set.bin");
    write(&file, &data()).unwrap();
    (dir, file)
}

#[track_caller]
fn refused(file: &Path, code: &str, words: &[&str]) {
    let error = read(file).map(|_| ()).unwrap_err();
    let message = error.to_string();
    assert_eq!(error.code(), code, "{message}");
    for word in words.iter().chain(&["set.bin"]) {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

#[test]
fn what_was_packed_is_read() {
    let (dir, file) = packed();
    let (before, after) = (data(), read(&file).unwrap());
    assert_eq!(after.train.fingerprint(), before.train.fingerprint());
    assert_eq!(after.test.fingerprint(), before.test.fingerprint());
    assert_eq!(after.train.name(), "synthetic/train");
    assert_eq!(after.train.class_names(), before.train.class_names());
    assert_eq!(after.test.normalization(), before.test.normalization());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no scratch file is left");
    // Packing what was unpacked gives the same bytes.
    let again = dir.path().join("again.bin");
    write(&again, &after).unwrap();
    assert_eq!(fs::read(&file).unwrap(), fs::read(again).unwrap());
}

#[test]
fn the_first_of_each_class_are_those_of_the_whole() {
    use crate::source::{PerClass, SourceKind, open_first};
    let (_dir, file) = packed();
    let wanted = PerClass { train: Some(1), test: None };
    let first = open_first(SourceKind::Packed, Some(&file), wanted).unwrap();
    assert_eq!(first.train.fingerprint(), data().train.take_per_class(1).unwrap().fingerprint());
    assert_eq!(first.test.fingerprint(), data().test.fingerprint());
    let more = PerClass { train: Some(3), test: None };
    assert_eq!(open_first(SourceKind::Packed, Some(&file), more).unwrap_err().code(), "E_CONFIG");
}

#[test]
fn names_that_would_write_on_a_terminal_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("set.bin");
    let TrainTest { train, test } = data();
    let all: Vec<usize> = (0..train.len()).collect();
    let train = train.subset("a\u{1b}[2J/train", &all).unwrap();
    let error = write(&file, &TrainTest { train, test }).unwrap_err();
    assert!(error.to_string().contains("u{1b}[2J") && !error.to_string().contains('\u{1b}'), "{error}");
    assert!(!file.exists());
}

#[test]
fn nothing_is_overwritten() {
    let (_dir, file) = packed();
    let before = fs::read(&file).unwrap();
    let error = write(&file, &data()).unwrap_err();
    assert_eq!(error.code(), "E_EXISTS");
    assert_eq!(fs::read(&file).unwrap(), before);
    let error = write(Path::new("no/such/folder/set.bin"), &data()).unwrap_err();
    assert_eq!(error.code(), "E_IO");
    assert!(error.to_string().contains("no/such/folder/set.bin"), "{error}");
}

#[test]
fn halves_must_belong_together() {
    let other = Synthetic { train: 20, test: 10, size: 9, seed: Seed(1) }.generate().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mixed = TrainTest { train: data().train, test: other.test };
    let named = |set: &Dataset| {
        let names = (0..set.num_classes()).map(|_| "x".repeat(256)).collect();
        let (shape, constants) = (set.shape(), set.normalization().clone());
        let images = (0..set.len()).flat_map(|i| set.image(i).unwrap().to_vec()).collect();
        let labels = set.labels().map(|label| label as u16).collect();
        Dataset::new("long", shape, images, labels, names, constants).unwrap()
    };
    let long = TrainTest { train: named(&data().train), test: named(&data().test) };
    for refused in [mixed, long] {
        let error = write(&dir.path().join("set.bin"), &refused).unwrap_err();
        assert_eq!(error.code(), "E_CONFIG");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn every_cut_is_found() {
    let (_dir, file) = packed();
    let whole = fs::read(&file).unwrap();
    for len in 0..whole.len() {
        if len > 700 && len % 13 != 0 && len + 40 < whole.len() {
            continue;
        }
        fs::write(&file, &whole[..len]).unwrap();
        let error = read(&file).map(|_| ()).unwrap_err();
        assert!(matches!(error.code(), "E_DATA_FORMAT" | "E_DATA_LEN"), "{len}: {error}");
    }
    fs::write(&file, [&whole[..], b"x"].concat()).unwrap();
    refused(&file, "E_DATA_LEN", &["as its header says"]);
}

#[test]
fn every_changed_byte_is_found() {
    let (_dir, file) = packed();
    let whole = fs::read(&file).unwrap();
    for at in (0..whole.len()).filter(|at| *at < 600 || at % 17 == 0 || at + 40 > whole.len()) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x04;
        fs::write(&file, damaged).unwrap();
        let error = read(&file).map(|_| ()).unwrap_err();
        assert!(matches!(error.code(), "E_DATA_FORMAT" | "E_DATA_LEN" | "E_CHECKSUM"), "byte {at}: {error}");
    }
}

#[test]
fn lies_in_the_header_are_refused_before_memory_is_asked_for() {
    let (_dir, file) = packed();
    let whole = fs::read(&file).unwrap();
    let header_len = u32::from_le_bytes(whole[12..16].try_into().unwrap()) as usize;
    let header = String::from_utf8(whole[16..16 + header_len].to_vec()).unwrap();
    let with = |from: &str, to: &str| {
        let changed = header.replacen(from, to, 1);
        assert_ne!(changed, header, "{from}");
        let mut bytes = whole[..12].to_vec();
        bytes.extend((changed.len() as u32).to_le_bytes());
        bytes.extend(changed.as_bytes());
        bytes.extend(&whole[16 + header_len..]);
        fs::write(&file, bytes).unwrap();
    };
    for count in ["4294967295", "9223372036854775807", "18446744073709551615"] {
        with("\"train\":20", &format!("\"train\":{count}"));
        refused(&file, "E_DATA_LEN", &[]);
    }
    with("\"width\":8", "\"width\":18446744073709551615");
    refused(&file, "E_DATA_LEN", &["header asks for more"]);
    with("\"train\":20", "\"train\":-1");
    refused(&file, "E_DATA_FORMAT", &["header that is wrong"]);
    let many = vec!["\"\""; 70_000].join(",");
    with("\"class_names\":[", &format!("\"class_names\":[{many},"));
    refused(&file, "E_DATA_FORMAT", &["classes"]);
    let long = "x".repeat(300);
    with("\"class_names\":[\"", &format!("\"class_names\":[\"{long}"));
    refused(&file, "E_DATA_FORMAT", &["a name of 30"]);
    with("\"train\":20", "\"trian\":20");
    refused(&file, "E_DATA_FORMAT", &["trian"]);

    for (at, bytes, word) in [
        (0, b"NUMPY___".to_vec(), "NUMPY___"),
        (8, 2_u32.to_le_bytes().to_vec(), "version 2; expected version 1"),
        (12, u32::MAX.to_le_bytes().to_vec(), "header of 4294967295 bytes"),
        (12, (1_u32 << 20).to_le_bytes().to_vec(), "header of 1048576 bytes"),
        (12, 5_u32.to_le_bytes().to_vec(), "header that is wrong"),
    ] {
        let mut lie = whole.clone();
        lie[at..at + bytes.len()].copy_from_slice(&bytes);
        fs::write(&file, lie).unwrap();
        refused(&file, "E_DATA_FORMAT", &[word]);
    }
}

/// Someone may sign a wrong label; it is still no label of this set.
#[test]
fn labels_are_checked_under_a_valid_hash() {
    let (_dir, file) = packed();
    let mut bytes = fs::read(&file).unwrap();
    let header_len = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    bytes[16 + header_len + 6] = 37;
    let body = bytes.len() - 32;
    let digest = Sha256::digest(&bytes[..body]);
    bytes[body..].copy_from_slice(&digest);
    fs::write(&file, bytes).unwrap();
    let error = read(&file).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), "E_LABEL_RANGE");
    assert!(error.to_string().contains("record 3 has label 37"), "{error}");
}
