use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use sha2::{Digest, Sha256};
use unlearn::data::DataError;
use unlearn::data::source::synthetic::Synthetic;

use super::*;

/// `small/a.bin` with four bytes, `small/readme.html`, `small/b.bin` with two.
const ARCHIVE: &[u8] = include_bytes!("small.tar.gz");
const MEMBERS: [Member<'static>; 2] = [
    Member { name: "small/a.bin", file: "a.bin", bytes: 4 },
    Member { name: "small/b.bin", file: "b.bin", bytes: 2 },
];

fn hash(bytes: &[u8]) -> String {
    crate::download::hex(&Sha256::digest(bytes))
}

/// An address that serves `content` to everybody.
fn serve(content: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/small.tar.gz", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 2_048];
            let _ = stream.read(&mut request);
            let head =
                format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", content.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(content));
        }
    });
    url
}

/// Stands in for a reader: the two files must be there and right.
fn open(folder: &Path) -> Result<TrainTest, DataError> {
    for member in MEMBERS {
        let file = folder.join(member.file);
        let len = fs::read(&file).map_err(|e| DataError::io(&file, "read", e))?.len() as u64;
        if len != member.bytes {
            return Err(DataError::Length { file, got: len, expected: member.bytes.to_string() });
        }
    }
    Synthetic { train: 10, test: 10, size: 8, ..Synthetic::default() }.generate()
}

fn run(url: &str, content: &[u8], out: &Path) -> Result<TrainTest, Failure> {
    let sha256 = hash(content);
    let bytes = content.len() as u64;
    let archive =
        Archive { file: "small.tar.gz", bytes, sha256: &sha256, folder: "small", members: &MEMBERS };
    let pause = Duration::ZERO;
    let download = Download { pause, quiet: true, ..Download::new(url, bytes, &sha256) };
    fetch(&archive, &download, out, open)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn named_members_arrive_and_the_archive_goes() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("new/data");
    run(&serve(ARCHIVE), ARCHIVE, &out).unwrap();
    assert_eq!(names(&out), ["small"]);
    assert_eq!(names(&out.join("small")), ["a.bin", "b.bin"]);
    assert_eq!(fs::read(out.join("small/a.bin")).unwrap(), b"aaaa");
    // A second time nothing is asked of anybody.
    run("http://127.0.0.1:9/", ARCHIVE, &out).unwrap();
}

#[test]
fn a_folder_that_is_there_but_wrong_is_named_and_left() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("small")).unwrap();
    fs::write(dir.path().join("small/a.bin"), b"aaa").unwrap();
    let failure = run("http://127.0.0.1:9/", ARCHIVE, dir.path()).unwrap_err();
    assert_eq!((failure.code, failure.exit), ("E_DATA_LEN", Exit::Data));
    assert!(failure.mend.contains("delete the folder first"), "{failure}");
    assert_eq!(names(&dir.path().join("small")), ["a.bin"]);
}

#[test]
fn an_archive_with_the_right_hash_and_the_wrong_content_unpacks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let failure = run(&serve(b"no archive"), b"no archive", dir.path()).unwrap_err();
    assert_eq!((failure.code, failure.exit), ("E_ARCHIVE_FORMAT", Exit::Data));
    assert_eq!(names(dir.path()), ["small.tar.gz"]);
}

#[test]
fn the_target_is_tried_before_the_download() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    for out in [file.clone(), file.join("below")] {
        let failure = run("http://127.0.0.1:9/", ARCHIVE, &out).unwrap_err();
        assert_eq!((failure.code, failure.exit), ("E_OUTDIR", Exit::Environment));
        assert!(failure.to_string().contains("--out"), "{failure}");
    }
}
