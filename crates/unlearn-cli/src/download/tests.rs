pub(crate) mod server;

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use self::server::{Answer, Server};
use sha2::{Digest, Sha256};

use super::*;

/// What is fetched: long enough to be cut in many places.
fn content() -> Vec<u8> {
    (0..200_000_u32).flat_map(|i| (i % 251).to_le_bytes()[..1].to_vec()).collect()
}

fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

struct Case {
    dir: TempDir,
    server: Server,
}

impl Case {
    /// A server that gives `answers` one after the other, then the file as it should.
    fn new(answers: Vec<Answer>) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), server: Server::start(content(), answers) }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("set.tar.gz")
    }

    fn part(&self) -> PathBuf {
        self.dir.path().join("set.tar.gz.part")
    }

    fn fetch(&self) -> Result<(), Failure> {
        let sha256 = hash(&content());
        Download {
            stall: Duration::from_millis(400),
            pause: Duration::ZERO,
            quiet: true,
            ..Download::new(&self.server.url(), content().len() as u64, &sha256)
        }
        .to(&self.file())
    }

    /// The file is there, right, and alone.
    #[track_caller]
    fn arrives(&self, requests: usize) {
        self.fetch().unwrap();
        assert!(fs::read(self.file()).unwrap() == content(), "wrong content");
        assert!(!self.part().exists());
        assert_eq!(self.server.requests().len(), requests, "{:?}", self.server.requests());
    }

    /// No file under the right name, and an error with these words.
    #[track_caller]
    fn fails(&self, code: &str, requests: usize, words: &[&str]) -> Failure {
        let failure = self.fetch().unwrap_err();
        let message = failure.to_string();
        assert_eq!(failure.code, code, "{message}");
        for word in words {
            assert!(message.contains(word), "{word:?} is not in: {message}");
        }
        assert!(!self.file().exists(), "a wrong file has the right name");
        assert_eq!(self.server.requests().len(), requests, "{:?}", self.server.requests());
        failure
    }
}

#[test]
fn an_honest_server_is_asked_once() {
    let case = Case::new(vec![]);
    case.arrives(1);
    // And not at all once the file is there.
    case.arrives(1);
}

#[test]
fn a_cut_anywhere_is_continued_where_it_was() {
    let len = content().len();
    for cut in [0, 1, 2, 100, 65_535, 65_536, 65_537, 99_999, len - 2, len - 1] {
        let case = Case::new(vec![Answer::Cut(cut)]);
        case.arrives(2);
        let requests = case.server.requests();
        let range = format!("range: bytes={cut}-");
        assert_eq!(requests[1].to_lowercase().contains(&range), cut > 0, "{}", requests[1]);
    }
}

#[test]
fn two_cuts_are_continued_and_three_are_for_the_next_call() {
    Case::new(vec![Answer::Cut(10), Answer::Cut(20)]).arrives(3);

    let case = Case::new(vec![Answer::Cut(1_000), Answer::Cut(500), Answer::Cut(700)]);
    let failure = case.fails("E_DOWNLOAD", 3, &["byte 2200", "3 tries", "run the same command again"]);
    assert_eq!(failure.exit, Exit::Environment);
    assert_eq!(fs::read(case.part()).unwrap(), content()[..2_200]);
    case.arrives(4);
    assert!(case.server.requests()[3].to_lowercase().contains("range: bytes=2200-"));
}

#[test]
fn a_server_that_ignores_ranges_begins_again() {
    Case::new(vec![Answer::Cut(5_000), Answer::IgnoreRange]).arrives(2);
}

#[test]
fn a_range_that_was_not_asked_for_is_not_appended() {
    Case::new(vec![Answer::Cut(5_000), Answer::ShiftedRange(7)]).arrives(3);
    Case::new(vec![Answer::Cut(5_000), Answer::Head("206 Partial Content", "")]).arrives(3);
    Case::new(vec![Answer::Cut(5_000), Answer::Head("206 Partial Content", "content-range: x/y\r\n")])
        .arrives(3);
    Case::new(vec![Answer::Cut(5_000), Answer::Head("416 Range Not Satisfiable", "")]).arrives(3);
    let other = "content-range: bytes 5000-9998/9999\r\n";
    Case::new(vec![Answer::Cut(5_000), Answer::Head("206 Partial Content", other)]).fails(
        "E_DOWNLOAD",
        2,
        &["a file of 9999 bytes", "the file of 200000 bytes"],
    );
}

#[test]
fn a_page_that_is_not_found_is_no_file_and_is_not_asked_for_again() {
    for status in ["404 Not Found", "403 Forbidden", "410 Gone", "204 No Content"] {
        let case = Case::new(vec![Answer::Head(status, "")]);
        case.fails("E_DOWNLOAD", 1, &[&status[..3], "--url"]);
    }
}

#[test]
fn a_server_in_trouble_is_asked_again() {
    let busy = || Answer::Head("503 Service Unavailable", "");
    Case::new(vec![busy(), Answer::Head("429 Too Many Requests", "")]).arrives(3);
    Case::new(vec![busy(), busy(), busy()]).fails("E_DOWNLOAD", 3, &["503", "3 tries"]);
}

#[test]
fn a_length_that_is_not_the_files_is_refused_before_the_body() {
    for length in ["1", "199999", "200001", "99999999999999"] {
        let head: &'static str = Box::leak(format!("content-length: {length}\r\n").into_boxed_str());
        let case = Case::new(vec![Answer::Lie(head)]);
        case.fails("E_DOWNLOAD", 1, &[&format!("a file of {length} bytes")]);
        assert_eq!(fs::metadata(case.part()).map_or(0, |m| m.len()), 0);
    }
    // Nothing at all is a server in trouble.
    let nothing = || Answer::Lie("content-length: 0\r\n");
    Case::new(vec![nothing()]).arrives(2);
    Case::new(vec![nothing(), nothing(), nothing()]).fails("E_DOWNLOAD", 3, &["0 of 200000 bytes"]);
}

#[test]
fn a_body_without_end_is_cut_off() {
    let case = Case::new(vec![Answer::Endless]);
    case.fails("E_DOWNLOAD", 1, &["over 200000 bytes"]);
    assert!(!case.part().exists());
}

#[test]
fn other_content_of_the_right_length_is_refused_and_not_kept() {
    let case = Case::new(vec![Answer::Content(vec![7; 200_000])]);
    let failure = case.fails("E_CHECKSUM", 1, &[&hash(&content()), &hash(&vec![7; 200_000])]);
    assert_eq!(failure.exit, Exit::Data);
    assert!(!case.part().exists());
}

#[test]
fn a_beginning_of_another_file_is_thrown_away_once() {
    let case = Case::new(vec![]);
    fs::write(case.part(), vec![1; 5_000]).unwrap();
    case.arrives(2);
    // Longer than the file can be, and as long as it but wrong.
    for stale in [300_000, 200_000] {
        let case = Case::new(vec![]);
        fs::write(case.part(), vec![1; stale]).unwrap();
        case.arrives(1);
    }
    // Whole already, only not renamed.
    let case = Case::new(vec![]);
    fs::write(case.part(), content()).unwrap();
    case.arrives(0);
}

#[test]
fn a_server_that_stalls_is_left() {
    let stall = || Answer::Stall(3_000);
    Case::new(vec![stall()]).arrives(2);
    let case = Case::new(vec![stall(), stall(), stall()]);
    let started = std::time::Instant::now();
    case.fails("E_DOWNLOAD", 3, &["no byte for 0.4 s"]);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(fs::metadata(case.part()).unwrap().len(), 9_000, "what arrived is kept");
    // Silence before the first line of the answer.
    Case::new(vec![Answer::Silence]).arrives(2);
}

#[test]
fn what_is_no_http_is_no_file() {
    Case::new(vec![Answer::Raw(b"SSH-2.0-OpenSSH\r\n")]).arrives(2);
    Case::new(vec![Answer::Raw(b""), Answer::Raw(b"\r\n"), Answer::Raw(b"HTTP/1.1 999")]).fails(
        "E_DOWNLOAD",
        3,
        &["3 tries"],
    );
}

#[test]
fn redirects_are_followed_and_end() {
    Case::new(vec![Answer::Redirect]).arrives(2);
    let loops = (0..40).map(|_| Answer::Redirect).collect();
    let case = Case::new(loops);
    let failure = case.fetch().unwrap_err();
    assert_eq!(failure.code, "E_DOWNLOAD");
    assert!(failure.to_string().contains("redirects without end"), "{failure}");
}

#[test]
fn https_stays_https() {
    let second = Duration::from_secs(1);
    assert!(agent("https://example.org/a", second).config().https_only());
    assert!(!agent("http://localhost/a", second).config().https_only());
    let download = Download::new("https://example.org/a", 1, "");
    let Break::For(failure) = download.network(&ureq::Error::RequireHttpsOnly("http://x".into())) else {
        panic!("a downgrade is never tried again")
    };
    assert!(failure.to_string().contains("away from https"), "{failure}");
}

#[test]
fn nobody_there_and_no_address_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("set");
    for (url, word) in [("http://127.0.0.1:9/x", "after 3 tries"), ("not an address", "that is none")] {
        let download = Download { pause: Duration::ZERO, quiet: true, ..Download::new(url, 5, "00") };
        let failure = download.to(&file).unwrap_err();
        assert_eq!(failure.code, "E_DOWNLOAD", "{failure}");
        assert!(failure.to_string().contains(url) && failure.to_string().contains(word), "{failure}");
    }
}

#[test]
fn a_file_that_is_there_is_never_overwritten() {
    let case = Case::new(vec![]);
    fs::write(case.file(), b"mine").unwrap();
    let failure = case.fetch().unwrap_err();
    assert_eq!((failure.code, failure.exit), ("E_CHECKSUM", Exit::Data));
    assert_eq!(fs::read(case.file()).unwrap(), b"mine");
    assert!(case.server.requests().is_empty());
}

#[test]
fn two_downloads_do_not_write_one_file() {
    let case = Case::new(vec![]);
    let held = Part::open(&case.file()).unwrap();
    let failure = case.fetch().unwrap_err();
    assert_eq!((failure.code, failure.exit), ("E_LOCKED", Exit::Environment));
    drop(held);
    case.arrives(1);
}

#[test]
fn ranges_are_read() {
    assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
    assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
    for text in
        ["", "bytes", "bytes */10", "items 5-9/10", "bytes 5-9", "bytes x-9/10", "bytes 5-9/x", "bytes -9/10"]
    {
        assert_eq!(content_range(text), None, "{text}");
    }
}
