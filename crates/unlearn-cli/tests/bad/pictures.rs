//! Wrong pictures, labels and forget sets.

use super::{Case, case, run, set, strings};
use crate::common::{TINY, Tool};

const RECORDS: u64 = 10_000;
const RECORD: u64 = 3_073;
/// A picture of one grey pixel, as PNG.
pub const PIXEL: &[u8] =
    b"\x89\x50\x4e\x47\x0d\x0a\x1a\x0a\x00\x00\x00\x0d\x49\x48\x44\x52\x00\x00\x00\x01\x00\x00\x00\x01\x08\
    \x02\x00\x00\x00\x90\x77\x53\xde\x00\x00\x00\x0c\x49\x44\x41\x54\x78\x9c\x63\x68\x68\x68\x00\x00\x03\
    \x04\x01\x81\x4b\xd3\xd2\x10\x00\x00\x00\x00\x49\x45\x4e\x44\xae\x42\x60\x82";

/// Another.
pub const RED: &[u8] =
    b"\x89\x50\x4e\x47\x0d\x0a\x1a\x0a\x00\x00\x00\x0d\x49\x48\x44\x52\x00\x00\x00\x01\x00\x00\x00\x01\x08\
    \x02\x00\x00\x00\x90\x77\x53\xde\x00\x00\x00\x0c\x49\x44\x41\x54\x78\x9c\x63\xf8\xa0\x30\x01\x00\x03\
    \xa4\x01\xa1\x11\x75\xc5\x71\x00\x00\x00\x00\x49\x45\x4e\x44\xae\x42\x60\x82";

/// `unlearn run` of the tiny recipe on the folder `data`, as `kind`.
fn on(tool: &Tool, kind: &str) -> Vec<String> {
    let text = TINY.replacen("kind = \"synthetic\"", &format!("kind = \"{kind}\""), 1).replacen(
        "train_per_class = 6\ntest_per_class = 4\nsize = 8\n",
        "",
        1,
    );
    let mut line = run(tool, &text, &[]);
    line.extend(strings(&["--data", &tool.path("data")]));
    line
}

/// A binary CIFAR-10 file of `bytes` zeros with `patches` of (place, byte); takes no disk.
fn batch(tool: &Tool, name: &str, bytes: u64, patches: &[(u64, u8)]) {
    use std::io::{Seek, SeekFrom, Write};
    let path = tool.file(&format!("data/{name}"), "");
    let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(bytes).unwrap();
    for (place, byte) in patches {
        file.seek(SeekFrom::Start(*place)).unwrap();
        file.write_all(&[*byte]).unwrap();
    }
}

fn cifar(
    name: &'static str,
    code: &'static str,
    word: &'static str,
    bytes: u64,
    patches: &'static [(u64, u8)],
) -> Case {
    case(name, 3, code, word, move |tool: &Tool| {
        batch(tool, "data_batch_1.bin", bytes, patches);
        on(tool, "cifar10")
    })
}

fn pickle(name: &'static str, content: &'static [u8]) -> Case {
    case(name, 3, "E_DATA_FORMAT", "data_batch_1", move |tool: &Tool| {
        tool.file("data/data_batch_1", content);
        on(tool, "cifar10")
    })
}

/// A picture folder with ten classes of which each holds `file`.
pub fn ten_classes(tool: &Tool, file: &str, content: &[u8]) {
    for class in 0..10 {
        for half in ["train", "test"] {
            tool.file(&format!("data/{half}/{class}/{file}"), content);
        }
    }
}

/// Such a folder.
fn folder(
    name: &'static str,
    code: &'static str,
    word: &'static str,
    file: &'static str,
    content: &'static [u8],
) -> Case {
    case(name, 3, code, word, move |tool: &Tool| {
        ten_classes(tool, file, content);
        on(tool, "folder")
    })
}

fn indices(
    name: &'static str,
    exit: i32,
    code: &'static str,
    word: &'static str,
    list: &'static str,
) -> Case {
    case(name, exit, code, word, move |tool: &Tool| {
        let spec = format!("forget.spec=indices:{}", tool.file("list.txt", list));
        run(tool, TINY, &[&spec])
    })
}

pub fn cases() -> Vec<Case> {
    let whole = RECORDS * RECORD;
    let mut cases = vec![
        cifar("truncated file", "E_DATA_LEN", "data_batch_1.bin", whole - 1, &[]),
        cifar("oversized file", "E_DATA_LEN", "data_batch_1.bin", whole + 1, &[]),
        cifar("empty file", "E_DATA_LEN", "data_batch_1.bin", 0, &[]),
        cifar("label 37", "E_LABEL_RANGE", "label 37 in record 7", whole, &[(7 * RECORD, 37)]),
        cifar(
            "label 10 in the last record",
            "E_LABEL_RANGE",
            "record 9999",
            whole,
            &[((RECORDS - 1) * RECORD, 10)],
        ),
        case("a file of the set is missing", 5, "E_IO", "data_batch_2.bin", move |tool: &Tool| {
            batch(tool, "data_batch_1.bin", RECORDS * RECORD, &[]);
            on(tool, "cifar10")
        }),
        pickle("pickle that runs a command", b"cos\nsystem\n(S'touch owned'\ntR."),
        pickle("pickle cut short", b"\x80\x02}q\x01(U\x05label"),
        pickle("pickle of another kind", b"\x80\x02]q\x01."),
        pickle("empty pickle", b""),
        folder("text named as a picture", "E_IMAGE_EXTENSION", "0.png", "0.png", b"not a picture"),
        folder("picture cut short", "E_IMAGE_DECODE", "0.png", "0.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0"),
        folder("text among pictures", "E_FOLDER_FOREIGN", "notes.txt", "notes.txt", b"hello"),
        case("class without pictures", 3, "E_FOLDER_EMPTY", "cat", |tool: &Tool| {
            std::fs::create_dir_all(tool.root().join("data/train/cat")).unwrap();
            std::fs::create_dir_all(tool.root().join("data/test/cat")).unwrap();
            on(tool, "folder")
        }),
        case("folder without a data set", 3, "E_FOLDER_LAYOUT", "data", |tool: &Tool| {
            tool.file("data/readme.md", "");
            on(tool, "auto")
        }),
        case("data folder not there", 5, "E_IO", "data", |tool: &Tool| on(tool, "cifar10")),
        case("no data folder named", 2, "E_CONFIG", "data.dir", |tool: &Tool| {
            let mut line = on(tool, "cifar10");
            line.truncate(line.len() - 2);
            line
        }),
        case("packed file of another kind", 3, "E_DATA_FORMAT", "data", |tool: &Tool| {
            tool.file("data", "this is no packed file, whatever it is called");
            on(tool, "packed")
        }),
        set("more pictures than can be", 2, "E_CONFIG", "synthetic", &["data.train_per_class=1000000000"]),
        case(
            "more pictures than a number can count",
            2,
            "E_CONFIG",
            "at least 9000000000000000000",
            |tool: &Tool| {
                for half in ["train", "test"] {
                    tool.file(&format!("data/{half}/cat/0.png"), PIXEL);
                    tool.file(&format!("data/{half}/dog/0.png"), PIXEL);
                }
                let mut line = on(tool, "folder");
                line.extend(strings(&["--set", "data.train_per_class=9000000000000000000"]));
                line
            },
        ),
        set("model of three classes for ten", 2, "E_CONFIG", "model.classes", &["model.classes=3"]),
        set("class 10 of 10", 2, "E_CONFIG", "class", &["forget.spec=class:10"]),
        case("index past the end of a folder of pictures", 3, "E_INDEX_RANGE", "10", |tool: &Tool| {
            // Found before pictures are opened, of which none would open.
            ten_classes(tool, "0.png", b"no picture");
            let mut line = on(tool, "folder");
            let list = tool.file("list.txt", "0\n10\n");
            line.extend(strings(&["--set", &format!("forget.spec=indices:{list}")]));
            line
        }),
        set("forget nothing", 3, "E_FORGET_EMPTY", "random:0", &["forget.spec=random:0%"]),
        set("forget everything", 3, "E_RETAIN_EMPTY", "60", &["forget.spec=random:100%"]),
        set("forget more than there is", 2, "E_CONFIG", "61", &["forget.spec=random:61"]),
        set("forget a negative share", 2, "E_CONFIG", "-5", &["forget.spec=random:-5%"]),
        indices("index past the end", 3, "E_INDEX_RANGE", "60", "0\n60\n"),
        indices("index twice", 3, "E_INDEX_DUP", "3", "3\n4\n3\n"),
        indices("index not a number", 3, "E_INDEX_FORMAT", "line 2", "1\nzwei\n"),
        indices("empty index list", 3, "E_FORGET_EMPTY", "indices", "# nobody\n"),
        case("index list that is too long", 3, "E_DATA_FORMAT", "list.txt", |tool: &Tool| {
            let list = tool.file("list.txt", "");
            std::fs::OpenOptions::new().write(true).open(&list).unwrap().set_len((64 << 20) + 1).unwrap();
            run(tool, TINY, &[&format!("forget.spec=indices:{list}")])
        }),
        case("both layouts of one set in a folder", 3, "E_FOLDER_LAYOUT", "2 times", |tool: &Tool| {
            batch(tool, "data_batch_1.bin", 3, &[]);
            tool.file("data/cifar-10-batches-py/data_batch_1", "");
            on(tool, "cifar10")
        }),
        case("index list not there", 5, "E_IO", "nowhere.txt", |tool: &Tool| {
            run(tool, TINY, &["forget.spec=indices:nowhere.txt"])
        }),
        case("index of a validation picture", 3, "E_SPLIT", "validation", |tool: &Tool| {
            let all: Vec<String> = (0..59).map(|i| i.to_string()).collect();
            let spec = format!("forget.spec=indices:{}", tool.file("list.txt", all.join("\n")));
            run(tool, TINY, &[&spec, "split={rule=\"stratified\",fraction=0.2}"])
        }),
    ];
    if cfg!(unix) {
        cases.push(case("packed file that is a pipe", 3, "E_DATA_FORMAT", "pipe", |tool: &Tool| {
            tool.pipe("data");
            on(tool, "packed")
        }));
        cases.push(case(
            "data file that is a pipe",
            3,
            "E_DATA_FORMAT",
            "data_batch_2.bin",
            |tool: &Tool| {
                batch(tool, "data_batch_1.bin", RECORDS * RECORD, &[]);
                tool.pipe("data/data_batch_2.bin");
                on(tool, "cifar10")
            },
        ));
        cases.push(case("index list that is a pipe", 3, "E_DATA_FORMAT", "pipe", |tool: &Tool| {
            run(tool, TINY, &[&format!("forget.spec=indices:{}", tool.pipe("list.txt"))])
        }));
    }
    cases
}
