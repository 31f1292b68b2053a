//! `unlearn data` as a user runs it.

// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use unlearn::data::source::packed;
use unlearn::data::source::synthetic::Synthetic;
use unlearn::data::{Seed, TrainTest};

struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn unlearn(dir: &Path, arguments: &[&str]) -> Run {
    let started = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_unlearn"));
    let output = command.current_dir(dir).arg("data").args(arguments).output().unwrap();
    assert!(started.elapsed() < Duration::from_mins(1), "{:?}", started.elapsed());
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Fails with `code` and exit code, with these words on stderr and nothing on stdout.
#[track_caller]
fn refused(dir: &Path, arguments: &[&str], exit: i32, code: &str, words: &[&str]) {
    let run = unlearn(dir, arguments);
    assert_eq!(run.code, Some(exit), "{}", run.stderr);
    assert!(run.stderr.contains(&format!("error[{code}]")), "{}", run.stderr);
    for word in words.iter().chain(&["got", "expected", "mend:"]) {
        assert!(run.stderr.contains(word), "{word:?} is not in: {}", run.stderr);
    }
    assert_eq!(run.stdout, "");
}

fn set() -> TrainTest {
    Synthetic { train: 40, test: 20, seed: Seed(1), size: 8 }.generate().unwrap()
}

/// A folder with `set.bin` in it.
fn packed_set() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("set.bin");
    packed::write(&file, &set()).unwrap();
    (dir, file)
}

#[test]
fn info_tells_what_is_there() {
    let (dir, _) = packed_set();
    let run = unlearn(dir.path(), &["info", "set.bin"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    for word in ["10 classes", "8 × 8", "synthetic/train: 40", set().test.fingerprint(), "red-0"] {
        assert!(run.stdout.contains(word), "{word:?} is not in: {}", run.stdout);
    }
    let run = unlearn(dir.path(), &["info", "set.bin", "--json"]);
    let facts: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(facts["train"]["fingerprint"], set().train.fingerprint());
    assert_eq!(facts["test"]["class_counts"][9], 2);
}

#[test]
fn pack_copies_a_set_whole() {
    let (dir, file) = packed_set();
    // A packed file is a data set like any other, so it can be packed again.
    let run = unlearn(dir.path(), &["pack", "set.bin", "again.bin"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(
        run.stdout.contains("again.bin") && run.stdout.contains(set().train.fingerprint()),
        "{}",
        run.stdout
    );
    assert_eq!(fs::read(dir.path().join("again.bin")).unwrap(), fs::read(&file).unwrap());
    refused(dir.path(), &["pack", "set.bin", "again.bin"], 5, "E_EXISTS", &["again.bin"]);
    refused(dir.path(), &["pack", "set.bin", "no/where.bin"], 5, "E_IO", &["no/where.bin"]);
    refused(dir.path(), &["pack", "none.bin", "new.bin"], 5, "E_IO", &["none.bin"]);
    assert!(!dir.path().join("new.bin").exists());
}

#[test]
fn bad_data_end_with_exit_code_3() {
    let (dir, file) = packed_set();
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    refused(dir.path(), &["info", "set.bin"], 3, "E_DATA_LEN", &["set.bin"]);
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&file, damaged).unwrap();
    refused(dir.path(), &["info", "set.bin"], 3, "E_CHECKSUM", &["set.bin"]);
    fs::write(&file, b"no data set at all").unwrap();
    refused(dir.path(), &["info", "set.bin"], 3, "E_DATA_FORMAT", &["UNLEARND"]);
    refused(dir.path(), &["pack", "set.bin", "new.bin"], 3, "E_DATA_FORMAT", &["set.bin"]);

    fs::create_dir_all(dir.path().join("empty")).unwrap();
    refused(dir.path(), &["info", "empty"], 3, "E_FOLDER_LAYOUT", &["empty", "data_batch_1.bin"]);
    let pictures = dir.path().join("pictures");
    fs::create_dir_all(pictures.join("train/cat")).unwrap();
    fs::create_dir_all(pictures.join("test/cat")).unwrap();
    refused(dir.path(), &["info", "pictures"], 3, "E_FOLDER_EMPTY", &["train/cat"]);
    fs::write(pictures.join("train/cat/a.gif"), b"GIF89a").unwrap();
    refused(dir.path(), &["info", "pictures"], 3, "E_FOLDER_FOREIGN", &["a.gif"]);
    fs::remove_file(pictures.join("train/cat/a.gif")).unwrap();
    for half in ["train", "test"] {
        fs::write(pictures.join(half).join("cat/a.png"), b"\x89PNG\r\n\x1a\n").unwrap();
    }
    refused(dir.path(), &["info", "pictures"], 3, "E_IMAGE_DECODE", &["a.png"]);
}

/// The real lengths: files of 30,730,000 bytes, here mostly holes.
#[test]
fn cifar10_files_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("cifar-10-batches-bin");
    fs::create_dir(&folder).unwrap();
    let mut file = fs::File::create(folder.join("data_batch_1.bin")).unwrap();
    file.set_len(30_729_999).unwrap();
    refused(
        dir.path(),
        &["info", "."],
        3,
        "E_DATA_LEN",
        &["data_batch_1.bin", "30729999", "9999 whole records and 3072 bytes", "data fetch cifar10"],
    );
    file.set_len(30_730_000).unwrap();
    file.seek(SeekFrom::Start(3_073 * 7_214)).unwrap();
    file.write_all(&[37]).unwrap();
    refused(
        dir.path(),
        &["info", "."],
        3,
        "E_LABEL_RANGE",
        &["data_batch_1.bin", "label 37", "record 7214", "byte 22168622", "10 classes"],
    );
    refused(dir.path(), &["info", ".", "--kind", "cifar11"], 2, "E_CONFIG", &["cifar11", "cifar100"]);
    refused(dir.path(), &["info", ".", "--kind", "cifar100"], 5, "E_IO", &["train.bin"]);
    refused(dir.path(), &["info", ".", "--kind", "synthetic"], 2, "E_CONFIG", &["synthetic"]);
}

#[test]
fn fetch_says_what_is_wrong() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/cifar-10-binary.tar.gz", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut request = [0; 2_048];
            let _ = stream.read(&mut request);
            let answer: &[u8] = match number {
                0 => b"HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
                _ => {
                    b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 20\r\n\r\n<html>sorry</html>.."
                }
            };
            let _ = stream.write_all(answer);
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let fetch = ["fetch", "cifar10", "--url", &url, "--out", "data"];
    refused(dir.path(), &fetch, 5, "E_DOWNLOAD", &["404", &url, "170052171", "--url"]);
    refused(dir.path(), &fetch, 5, "E_DOWNLOAD", &["a file of 20 bytes"]);
    assert!(!dir.path().join("data/cifar-10-batches-bin").exists());
    fs::write(dir.path().join("file"), b"").unwrap();
    refused(dir.path(), &["fetch", "cifar10", "--out", "file"], 5, "E_OUTDIR", &["file", "--out"]);
    refused(dir.path(), &["fetch", "cifar11"], 2, "E_USAGE", &["cifar11"]);
    refused(dir.path(), &["fetch", "cifar10", "--stall", "0"], 2, "E_USAGE", &["--stall"]);
}

/// The real pictures, where `UNLEARN_CIFAR10` names their folder: packed and read again.
#[test]
fn real_pictures_are_packed() {
    let Some(pictures) = std::env::var_os("UNLEARN_CIFAR10") else {
        eprintln!("SKIPPED: set UNLEARN_CIFAR10 to a folder of CIFAR-10 pictures");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let run = unlearn(dir.path(), &["pack", pictures.to_str().unwrap(), "cifar10.bin"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let run = unlearn(dir.path(), &["info", "cifar10.bin"]);
    for word in ["folder/train: 50000", "folder/test: 10000", "airplane", "5000  1000"] {
        assert!(run.stdout.contains(word), "{word:?} is not in: {}", run.stdout);
    }
}
