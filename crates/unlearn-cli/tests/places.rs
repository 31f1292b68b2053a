//! Folders that models are taken from and put into: whole or absent, and told apart.

// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::{TINY, Tool, contents};

/// A copy of a folder and all that is in it, but for its `LOCK`.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else if !path.ends_with("LOCK") {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// `config.json` is the name of a file of ours, too.
#[test]
fn the_copy_of_a_run_is_no_folder_of_hugging_face() {
    let tool = Tool::new();
    let recipe = tool.file("tiny.toml", TINY);
    tool.succeeds(&["train", &recipe, "--out", &tool.path("dense")]);
    tool.succeeds(&["run", &recipe, "--out", &tool.path("all")]);
    for name in ["dense", "all"] {
        copy(&tool.root().join(name), &tool.root().join(format!("{name}-copy")));
    }
    // One model in it is what is meant.
    let copied = tool.path("dense-copy");
    tool.succeeds(&["export", &copied, "--out", &tool.path("dense.pth")]);
    let line = ["forget", &recipe, "--method", "finetune", "--model", &copied, "--out", &tool.path("ft")];
    tool.succeeds(&line);
    // Of several one is to be named, with the lock or without.
    for name in ["all", "all-copy"] {
        let (source, out) = (tool.path(name), tool.path("out"));
        let base = tool.root().join(name).join("base");
        let words = ["E_NOT_A_FILE", "several models", "base, dense/finetune", base.to_str().unwrap()];
        tool.fails(&["import", &source, "--out", &out], 4, &words);
        tool.fails(&["export", &source, "--for", "transformers", "--out", &out], 4, &words);
    }
    // Nor are other folders with a file of that name.
    tool.file("other/config.json", r#"{"run": 1}"#);
    let line = ["import", &tool.path("other"), "--out", &tool.path("out")];
    tool.fails(&line, 4, &["E_FOREIGN_CONFIG", "model_type", "save_pretrained"]);
    assert!(!tool.root().join("out").exists());
}

#[test]
fn an_imported_folder_is_a_stage_whose_changes_are_found() {
    let tool = Tool::new();
    let recipe = tool.file("tiny.toml", TINY);
    tool.succeeds(&["train", &recipe, "--out", &tool.path("dense")]);
    tool.succeeds(&["prune", &recipe, "--model", &tool.path("dense"), "--out", &tool.path("sparse")]);
    tool.succeeds(&["import", &tool.path("sparse"), "--out", &tool.path("a/b/in")]);
    let folder = tool.root().join("a/b/in");
    let names: Vec<_> = contents(&tool.root().join("a/b")).into_iter().map(|(path, _)| path).collect();
    let files = ["COMMIT.json", "mask.safetensors", "model.safetensors"].map(|name| folder.join(name));
    assert_eq!(names, [&[folder.clone()][..], &files].concat(), "and nothing is left beside it");
    fs::remove_file(folder.join("mask.safetensors")).unwrap();
    let (source, out) = (tool.path("a/b/in"), tool.path("out.pth"));
    tool.fails(&["export", &source, "--out", &out], 4, &["E_STAGE", "mask.safetensors", "missing"]);
    tool.fails(&["import", &tool.path("dense"), "--out", &tool.path("x/..")], 2, &["E_CONFIG", "--out"]);
}

/// The system ends the process at the first file over a limit, which is the model: its mask is an eighth of a byte a
/// weight.
#[cfg(unix)]
#[test]
fn an_import_that_is_killed_leaves_no_half_of_it() {
    let tool = Tool::new();
    let recipe = tool.file("tiny.toml", TINY);
    tool.succeeds(&["train", &recipe, "--out", &tool.path("dense")]);
    tool.succeeds(&["prune", &recipe, "--model", &tool.path("dense"), "--out", &tool.path("sparse")]);
    let (source, out) = (tool.path("sparse"), tool.path("in"));
    let size = |name: &str| fs::metadata(tool.root().join("sparse/model").join(name)).unwrap().len();
    // The shell's unit is half a kilobyte or a whole one.
    let blocks = size("mask.safetensors").div_ceil(512) + 1;
    assert!(size("model.safetensors") > 2 * 1024 * blocks, "the mask would not pass or the model would");
    let mut killed = std::process::Command::new("sh");
    killed.args(["-c", &format!("ulimit -f {blocks}; exec \"$@\""), "sh", env!("CARGO_BIN_EXE_unlearn")]);
    let killed = killed.args(["import", &source, "--out", &out]).current_dir(tool.root()).output().unwrap();
    assert_eq!(killed.status.code(), None, "it ended by itself: {killed:?}");
    assert!(!tool.root().join("in").exists(), "half of a folder is there");
    // The same command again does what it was to do.
    tool.succeeds(&["import", &source, "--out", &out]);
    let mask = |folder: &str| fs::read(tool.root().join(folder).join("mask.safetensors")).unwrap();
    assert_eq!(mask("in"), mask("sparse/model"));
}
