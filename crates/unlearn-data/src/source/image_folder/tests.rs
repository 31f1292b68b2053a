use std::fs;
use std::path::{Path, PathBuf};

use image::{ExtendedColorType, ImageEncoder as _, ImageFormat};
use tempfile::TempDir;

use super::*;
use crate::source::{self, SourceKind};

/// A picture of `side` × `side` pixels, `channels` bytes each.
fn encode(format: ImageFormat, side: u32, color: ExtendedColorType, pixels: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let written = match format {
        ImageFormat::Png => {
            image::codecs::png::PngEncoder::new(&mut out).write_image(pixels, side, side, color)
        }
        _ => image::codecs::jpeg::JpegEncoder::new(&mut out).write_image(pixels, side, side, color),
    };
    written.unwrap();
    out
}

fn png(side: u32, value: u8) -> Vec<u8> {
    let pixels: Vec<u8> = (0..side * side * 3).map(|i| value.wrapping_add(i as u8)).collect();
    encode(ImageFormat::Png, side, ExtendedColorType::Rgb8, &pixels)
}

fn jpeg(side: u32, value: u8) -> Vec<u8> {
    encode(ImageFormat::Jpeg, side, ExtendedColorType::Rgb8, &vec![value; (side * side * 3) as usize])
}

/// Two classes with two training pictures and one test picture each.
fn tree() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (file, value) in [
        ("train/dog/b.png", 1),
        ("train/dog/a.png", 2),
        ("train/cat/10.png", 3),
        ("train/cat/9.png", 4),
        ("test/cat/x.png", 5),
        ("test/dog/y.png", 6),
    ] {
        put(dir.path(), file, &png(8, value));
    }
    dir
}

fn put(dir: &Path, file: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

/// Opens the tree, which must fail with `code` and words from the message.
#[track_caller]
fn refused(dir: &TempDir, code: &str, words: &[&str]) {
    let error = open(dir.path()).map(|_| ()).unwrap_err();
    let message = error.to_string();
    assert_eq!(error.code(), code, "{message}");
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
    assert!(message.len() <= 600, "{message}");
}

#[test]
fn order_is_by_class_then_file_name() {
    let dir = tree();
    let data = open(dir.path()).unwrap();
    assert_eq!(data.train.class_names(), ["cat", "dog"]);
    assert_eq!(data.train.labels().collect::<Vec<_>>(), [0, 0, 1, 1]);
    // "10.png" comes before "9.png": names are compared byte by byte.
    let firsts: Vec<u8> = (0..4).map(|i| data.train.image(i).unwrap()[0]).collect();
    assert_eq!(firsts, [3, 4, 2, 1]);
    // Red, green, blue lie in separate planes.
    let image = data.train.image(0).unwrap();
    assert_eq!((image[0], image[64], image[128], image[1]), (3, 4, 5, 6));
    assert_eq!(data.test.len(), 2);
}

#[test]
fn an_outline_has_all_but_the_pictures() {
    let dir = tree();
    let whole = open(dir.path()).unwrap();
    put(dir.path(), "train/dog/a.png", b"no picture");
    let outline = source::outline(&SourceKind::Auto, dir.path(), PerClass::ALL).unwrap().unwrap();
    for (outline, whole) in [(outline.train, whole.train), (outline.test, whole.test)] {
        assert_eq!((outline.name(), outline.class_names()), (whole.name(), whole.class_names()));
        assert_eq!(outline.labels().collect::<Vec<_>>(), whole.labels().collect::<Vec<_>>());
        assert_ne!(outline.fingerprint(), whole.fingerprint());
    }
    fs::remove_dir_all(dir.path().join("test/dog")).unwrap();
    let error = source::outline(&SourceKind::Folder, dir.path(), PerClass::ALL).unwrap_err();
    assert_eq!(error.code(), open(dir.path()).unwrap_err().code());
}

#[test]
fn the_first_of_each_class_are_those_of_the_whole_and_no_other_is_opened() {
    let dir = tree();
    let whole = open(dir.path()).unwrap();
    put(dir.path(), "train/dog/b.png", b"no picture");
    put(dir.path(), "test/dog/z.png", b"no picture");
    let wanted = PerClass { train: Some(1), test: Some(1) };
    let first = source::open_first(SourceKind::Auto, Some(dir.path()), wanted).unwrap();
    for (first, whole) in [(&first.train, &whole.train), (&first.test, &whole.test)] {
        let taken = whole.take_per_class(1).unwrap();
        assert_eq!(first.fingerprint(), taken.fingerprint());
        assert_eq!((first.name(), first.class_names()), (taken.name(), taken.class_names()));
    }
    let pixels = [first.train.image(0).unwrap(), first.train.image(1).unwrap()].concat();
    assert_eq!(*first.train.normalization(), measured(&pixels, first.train.shape()));
    assert_ne!(first.train.normalization(), whole.train.normalization());
    let outline = source::outline(&SourceKind::Auto, dir.path(), wanted).unwrap().unwrap();
    assert_eq!(outline.train.labels().collect::<Vec<_>>(), [0, 1]);
    for half in [PerClass { train: None, ..wanted }, PerClass { test: None, ..wanted }] {
        let error = source::open_first(SourceKind::Folder, Some(dir.path()), half).unwrap_err();
        assert_eq!(error.code(), "E_IMAGE_EXTENSION", "{error}");
    }
    for (count, says) in [(0, "at least one"), (3, "class 0 in folder/train: got 2"), (usize::MAX, "got 2")] {
        let wanted = PerClass { train: Some(count), test: None };
        let opened = source::open_first(SourceKind::Folder, Some(dir.path()), wanted).unwrap_err();
        let outlined = source::outline(&SourceKind::Folder, dir.path(), wanted).unwrap_err();
        for error in [opened, outlined] {
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}

#[test]
fn pixels_are_those_of_the_file() {
    let dir = tree();
    put(dir.path(), "train/dog/c.jpg", &jpeg(8, 200));
    put(dir.path(), "train/dog/d.JPEG", &jpeg(8, 90));
    let grey = encode(ImageFormat::Png, 8, ExtendedColorType::L8, &(0..64).collect::<Vec<u8>>());
    put(dir.path(), "train/dog/e.png", &grey);
    let train = open(dir.path()).unwrap().train;
    assert!(train.image(4).unwrap().iter().all(|v| v.abs_diff(200) <= 1));
    assert!(train.image(5).unwrap().iter().all(|v| v.abs_diff(90) <= 1));
    let three: Vec<u8> = (0..3).flat_map(|_| 0..64).collect();
    assert_eq!(train.image(6).unwrap(), three, "grey becomes three equal channels");
}

#[test]
fn normalization_is_measured_on_the_training_pictures() {
    let dir = tempfile::tempdir().unwrap();
    for (file, value) in
        [("train/a/1.png", 10), ("train/b/1.png", 30), ("test/a/1.png", 99), ("test/b/1.png", 7)]
    {
        put(dir.path(), file, &encode(ImageFormat::Png, 8, ExtendedColorType::Rgb8, &[value; 192]));
    }
    let data = open(dir.path()).unwrap();
    let normalization = data.test.normalization();
    for channel in 0..3 {
        assert!((normalization.mean[channel] - 20.0 / 255.0).abs() < 1e-7);
        assert!((normalization.std[channel] - 10.0 / 255.0).abs() < 1e-7);
    }
}

#[test]
fn empty_and_misplaced_things_are_named() {
    let dir = tree();
    fs::create_dir(dir.path().join("train/emu")).unwrap();
    refused(&dir, "E_FOLDER_EMPTY", &["train/emu", "without pictures"]);

    let dir = tree();
    put(dir.path(), "train/emu/a.png", &png(8, 0));
    refused(&dir, "E_FOLDER_LAYOUT", &["test", "\"emu\"", "same classes"]);

    let dir = tree();
    put(dir.path(), "test/emu/a.png", &png(8, 0));
    refused(&dir, "E_FOLDER_LAYOUT", &["train", "\"emu\""]);

    let dir = tree();
    put(dir.path(), "train/loose.png", &png(8, 0));
    refused(&dir, "E_FOLDER_FOREIGN", &["loose.png", "among the class folders"]);

    let dir = tree();
    put(dir.path(), "train/dog/more/a.png", &png(8, 0));
    refused(&dir, "E_FOLDER_FOREIGN", &["dog/more", "folder inside a class"]);

    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("train")).unwrap();
    fs::create_dir_all(dir.path().join("test")).unwrap();
    refused(&dir, "E_FOLDER_EMPTY", &["no class folders"]);

    let dir = tree();
    fs::remove_dir_all(dir.path().join("test")).unwrap();
    refused(&dir, "E_IO", &["test"]);
}

#[test]
fn files_that_are_no_pictures_are_never_skipped() {
    for name in ["Thumbs.db", ".DS_Store", "a.gif", "a.bmp", "a", "a.png.txt"] {
        let dir = tree();
        put(dir.path(), &format!("train/cat/{name}"), b"x");
        refused(&dir, "E_FOLDER_FOREIGN", &[name, "none is ever skipped"]);
    }
}

#[test]
fn names_that_differ_in_case_only_are_refused() {
    let dir = tree();
    put(dir.path(), "train/Cat/a.png", &png(8, 0));
    refused(&dir, "E_FOLDER_DUPLICATE", &["\"Cat\"", "upper and lower case"]);

    let dir = tree();
    put(dir.path(), "train/cat/9.PNG", &png(8, 0));
    refused(&dir, "E_FOLDER_DUPLICATE", &["9.png"]);
}

#[cfg(unix)]
#[test]
fn links_and_odd_names_are_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;

    let dir = tree();
    symlink(dir.path().join("train/cat/9.png"), dir.path().join("train/dog/z.png")).unwrap();
    refused(&dir, "E_FOLDER_LINK", &["dog/z.png", "symbolic link"]);

    let dir = tree();
    symlink(dir.path().join("train"), dir.path().join("train/loop")).unwrap();
    refused(&dir, "E_FOLDER_LINK", &["train/loop"]);

    let dir = tree();
    let odd = dir.path().join("train").join(OsStr::from_bytes(b"\xff\xfe"));
    fs::create_dir(&odd).unwrap();
    refused(&dir, "E_FOLDER_NAME", &["not UTF-8"]);

    let dir = tree();
    fs::write(dir.path().join("test/cat").join(OsStr::from_bytes(b"a\xff.png")), png(8, 0)).unwrap();
    refused(&dir, "E_FOLDER_NAME", &["test/cat", "Rename"]);

    // A name that would colour or clear the reader's terminal is shown escaped.
    let dir = tree();
    put(dir.path(), "train/cat/\u{1b}[31mred.gif", b"x");
    refused(&dir, "E_FOLDER_FOREIGN", &["\\u{1b}[31mred.gif"]);
}

#[test]
fn other_sizes_are_refused_and_the_first_in_order_is_named() {
    let dir = tree();
    put(dir.path(), "train/dog/b.png", &png(9, 0));
    put(dir.path(), "train/dog/a.png", &png(10, 0));
    put(dir.path(), "test/cat/x.png", &png(11, 0));
    for _ in 0..8 {
        refused(&dir, "E_IMAGE_SHAPE", &["dog/a.png", "10 × 10", "8 × 8", "cat/10.png"]);
    }
}

#[test]
fn content_must_be_what_the_extension_says() {
    for (name, bytes, word) in [
        ("z.jpg", png(8, 0), "content is PNG"),
        ("z.png", jpeg(8, 0), "content is JPEG"),
        ("z.png", b"GIF89a....".to_vec(), "neither PNG nor JPEG"),
        ("z.png", Vec::new(), "0 bytes"),
    ] {
        let dir = tree();
        put(dir.path(), &format!("train/dog/{name}"), &bytes);
        refused(&dir, "E_IMAGE_EXTENSION", &[name, word, "Rename"]);
    }
}

#[test]
fn colours_that_would_lose_something_are_refused() {
    for (color, bytes, word) in [
        (ExtendedColorType::Rgb16, 6, "Rgb16"),
        (ExtendedColorType::L16, 2, "L16"),
        (ExtendedColorType::Rgba8, 4, "Rgba8"),
        (ExtendedColorType::La8, 2, "La8"),
    ] {
        let dir = tree();
        put(dir.path(), "train/dog/z.png", &encode(ImageFormat::Png, 8, color, &vec![7; 64 * bytes]));
        refused(&dir, "E_IMAGE_COLOR", &["dog/z.png", word, "8-bit RGB"]);
    }
    // A JPEG's start-of-frame segment with four components instead of three.
    let mut cmyk = jpeg(8, 3);
    let frame = cmyk.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    let length = u16::from_be_bytes([cmyk[frame + 2], cmyk[frame + 3]]) + 3;
    cmyk[frame + 2..frame + 4].copy_from_slice(&length.to_be_bytes());
    cmyk[frame + 9] = 4;
    for (i, byte) in [4_u8, 0x11, 1].into_iter().enumerate() {
        cmyk.insert(frame + 19 + i, byte);
    }
    let dir = tree();
    put(dir.path(), "train/dog/z.jpg", &cmyk);
    refused(&dir, "E_IMAGE_COLOR", &["CMYK"]);
}

#[test]
fn cut_pictures_are_refused_wherever_they_are_cut() {
    for (name, whole) in [("z.png", png(8, 40)), ("z.jpg", jpeg(8, 40))] {
        let dir = tree();
        for len in 0..whole.len() {
            put(dir.path(), &format!("train/dog/{name}"), &whole[..len]);
            let error = open(dir.path()).map(|_| ()).unwrap_err();
            assert!(
                matches!(error.code(), "E_IMAGE_DECODE" | "E_IMAGE_EXTENSION"),
                "{name} cut at {len} of {}: {error}",
                whole.len()
            );
            assert!(error.to_string().contains(name), "{error}");
        }
        put(dir.path(), &format!("train/dog/{name}"), &whole);
        open(dir.path()).unwrap();
    }
}

#[test]
fn a_flipped_bit_in_a_png_is_found() {
    let whole = png(8, 40);
    let dir = tree();
    // Behind the signature: every chunk has a check sum.
    let mut missed = Vec::new();
    for at in 8..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        put(dir.path(), "train/dog/z.png", &damaged);
        match open(dir.path()) {
            Ok(_) => missed.push(at),
            Err(error) => assert!(error.code().starts_with("E_IMAGE_"), "byte {at}: {error}"),
        }
    }
    assert!(missed.is_empty(), "of {} bytes: {missed:?}", whole.len());
}

#[test]
fn a_claim_of_huge_size_is_refused_before_memory_is_asked_for() {
    let mut bomb = png(8, 0);
    bomb[16..20].copy_from_slice(&65_535_u32.to_be_bytes());
    bomb[20..24].copy_from_slice(&65_535_u32.to_be_bytes());
    let crc = crc32(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&crc.to_be_bytes());
    let dir = tree();
    put(dir.path(), "train/cat/0.png", &bomb);
    refused(&dir, "E_IMAGE_LIMIT", &["cat/0.png", "8192", "Scale"]);

    let mut wide = jpeg(8, 0);
    let frame = wide.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    wide[frame + 5..frame + 9].copy_from_slice(&[0x20, 0x01, 0x20, 0x01]);
    let dir = tree();
    put(dir.path(), "train/cat/0.jpg", &wide);
    refused(&dir, "E_IMAGE_LIMIT", &["cat/0.jpg"]);
}

/// CRC-32 as PNG has it, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

/// The real pictures, where `UNLEARN_CIFAR10` names their folder.
#[test]
fn real_pictures() {
    let Some(dir) = std::env::var_os("UNLEARN_CIFAR10") else {
        eprintln!("SKIPPED: set UNLEARN_CIFAR10 to a folder of CIFAR-10 pictures");
        return;
    };
    let start = std::time::Instant::now();
    let data = open(Path::new(&dir)).unwrap();
    eprintln!("{} + {} pictures in {:.2?}", data.train.len(), data.test.len(), start.elapsed());
    assert_eq!(data.train.class_counts(), vec![5_000; 10]);
    assert_eq!(data.test.class_counts(), vec![1_000; 10]);
    assert_eq!(data.train.class_names(), cifar10::CLASS_NAMES);
    assert_eq!(*data.train.normalization(), Normalization::cifar10());
    // Constants that everybody uses for CIFAR-10; JPEG moves them in the third digit at most.
    let images: Vec<u8> = (0..data.train.len()).flat_map(|i| data.train.image(i).unwrap()).copied().collect();
    let here = measured(&images, data.train.shape());
    for (a, b) in here.mean.iter().zip([0.4914, 0.4822, 0.4465]) {
        assert!((a - b).abs() < 5e-3, "{:?}", here.mean);
    }
}
