use super::*;

fn read_text(text: &[u8]) -> Result<Vec<usize>, DataError> {
    let file = tempfile::Builder::new().suffix("forget.txt").tempfile().unwrap();
    std::fs::write(file.path(), text).unwrap();
    read(file.path())
}

#[test]
fn numbers_comments_and_line_ends_are_read() {
    assert_eq!(read_text(b"3\n1 # the cat\n\n# none\n  7  \n").unwrap(), [3, 1, 7]);
    assert_eq!(read_text(b"\xef\xbb\xbf3\r\n1\r\n").unwrap(), [3, 1]);
    assert_eq!(read_text(b"").unwrap(), [0_usize; 0]);
    assert_eq!(read_text(b"5").unwrap(), [5]);
}

#[test]
fn lines_that_are_no_index_are_named() {
    for (text, line, shown) in [
        (&b"1\n-2\n"[..], "line 2", "\"-2\""),
        (b"x", "line 1", "\"x\""),
        (b"1\n2\n3.5\n", "line 3", "\"3.5\""),
        (b"1,2\n", "line 1", "\"1,2\""),
        (b"1 2\n", "line 1", "\"1 2\""),
        (b"\n\n18446744073709551616\n", "line 3", "18446744073709551616"),
        (b"0x10", "line 1", "0x10"),
        (b"\x1b[2J\n", "line 1", "\\u{1b}[2J"),
    ] {
        let error = read_text(text).unwrap_err();
        let message = error.to_string();
        assert_eq!(error.code(), "E_INDEX_FORMAT");
        for word in [line, shown, "forget.txt", "whole number", "one index a line"] {
            assert!(message.contains(word), "{word:?} is not in: {message}");
        }
    }
    let long = "9".repeat(5_000);
    assert!(read_text(long.as_bytes()).unwrap_err().to_string().len() < 300);
}

#[test]
fn files_that_are_no_text_are_named() {
    let error = read_text(b"\xff\xfe1\x00").unwrap_err();
    assert_eq!(error.code(), "E_INDEX_FORMAT");
    assert!(error.to_string().contains("UTF-8"), "{error}");
    let error = read(Path::new("no/such/list.txt")).unwrap_err();
    assert_eq!(error.code(), "E_IO");
    assert!(error.to_string().contains("no/such/list.txt"), "{error}");
}

#[test]
fn what_is_no_list_is_refused_before_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut cases = vec![(folder.path().to_owned(), "a folder")];
    if cfg!(target_os = "linux") {
        // It never ends.
        cases.push(("/dev/zero".into(), "a pipe or device"));
    }
    let large = folder.path().join("large.txt");
    std::fs::File::create(&large).unwrap().set_len(LARGEST + 1).unwrap();
    cases.push((large, "67108865 bytes"));
    for (path, says) in cases {
        let error = read(&path).unwrap_err();
        assert_eq!(error.code(), "E_DATA_FORMAT");
        assert!(error.to_string().contains(says), "{error}");
    }
}

proptest::proptest! {
    #[test]
    fn lists_go_round(indices in proptest::collection::vec(0..usize::MAX, 0..50)) {
        let lines: Vec<String> = indices.iter().map(usize::to_string).collect();
        let text = lines.join("\n");
        proptest::prop_assert_eq!(read_text(text.as_bytes()).unwrap(), indices);
    }
}
