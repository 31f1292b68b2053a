//! Every verb once, as a user runs it, on tiny pictures.

// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{TINY, Tool};

#[test]
fn help_version_completions_and_methods_print() {
    let tool = Tool::new();
    for (arguments, word) in [
        (&["--help"][..], "demo"),
        (&["--version"], "unlearn 0."),
        (&["help", "run"], "--resume"),
        (&["completions", "bash"], "_unlearn"),
        (&["completions", "zsh"], "#compdef unlearn"),
        (&["completions", "fish"], "complete -c unlearn"),
        (&["methods"], "gradient-ascent"),
        (&["methods", "fisher"], "# Definition"),
    ] {
        let done = tool.run(arguments);
        assert_eq!(done.code, 0, "{arguments:?}: {}", done.stderr);
        assert!(done.stdout.contains(word), "{arguments:?}: {}", done.stdout);
    }
    assert_eq!(tool.run(&[]).code, 2);
}

#[test]
fn every_shipped_recipe_is_checked() {
    let tool = Tool::new();
    let folder = format!("{}/../../recipes", std::env::var("CARGO_MANIFEST_DIR").unwrap());
    let mut found = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "toml") {
            let done = tool.run(&["recipe", "check", path.to_str().unwrap()]);
            assert_eq!(done.code, 0, "{}: {}", path.display(), done.stderr);
            let name = path.file_stem().unwrap().to_str().unwrap();
            assert!(done.stdout.contains(&format!("name = \"{name}\"")), "{name}");
            let text = fs::read_to_string(&path).unwrap();
            for heading in ["# table", "# expected", "# seeds", "# machine"] {
                assert!(text.contains(heading), "{name} has no {heading:?}");
            }
            // What a run keeps is a recipe again, and the same.
            let resolved = tool.file("resolved.toml", &done.stdout);
            assert_eq!(tool.succeeds(&["recipe", "check", &resolved]), done.stdout, "{name}");
            assert!(done.stdout.contains("vector_factor") == done.stdout.contains("\"fisher\""), "{name}");
            if name.contains("full") {
                assert!(text.contains("NOT RUN HERE"), "{name}");
            }
            found += 1;
        }
    }
    assert_eq!(found, 9);
}

#[test]
fn run_writes_every_result_and_a_second_run_is_refused() {
    let tool = Tool::new();
    let recipe = tool.file("tiny.toml", TINY);
    let out = tool.path("out");
    let run = tool.run(&["run", &recipe, "--out", &out]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    for row in ["original", "retrain", "finetune"] {
        assert!(run.stdout.contains(&format!("| {row} ")), "no row {row}:\n{}", run.stdout);
    }
    for file in [
        "results.json",
        "results.csv",
        "results.md",
        "recipe.toml",
        "base/model.safetensors",
        "sparse/original/mask.safetensors",
        "dense/retrain/COMMIT.json",
        "sparse/finetune.evaluation/evaluation.json",
    ] {
        assert!(tool.root().join("out").join(file).is_file(), "no {file}");
    }
    assert!(!tool.root().join("out/work").exists(), "checkpoints with forgotten samples were left");
    let json: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(tool.root().join("out/results.json")).unwrap()).unwrap();
    assert_eq!(json["rows"].as_array().unwrap().len(), 6);

    let again = tool.run(&["run", &recipe, "--out", &out]);
    assert_eq!(again.code, 5, "{}", again.stderr);
    assert!(again.stderr.contains("E_OUTDIR") && again.stderr.contains("--resume"), "{}", again.stderr);
    let resumed = tool.run(&["run", &recipe, "--out", &out, "--resume"]);
    assert_eq!(resumed.code, 0, "{}", resumed.stderr);
    assert_eq!(resumed.stdout, run.stdout, "a finished run is read back");
    let other = tool.run(&["run", &recipe, "--out", &out, "--resume", "--set", "training.learning_rate=0.2"]);
    assert_eq!(other.code, 2, "{}", other.stderr);
    assert!(
        other.stderr.contains("E_RESUME_CONFIG") && other.stderr.contains("learning_rate"),
        "{}",
        other.stderr
    );
    let pictures = tool.run(&["run", &recipe, "--out", &out, "--resume", "--set", "data.test_per_class=3"]);
    assert!(
        pictures.stderr.contains("E_RESUME_CONFIG") && pictures.stderr.contains("test_per_class"),
        "{}",
        pictures.stderr
    );
}

#[test]
fn train_prune_forget_and_eval_work_on_each_others_models() {
    let tool = Tool::new();
    let recipe = tool.file("tiny.toml", TINY);
    let path = |name: &str| tool.path(name);
    let steps: [&[&str]; 5] = [
        &["train", &recipe, "--out", &path("dense")],
        &["prune", &recipe, "--model", &path("dense"), "--out", &path("sparse")],
        &["forget", &recipe, "--model", &path("sparse"), "--method", "finetune", "--out", &path("ft")],
        &["forget", &recipe, "--model", &path("sparse"), "--method", "retrain", "--out", &path("retrain")],
        &[
            "eval",
            &recipe,
            "--model",
            &path("sparse"),
            "--model",
            &path("retrain"),
            "--model",
            &path("ft/model/model.safetensors"),
            "--out",
            &path("judged"),
        ],
    ];
    let mut last = String::new();
    for arguments in steps {
        let done = tool.run(arguments);
        assert_eq!(done.code, 0, "{arguments:?}: {}", done.stderr);
        last = done.stdout;
    }
    for row in ["original", "retrain", "finetune"] {
        assert!(last.contains(&format!("| {row} ")), "no row {row}:\n{last}");
    }
    assert!(tool.root().join("judged/results.csv").is_file());
    // The separate verbs give what the whole recipe gives.
    let run = tool.run(&["run", &recipe, "--out", &path("whole")]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    for (single, whole) in [
        ("dense", "base"),
        ("sparse", "sparse/original"),
        ("ft", "sparse/finetune"),
        ("retrain", "sparse/retrain"),
    ] {
        let read = |path: String| fs::read(tool.root().join(path)).unwrap();
        assert_eq!(
            read(format!("{single}/model/model.safetensors")),
            read(format!("whole/{whole}/model.safetensors")),
            "{single}"
        );
    }
}

#[test]
fn demo_prints_every_method_on_both_networks() {
    let tool = Tool::new();
    let done = tool.run(&["demo", "--quick", "--quiet"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    for row in ["original", "retrain", "finetune", "finetune-l1", "gradient-ascent", "fisher", "influence"] {
        let cell = format!("| {row} ");
        assert_eq!(done.stdout.matches(&cell).count(), 2, "{row} is not there twice:\n{}", done.stdout);
    }
    assert!(done.stderr.is_empty(), "--quiet says {:?}", done.stderr);
}
