//! Bad inputs: each gives its code, its exit code, what was got, what was expected and the mend,
//! and leaves everything that was there as it was.

// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used)]

mod bad;
mod common;

use std::collections::BTreeMap;

use bad::{Case, adapters, arguments, checkpoints, pictures, places, recipes, transformers};
use common::{Done, Tool, contents};

#[test]
fn wrong_adapters() {
    check(adapters::cases());
}

#[test]
fn wrong_arguments() {
    check(arguments::cases());
}

#[test]
fn wrong_recipes() {
    check(recipes::cases());
}

#[test]
fn wrong_pictures_and_forget_sets() {
    check(pictures::cases());
}

#[test]
fn wrong_checkpoints() {
    check(checkpoints::cases());
}

#[test]
fn wrong_folders() {
    check(places::cases());
}

#[test]
fn wrong_transformers() {
    check(transformers::cases());
}

#[test]
fn there_are_enough_of_them_and_each_code_is_documented() {
    let all = [
        adapters::cases(),
        arguments::cases(),
        recipes::cases(),
        pictures::cases(),
        checkpoints::cases(),
        places::cases(),
        transformers::cases(),
    ];
    let names: Vec<&str> = all.iter().flatten().map(|case| case.name).collect();
    assert!(names.len() >= 60, "{} cases", names.len());
    assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len());
    let docs = std::fs::read_to_string(repository().join("docs/errors.md")).unwrap();
    for case in all.iter().flatten() {
        assert!(docs.contains(&format!("`{}`", case.code)), "docs/errors.md does not list {}", case.code);
    }
}

/// Of the checkout that the test runs in: a shared build cache may hold a binary that was built in another.
fn repository() -> std::path::PathBuf {
    std::path::Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../..")
}

/// Every code that stands in the sources, not only those that the table of bad inputs reaches.
#[test]
fn every_code_is_documented() {
    let root = repository();
    let docs = std::fs::read_to_string(root.join("docs/errors.md")).unwrap();
    let mut folders = vec![root.join("crates")];
    let mut codes = std::collections::BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(path).unwrap();
                let words = text.split('"').filter(|word| word.starts_with("E_") && !word.ends_with('_'));
                let plain = |word: &&str| word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
                codes.extend(words.filter(plain).map(str::to_owned));
            }
        }
    }
    assert!(codes.len() > 50, "{codes:?}");
    let missing: Vec<_> = codes.iter().filter(|code| !docs.contains(&format!("`{code}`"))).collect();
    assert!(missing.is_empty(), "docs/errors.md does not list {missing:?}");
}

fn check(cases: Vec<Case>) {
    for case in cases {
        let tool = Tool::new();
        // What a case holds (a lock) lives until the command is done.
        let (given, _held) = (case.prepare)(&tool);
        let before: BTreeMap<_, _> = contents(tool.root()).into_iter().collect();
        let given: Vec<&str> = given.iter().map(String::as_str).collect();
        let done = tool.run(&given);
        shape(&case, &given, &done);
        let after: BTreeMap<_, _> = contents(tool.root()).into_iter().collect();
        if case.leaves_nothing {
            assert_eq!(before, after, "{}: files changed", case.name);
        } else {
            // The lock file says which process looked last.
            for (path, hash) in before.iter().filter(|(path, _)| !path.ends_with("LOCK")) {
                assert_eq!(after.get(path), Some(hash), "{}: {} changed", case.name, path.display());
            }
        }
    }
}

/// `error[CODE] where: got …; expected …` and `  mend: …`, the right exit code, nothing on stdout.
fn shape(case: &Case, given: &[&str], done: &Done) {
    let said = format!("{} ({given:?}): exit {}, {}", case.name, done.code, done.stderr);
    assert_eq!(done.code, case.exit, "{said}");
    let text = done.stderr.as_str();
    let place = text.strip_prefix(&format!("error[{}] ", case.code)).unwrap_or_else(|| panic!("{said}"));
    assert!(place.contains(case.word), "no {:?} in {said}", case.word);
    let (_, got) = place.split_once(": got ").unwrap_or_else(|| panic!("no got in {said}"));
    let (got, expected) = got.split_once("; expected ").unwrap_or_else(|| panic!("no expected in {said}"));
    let (expected, mend) = expected.split_once("\n  mend: ").unwrap_or_else(|| panic!("no mend in {said}"));
    assert!(!got.is_empty() && !expected.is_empty() && mend.trim().len() > 3, "{said}");
    assert!(done.stdout.is_empty(), "{said}: stdout {:?}", done.stdout);
}
