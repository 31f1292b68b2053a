use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{EntryType, Header};
use tempfile::TempDir;

use super::*;

const MEMBERS: [Member<'static>; 2] = [
    Member { name: "set/one.bin", file: "one.bin", bytes: 700 },
    Member { name: "set/two.bin", file: "two.bin", bytes: 3 },
];

/// A tar stream made by hand, so that it can lie.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn header(name: &str, kind: EntryType, size: u64) -> Header {
        let mut header = Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_mode(0o644);
        header.set_size(size);
        header.set_entry_type(kind);
        header.set_cksum();
        header
    }

    fn add(self, name: &str, content: &[u8]) -> Self {
        self.add_as(name, EntryType::Regular, content)
    }

    fn add_as(self, name: &str, kind: EntryType, content: &[u8]) -> Self {
        self.raw(&Self::header(name, kind, content.len() as u64), content)
    }

    fn raw(mut self, header: &Header, content: &[u8]) -> Self {
        self.0.extend(header.as_bytes());
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn gzip(mut self) -> Vec<u8> {
        self.0.extend([0; 1_024]);
        let mut out = GzEncoder::new(Vec::new(), Compression::fast());
        out.write_all(&self.0).unwrap();
        out.finish().unwrap()
    }
}

fn good() -> Tar {
    Tar::default()
        .add_as("set/", EntryType::Directory, b"")
        .add("set/two.bin", b"abc")
        .add("set/readme.html", b"<p>")
        .add("set/one.bin", &[7; 700])
}

struct Place {
    dir: TempDir,
}

impl Place {
    fn new(archive: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.tar.gz"), archive).unwrap();
        Self { dir }
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("out/set")
    }

    fn unpack(&self) -> Result<(), DataError> {
        unpack(&self.dir.path().join("a.tar.gz"), &MEMBERS, &self.target())
    }
}

#[track_caller]
fn refused(archive: &[u8], code: &str, words: &[&str]) {
    let place = Place::new(archive);
    let error = place.unpack().unwrap_err();
    let message = error.to_string();
    assert_eq!(error.code(), code, "{message}");
    for word in words.iter().chain(&["a.tar.gz", "Nothing was unpacked"]) {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
    // No target, no scratch folder, nothing anywhere else.
    assert!(fs::read_dir(place.dir.path().join("out")).unwrap().next().is_none());
    assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), 2);
}

#[test]
fn wanted_members_are_written_and_nothing_else() {
    let place = Place::new(&good().add("../escape", b"x").add("/abs", b"x").gzip());
    place.unpack().unwrap();
    let mut files: Vec<_> = fs::read_dir(place.target())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, ["one.bin", "two.bin"]);
    assert_eq!(fs::read(place.target().join("one.bin")).unwrap(), [7; 700]);
    assert_eq!(fs::read(place.target().join("two.bin")).unwrap(), b"abc");
    assert!(!place.dir.path().join("escape").exists() && !place.dir.path().join("out/escape").exists());
    let error = place.unpack().unwrap_err();
    assert_eq!(error.code(), "E_EXISTS");
}

#[test]
fn members_that_are_no_regular_files_are_refused() {
    for (kind, word) in [
        (EntryType::Symlink, "Symlink"),
        (EntryType::Link, "Link"),
        (EntryType::Char, "Char"),
        (EntryType::Block, "Block"),
        (EntryType::Fifo, "Fifo"),
        (EntryType::Directory, "Directory"),
        (EntryType::GNUSparse, "GNUSparse"),
        (EntryType::XHeader, "XHeader"),
        (EntryType::GNULongName, "GNULongName"),
    ] {
        let archive = Tar::default().add("set/two.bin", b"abc").add_as("set/one.bin", kind, &[7; 700]).gzip();
        refused(&archive, "E_ARCHIVE_MEMBER", &["set/one.bin", word, "a regular file"]);
    }
}

#[test]
fn missing_doubled_and_mismatched_members_are_refused() {
    refused(&Tar::default().add("set/two.bin", b"abc").gzip(), "E_ARCHIVE_MEMBER", &["no set/one.bin"]);
    refused(&Tar::default().gzip(), "E_ARCHIVE_MEMBER", &["no set/one.bin"]);
    refused(&good().add("set/two.bin", b"abc").gzip(), "E_ARCHIVE_MEMBER", &["set/two.bin twice"]);
    refused(
        &Tar::default().add("set/one.bin", &[7; 699]).gzip(),
        "E_ARCHIVE_SIZE",
        &["699 bytes", "expected 700 bytes"],
    );
    // The right file under another folder, or with the folder climbed out of.
    for name in ["other/one.bin", "one.bin", "./set/one.bin", "set/../set/one.bin", "/set/one.bin"] {
        refused(
            &Tar::default().add("set/two.bin", b"abc").add(name, &[7; 700]).gzip(),
            "E_ARCHIVE_MEMBER",
            &["no set/one.bin"],
        );
    }
}

#[test]
fn names_given_by_extension_headers_do_not_count() {
    // A PAX header that renames the next member, and one that resizes it.
    for record in ["20 path=set/one.bin\n", "12 size=700\n"] {
        let archive = Tar::default()
            .add("set/two.bin", b"abc")
            .add_as("pax", EntryType::XHeader, record.as_bytes())
            .add("other", &[7; 700])
            .gzip();
        refused(&archive, "E_ARCHIVE_MEMBER", &["no set/one.bin"]);
    }
}

#[test]
fn bombs_and_claims_are_refused_without_being_unpacked() {
    let mut many = Tar::default();
    for number in 0..1_001 {
        many = many.add(&format!("junk/{number}"), b"");
    }
    refused(&many.gzip(), "E_ARCHIVE_SIZE", &["over 1000 members"]);
    // A member that claims a terabyte.
    let lie = Tar::default().raw(&Tar::header("set/one.bin", EntryType::Regular, 1 << 33), b"abc");
    refused(&lie.gzip(), "E_ARCHIVE_SIZE", &["8589934592 bytes"]);
    // 8 MiB of zeros in a few KB, before and after what is wanted.
    let zeros = vec![0; 8 << 20];
    let bomb = Tar::default().add("junk", &zeros).add("set/two.bin", b"abc").gzip();
    assert!(bomb.len() < 1 << 17);
    refused(&bomb, "E_ARCHIVE_FORMAT", &[]);
    refused(&good().add("junk", &zeros).gzip(), "E_ARCHIVE_FORMAT", &[]);
    // Zeros behind the archive's end, where no member stands.
    let mut tail = good();
    tail.0.extend([0; 1_024]);
    tail.0.extend(&zeros);
    refused(&tail.gzip(), "E_ARCHIVE_SIZE", &["unpacked"]);
}

#[test]
fn cut_and_foreign_archives_are_refused() {
    let whole = good().gzip();
    for len in 0..whole.len() {
        let place = Place::new(&whole[..len]);
        let error = place.unpack().unwrap_err();
        assert!(
            matches!(error.code(), "E_ARCHIVE_FORMAT" | "E_ARCHIVE_MEMBER" | "E_ARCHIVE_SIZE"),
            "{len}: {error}"
        );
        assert!(!place.target().exists());
    }
    refused(b"<html>404</html>", "E_ARCHIVE_FORMAT", &[]);
    refused(b"PK\x03\x04", "E_ARCHIVE_FORMAT", &[]);
}

#[test]
fn an_archive_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = unpack(&dir.path().join("none.tar.gz"), &MEMBERS, &dir.path().join("out")).unwrap_err();
    assert_eq!(error.code(), "E_IO");
    assert!(error.to_string().contains("none.tar.gz"), "{error}");
}
