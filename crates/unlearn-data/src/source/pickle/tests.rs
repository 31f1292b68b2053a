use std::path::PathBuf;

use super::*;

const RECORDS: usize = 2;

/// A batch as Python 2 wrote CIFAR-10 (protocol 2), with `labels` and rows of `row` bytes.
fn python2(key: &str, labels: &[u8], rows: usize) -> Vec<u8> {
    let mut out = b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03".to_vec();
    short(&mut out, key);
    out.extend(b"q\x04]q\x05(");
    for label in labels {
        out.extend([b'K', *label]);
    }
    out.push(b'e');
    short(&mut out, "data");
    out.extend(b"q\x06");
    array(&mut out, rows, &pixels(rows));
    short(&mut out, "filenames");
    out.extend(b"q\x07]q\x08(U\x05a.pngq\x09U\x05b.pngq\x0aeu.");
    out
}

fn short(out: &mut Vec<u8>, text: &str) {
    out.extend([b'U', text.len() as u8]);
    out.extend(text.as_bytes());
}

fn array(out: &mut Vec<u8>, rows: usize, pixels: &[u8]) {
    out.extend(b"cnumpy.core.multiarray\n_reconstruct\nq\x10cnumpy\nndarray\nq\x11K\x00\x85q\x12U\x01bq\x13\x87q\x14Rq\x15");
    out.extend(b"(K\x01M");
    out.extend((rows as u16).to_le_bytes());
    out.extend(b"M\x00\x0c\x86q\x16cnumpy\ndtype\nq\x17U\x02u1q\x18K\x00K\x01\x87q\x19Rq\x1a");
    out.extend(b"(K\x03U\x01|q\x1bNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x1cb\x89T");
    out.extend((pixels.len() as u32).to_le_bytes());
    out.extend(pixels);
    out.extend(b"tq\x1db");
}

fn pixels(rows: usize) -> Vec<u8> {
    (0..rows * PIXELS).map(|i| (i % 251) as u8).collect()
}

fn read(bytes: &[u8], key: &str) -> Result<Collected, DataError> {
    let dir = tempfile::tempdir().unwrap();
    let file: PathBuf = dir.path().join("data_batch_1");
    std::fs::write(&file, bytes).unwrap();
    let mut out = Collected::default();
    read_batch(&file, key, RECORDS, 10, &mut out)?;
    Ok(out)
}

/// What refuses `bytes`: code and message.
fn refusal(bytes: &[u8]) -> (&'static str, String) {
    let error = read(bytes, "labels").unwrap_err();
    (error.code(), error.to_string())
}

#[track_caller]
fn refused(bytes: &[u8], word: &str) {
    let (code, message) = refusal(bytes);
    assert_eq!(code, "E_DATA_FORMAT", "{message}");
    for word in [word, "data_batch_1", "pickled dictionary", "fetch the data set again"] {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
    assert!(message.len() <= 500, "{message}");
}

#[test]
fn the_original_files_are_read() {
    let got = read(&python2("labels", &[3, 9], RECORDS), "labels").unwrap();
    assert_eq!(got.labels, [3, 9]);
    assert_eq!(got.images, pixels(RECORDS));
    let got = read(&python2("fine_labels", &[0, 1], RECORDS), "fine_labels").unwrap();
    assert_eq!(got.labels, [0, 1]);
}

/// Written by Python 3's own `pickle` from an object that reduces as a NumPy array does.
#[test]
fn files_written_again_by_python_3_are_read() {
    for bytes in [
        &include_bytes!("fixtures/batch-protocol-3.pickle")[..],
        include_bytes!("fixtures/batch-protocol-4.pickle"),
        include_bytes!("fixtures/batch-protocol-5.pickle"),
    ] {
        let got = read(bytes, "labels").unwrap();
        assert_eq!(got.labels, [7, 2]);
        let expected: Vec<u8> = (0..RECORDS * PIXELS).map(|i| (i * 7 % 256) as u8).collect();
        assert_eq!(got.images, expected);
    }
}

#[test]
fn wrong_content_is_named() {
    refused(b"", "cut at byte 0");
    refused(b"\x80\x02K\x05.", "no dictionary");
    refused(b"\x80\x02}.", "without `data`");
    refused(&python2("fine_labels", &[1, 2], RECORDS), "without `labels`");
    refused(&python2("labels", &[1, 2, 3], RECORDS), "2 rows of pixels and 3 labels");
    refused(&python2("labels", &[1], 1), "1 rows of pixels and 1 labels");
    refused(b"\x80\x02}(U\x04dataK\x01U\x06labels]u.", "no plain array of bytes");
    let mut two = b"\x80\x02}(".to_vec();
    for _ in 0..2 {
        short(&mut two, "data");
        array(&mut two, RECORDS, &pixels(RECORDS));
    }
    two.extend(b"u.");
    // Twice the pixels is past the length that a batch can have.
    let (code, message) = refusal(&two);
    assert_eq!(code, "E_DATA_LEN", "{message}");
    refused(b"\x80\x02}(U\x04dataNU\x04dataNu.", "`data` twice");
    let text = python2("labels", &[1, 2], RECORDS);
    let at = text.windows(4).position(|w| w == b"K\x01K\x02").unwrap();
    let mut words = text[..at].to_vec();
    words.extend(b"NN");
    words.extend(&text[at + 4..]);
    refused(&words, "no whole number");
    let wider: Vec<u8> = text
        .windows(2)
        .position(|w| w == b"u1")
        .map(|at| [&text[..at], b"u2", &text[at + 2..]].concat())
        .unwrap();
    refused(&wider, "no plain array of bytes");
}

#[test]
fn labels_without_a_class_are_named() {
    let (code, message) = refusal(&python2("labels", &[1, 37], RECORDS));
    assert_eq!(code, "E_LABEL_RANGE");
    assert!(message.contains("record 1 has label 37") && message.contains("10 classes"), "{message}");
}

#[test]
fn a_negative_label_is_told_as_it_is() {
    // `K\x07` is the number 7 in one byte, `J` one in four.
    let mut bytes = python2("labels", &[1, 7], RECORDS);
    let at = bytes.windows(2).rposition(|two| two == b"K\x07").unwrap();
    bytes.splice(at..at + 2, *b"J\xff\xff\xff\xff");
    let (code, message) = refusal(&bytes);
    assert_eq!(code, "E_LABEL_RANGE");
    assert!(
        message.contains("label -1 in record 1") || message.contains("record 1 has label -1"),
        "{message}"
    );
}

#[test]
fn a_cut_is_found_wherever_it_is() {
    let whole = python2("labels", &[3, 9], RECORDS);
    for len in (0..260).chain((260..whole.len()).step_by(37)).chain(whole.len() - 60..whole.len()) {
        refused(&whole[..len], "cut at byte");
    }
    refused(&[&whole[..], b"x"].concat(), "left over");
}

/// A pickle can call anything; here nothing is called and everything unknown is refused by name.
#[test]
fn nothing_is_ever_run() {
    let canary = tempfile::tempdir().unwrap();
    let file = canary.path().join("run");
    let command = format!("cposix\nsystem\n(U\x7ftouch {}\ntR.", file.display());
    refused(command.as_bytes(), "posix system");
    refused(b"\x80\x02c__builtin__\neval\n(U\x011tR.", "__builtin__ eval");
    refused(b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "os system");
    // INST, OBJ, NEWOBJ, EXT1, PERSID, BINPERSID, POP, DUP.
    for code in [b"ios\nsystem\n.".as_slice(), b"(o.", b"\x81.", b"\x82\x01.", b"Px\n.", b"Q.", b"0.", b"2."]
    {
        refused(code, "no batch needs");
    }
    refused(b"K\x01)R.", "call of something that is no name");
    assert!(!file.exists());
}

#[test]
fn bombs_are_refused_at_once() {
    // A list of ten uses of a list of ten uses of …
    let mut laughs = b"\x80\x02]q\x00".to_vec();
    for level in 0..30_u8 {
        laughs.extend(b"](");
        for _ in 0..10 {
            laughs.extend([b'h', level]);
        }
        laughs.extend([b'e', b'q', level + 1]);
    }
    laughs.push(b'.');
    refused(&laughs, "may be used once");

    let deep = [&b"]".repeat(400)[..], &b"a".repeat(399), b"."].concat();
    refused(&deep, "levels of nesting");
    let deep = [&b")"[..], &b"\x85".repeat(400), b"."].concat();
    refused(&deep, "levels of nesting");
    refused(&b"N".repeat(5_000), "more values than any batch has");
    refused(&b"(".repeat(5_000), "more values than any batch has");
    // Lengths that the file does not have.
    refused(b"\x80\x02T\xff\xff\xff\xffabc.", "cut at byte");
    refused(b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xffabc.", "cut at byte");
}

#[test]
fn operands_that_are_missing_are_no_panic() {
    for program in [
        &b"e."[..],
        b"(e.",
        b"t.",
        b"\x87.",
        b"K\x01\x86.",
        b"s.",
        b"(K\x01K\x02u.",
        b"}(K\x01u.",
        b"R.",
        b"b.",
        b"h\x05.",
        b"q\x05.",
        b"\x94.",
        b"(q\x05.",
        b"a.",
        b"K\x01(\x85.",
        b".",
        b"(.",
        b"Ix\n.",
        b"px\n.",
        b"gx\n.",
        b"\x93.",
    ] {
        let (code, message) = refusal(program);
        assert_eq!(code, "E_DATA_FORMAT", "{program:?}: {message}");
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_end_in_a_typed_error(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        proptest::prop_assert!(Machine::run(&bytes, 1_000).is_err() || bytes.ends_with(b"."));
        proptest::prop_assert!(Batch::parse(&bytes, "labels", RECORDS).is_err());
    }

    #[test]
    fn a_changed_byte_is_an_error_or_another_batch_of_the_same_size(
        at in 0..6_400_usize, value in proptest::num::u8::ANY,
    ) {
        let mut bytes = python2("labels", &[3, 9], RECORDS);
        let at = at % bytes.len();
        bytes[at] = value;
        if let Ok(got) = read(&bytes, "labels") {
            proptest::prop_assert_eq!(got.labels.len(), RECORDS);
            proptest::prop_assert_eq!(got.images.len(), RECORDS * PIXELS);
            proptest::prop_assert!(got.labels.iter().all(|label| *label < 10));
        }
    }
}

/// One byte of program keeps a copy each time.
#[test]
fn a_memo_without_end_is_refused() {
    let mut bomb = b"\x80\x04\x8c\x40".to_vec();
    bomb.extend([b'x'; 64]);
    bomb.extend([0x94; 5_000]);
    bomb.push(b'.');
    refused(&bomb, "more values than any batch has");
}
