use std::path::{Path, PathBuf};

use super::*;

/// One file a reader, named once in the list.
#[test]
fn every_reader_is_in_the_list() {
    let folder = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("src/source");
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .filter(|path| std::fs::read_to_string(path).unwrap().contains("\npub const READER: Reader"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().replace("image_", ""))
        .collect();
    files.sort();
    assert_eq!(files, READERS.map(|reader| reader.id));
}

#[test]
fn nothing_there_and_two_things_there_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let error = open(SourceKind::Auto, Some(dir.path())).unwrap_err();
    assert_eq!(error.code(), "E_FOLDER_LAYOUT");
    assert!(error.to_string().contains("data_batch_1.bin"), "{error}");

    std::fs::create_dir_all(dir.path().join("train/a")).unwrap();
    std::fs::create_dir_all(dir.path().join("test/a")).unwrap();
    assert_eq!(detect(dir.path()).unwrap().id, "folder");
    std::fs::write(dir.path().join("data_batch_1.bin"), b"").unwrap();
    let error = open(SourceKind::Auto, Some(dir.path())).unwrap_err();
    assert_eq!(error.code(), "E_FOLDER_LAYOUT");
    assert!(error.to_string().contains("more than one: cifar10, folder"), "{error}");
}

#[test]
fn folders_are_asked_for_where_they_are_needed() {
    let error = open(SourceKind::Cifar10, None).unwrap_err();
    assert_eq!(error.code(), "E_CONFIG");
    assert!(error.to_string().contains("`cifar10`"), "{error}");
    let error = open("synthetic".parse().unwrap(), Some(Path::new("."))).unwrap_err();
    assert_eq!(error.code(), "E_CONFIG");
    let error = open(SourceKind::Auto, Some(Path::new("no/such/folder"))).unwrap_err();
    assert_eq!(error.code(), "E_IO");
    assert!(error.to_string().contains("no/such/folder"), "{error}");
}

#[test]
fn recipes_name_sources() {
    let read = |text: &str| serde_json::from_str::<SourceKind>(text);
    assert_eq!(read(r#"{"kind":"auto"}"#).unwrap(), SourceKind::Auto);
    assert_eq!(read(r#"{"kind":"folder"}"#).unwrap(), SourceKind::Folder);
    let SourceKind::Synthetic(settings) = read(r#"{"kind":"synthetic","train":50,"seed":4}"#).unwrap() else {
        panic!("not synthetic")
    };
    assert_eq!((settings.train, settings.test, settings.seed.0), (50, 1_000, 4));
    let text = serde_json::to_string(&SourceKind::Synthetic(settings)).unwrap();
    assert_eq!(read(&text).unwrap(), SourceKind::Synthetic(settings));

    for (text, word) in [
        (r#"{"kind":"cifar"}"#, "cifar100"),
        (r#"{"kind":"folder","seed":1}"#, "`seed`"),
        (r#"{"kind":"auto","trian":1}"#, "trian"),
        (r#"{"kind":"synthetic","train":3}"#, "10 to"),
        (r#"{"train":300}"#, "kind"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(word), "{text}: {error}");
    }
    for id in ["auto", "cifar10", "cifar100", "folder", "packed", "synthetic"] {
        assert_eq!(id.parse::<SourceKind>().unwrap().to_string(), id);
    }
}
