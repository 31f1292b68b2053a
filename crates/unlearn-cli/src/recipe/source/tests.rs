use super::*;

const TEXT: &str = "name = \"x\"\n\n[training]\nepochs = 3\n\n[[method]]\nname = \"retrain\"\n\n[[method]]\nname = \"finetune\"\nlabel = \"FT\"\n";

fn source() -> Source {
    Source::parse(Path::new("r.toml"), TEXT).unwrap()
}

#[test]
fn keys_know_their_lines() {
    let source = source();
    assert_eq!(source.place("training.epochs"), "r.toml:4 training.epochs");
    assert_eq!(source.place("method.1.label"), "r.toml:11 method.1.label");
    assert_eq!(source.place("training.epoch"), "r.toml:3 training.epoch");
    assert_eq!(source.place("nowhere"), "r.toml nowhere");
}

#[test]
fn set_changes_adds_and_names_array_elements() {
    let mut source = source();
    for assignment in [
        "training.epochs=5",
        "training.augment=none",
        "method.FT.epochs=2",
        "method.0.x=1e-3",
        "data.kind=synthetic",
    ] {
        source.set(assignment).unwrap();
    }
    let table = source.table();
    assert_eq!(table["training"]["epochs"].as_integer(), Some(5));
    assert_eq!(table["training"]["augment"].as_str(), Some("none"));
    assert_eq!(table["method"][1]["epochs"].as_integer(), Some(2));
    assert_eq!(table["method"][0]["x"].as_float(), Some(1e-3));
    assert_eq!(table["data"]["kind"].as_str(), Some("synthetic"));
    assert_eq!(source.place("training.epochs"), "r.toml:3 training.epochs");
}

#[test]
fn wrong_assignments_are_refused() {
    let mut source = source();
    for assignment in ["training.epochs", "=3", "a..b=3", "method.7.x=1", "method.GA.x=1", "name.x=1"] {
        let failure = source.set(assignment).unwrap_err();
        assert_eq!((failure.code, failure.exit), ("E_SET", Exit::Usage), "{assignment}");
    }
    let deep = source.set(&format!("{}b=1", "a.".repeat(60_000))).unwrap_err();
    assert_eq!((deep.code, deep.got.as_str()), ("E_SET", "a key of 60001 parts"));
    assert!(deep.place.len() < 200, "{} bytes", deep.place.len());
}

#[test]
fn broken_toml_names_its_line() {
    let failure = Source::parse(Path::new("r.toml"), "a = 1\nb = = 2\n").unwrap_err();
    assert_eq!(failure.place, "r.toml:2");
}
