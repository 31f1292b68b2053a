//! What stages say of themselves and of one another, on tiny pictures.

// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::{TINY, Tool};
use serde_json::Value;
use unlearn::prune::MaskSet;

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Runs the command, which must come to this exit code; gives stderr.
#[track_caller]
fn run(tool: &Tool, exit: i32, line: &[&str]) -> String {
    let done = tool.run(line);
    assert_eq!(done.code, exit, "{line:?}: {}", done.stderr);
    done.stderr
}

#[test]
fn a_sparse_model_that_is_pruned_again_keeps_its_mask() {
    let tool = Tool::new();
    let recipe = tool.file("tiny.toml", TINY.replacen(", rewind = \"epoch:1\"", ", rewind = \"final\"", 1));
    run(&tool, 0, &["train", &recipe, "--out", &tool.path("dense")]);
    run(&tool, 0, &["prune", &recipe, "--model", &tool.path("dense"), "--out", &tool.path("once")]);
    run(&tool, 0, &["prune", &recipe, "--model", &tool.path("once"), "--out", &tool.path("twice")]);
    let mask = |stage: &str| MaskSet::load(tool.root().join(stage).join("model/mask.safetensors")).unwrap();
    let (once, twice) = (mask("once"), mask("twice"));
    assert_eq!(twice.intersect(&once).unwrap(), twice, "a weight that was gone came back");
    // Half of the half that was left, up to rounding.
    assert!((once.sparsity() - 0.5).abs() < 1e-3 && (twice.sparsity() - 0.75).abs() < 1e-3);
    let record = json(&tool.root().join("twice/model/stage.json"));
    assert_eq!(record["sparsity"].as_f64(), Some(twice.sparsity()));
}

#[test]
fn a_dense_retrain_belongs_to_the_sparse_network_that_it_is_compared_with() {
    let tool = Tool::new();
    let recipe =
        tool.file("tiny.toml", TINY.replacen("name = \"retrain\"", "name = \"retrain\"\nmask = \"none\"", 1));
    run(&tool, 0, &["run", &recipe, "--out", &tool.path("out")]);
    let report = json(&tool.root().join("out/results.json"));
    let rows: Vec<&Value> =
        report["rows"].as_array().unwrap().iter().filter(|row| row["network_name"] == "sparse").collect();
    assert_eq!(rows.len(), 3);
    for row in &rows {
        assert_eq!((&row["network"], &row["sparsity"]), (&"sparse".into(), &rows[0]["sparsity"]), "{row}");
        assert!(row["gap"]["average"]["value"].is_number(), "{row}");
    }
    let retrain = rows.iter().find(|row| row["method"] == "retrain").unwrap();
    assert_eq!(retrain["diagnostics"]["sparsity_of_result"], 0.0);
    assert!(!tool.root().join("out/sparse/retrain/mask.safetensors").exists());
}

#[test]
fn a_method_that_diverges_is_a_row_and_the_others_go_on() {
    let tool = Tool::new();
    let ascent =
        "[[method]]\nname = \"gradient-ascent\"\nlearning_rate = 1e30\n\n[[method]]\nname = \"finetune\"";
    let recipe = tool.file("tiny.toml", TINY.replacen("[[method]]\nname = \"finetune\"", ascent, 1));
    let out = tool.path("out");
    for more in [&[][..], &["--resume"]] {
        let mut line = vec!["run", &recipe, "--out", &out];
        line.extend(more);
        let done = tool.run(&line);
        assert_eq!(done.code, 6, "{}", done.stderr);
        assert!(done.stdout.contains("gradient-ascent (diverged)"), "{}", done.stdout);
        let last = done.stderr.split("error[").last().unwrap();
        for word in ["E_DIVERGED] ", "dense/gradient-ascent, sparse/gradient-ascent", "2 of 8 rows"] {
            assert!(last.contains(word), "no {word:?} in {}", done.stderr);
        }
        let report = json(&tool.root().join("out/results.json"));
        let rows = report["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 8);
        for row in rows {
            let diverged = row["method"] == "gradient-ascent";
            assert_eq!(row["state"], if diverged { "diverged" } else { "done" }, "{row}");
            let absent = row["evaluation"]["unlearning_accuracy"]["absent"].as_str();
            assert_eq!(absent.is_some_and(|why| why.contains("gradient-ascent: step")), diverged, "{row}");
            assert_eq!(row["gap"]["average"]["value"].is_number(), !diverged, "{row}");
        }
        assert_eq!(rows[6]["network"], "sparse");
        assert!(!tool.root().join("out/work").exists(), "checkpoints of the lost stages were left");
    }
}

#[test]
fn a_single_method_that_diverges_is_named() {
    let tool = Tool::new();
    let recipe = tool.file("tiny.toml", TINY);
    let (dense, out) = (tool.path("dense"), tool.path("out"));
    run(&tool, 0, &["train", &recipe, "--out", &dense]);
    let rate = "method.finetune.learning_rate=1e30";
    let line = ["forget", &recipe, "--model", &dense, "--method", "finetune", "--out", &out, "--set", rate];
    let told = run(&tool, 6, &line);
    assert!(told.starts_with("error[E_DIVERGED] forget: finetune: step"), "{told}");
}

#[test]
fn every_switch_that_follows_published_code_is_told() {
    let tool = Tool::new();
    let text = TINY
        .replacen("rewind = \"epoch:1\"", "rewind = \"epoch:1\", retrain_length = \"reference\"", 1)
        .replacen("spec = \"class:0\"", "spec = \"reference:5@2\"", 1)
        + "\n[split]\nrule = \"reference\"\nfraction = 0.2\n";
    let recipe = tool.file("tiny.toml", text);
    run(&tool, 0, &["run", &recipe, "--out", &tool.path("out")]);
    let report = json(&tool.root().join("out/results.json"));
    for row in report["rows"].as_array().unwrap() {
        let mut expected = vec!["forget", "split"];
        if row["network_name"] == "sparse" {
            expected.insert(1, "retrain_length");
        }
        assert_eq!(row["reference"], Value::from(expected), "{row}");
    }
}

#[test]
fn rows_carry_the_seeds_that_their_models_were_made_with() {
    let tool = Tool::new();
    let recipe = tool.file("tiny.toml", TINY);
    let (dense, ft) = (tool.path("dense"), tool.path("ft"));
    run(&tool, 0, &["train", &recipe, "--out", &dense, "--set", "seeds.init=5"]);
    let line = [
        "forget",
        &recipe,
        "--model",
        &dense,
        "--method",
        "finetune",
        "--out",
        &ft,
        "--set",
        "seeds.method=9",
    ];
    run(&tool, 0, &line);
    run(&tool, 0, &["eval", &recipe, "--model", &dense, "--model", &ft, "--out", &tool.path("judged")]);
    let report = json(&tool.root().join("judged/results.json"));
    let seeds = |row: usize, name: &str| report["rows"][row]["seeds"][name].as_u64();
    assert_eq!((seeds(0, "init"), seeds(0, "method"), seeds(0, "forget")), (Some(5), Some(1), Some(1)));
    assert_eq!((seeds(1, "init"), seeds(1, "method")), (Some(5), Some(9)));
    let record = json(&tool.root().join("ft/model/stage.json"));
    assert_eq!(record["forget"].as_str().map(str::len), Some(64), "{record}");
    // What is left of a pruned network is trained anew, and begins with the new first weights where it rewinds to them.
    for (rewind, init) in [("init", 7), ("final", 5)] {
        let (out, rewind) = (tool.path(rewind), format!("network.sparse.pruning.rewind={rewind}"));
        let sets = ["--set", &rewind, "--set", "seeds.init=7", "--set", "seeds.training=8"];
        run(&tool, 0, &[&["prune", &recipe, "--model", &dense, "--out", &out], &sets[..]].concat());
        let seeds = &json(Path::new(&out).join("model/stage.json").as_path())["seeds"];
        assert_eq!((seeds["init"].as_u64(), seeds["training"].as_u64()), (Some(init), Some(8)), "{rewind}");
    }
    // An original may be looked at under any forget set.
    run(&tool, 0, &["eval", &recipe, "--model", &dense, "--set", "forget.spec=class:3"]);
}

#[cfg(unix)]
#[test]
fn a_data_folder_that_no_recipe_can_hold_is_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let tool = Tool::new();
    let folder = tool.root().join(OsStr::from_bytes(b"pictures-\xff"));
    fs::create_dir(&folder).unwrap();
    let text = TINY.replacen("kind = \"synthetic\"", "kind = \"auto\"", 1).replacen("size = 8\n", "", 1);
    let recipe = tool.file("tiny.toml", text);
    let mut command = tool.command(&["run", &recipe, "--out", &tool.path("out"), "--data"]);
    let done: common::Done = command.arg(folder).output().unwrap().into();
    assert_eq!(done.code, 2, "{}", done.stderr);
    assert!(done.stderr.starts_with("error[E_CONFIG] --data: got"), "{}", done.stderr);
    assert!(done.stderr.contains("UTF-8"), "{}", done.stderr);
    assert!(!tool.root().join("out").exists());
}

/// Two networks of one sparsity and one set of seeds: each row is beside the Retrain of its own.
#[test]
fn eval_takes_the_retrain_of_the_same_network() {
    let tool = Tool::new();
    let recipe = tool.file("tiny.toml", TINY);
    let path = |name: &str| tool.path(name);
    for (name, score) in [("a", "magnitude"), ("b", "random")] {
        let set = format!("network.sparse.pruning.score={score}");
        let set = ["--set", &set, "--set", "network.sparse.pruning.rewind=final"];
        let line = |more: &[&str]| run(&tool, 0, &[more, &set[..]].concat());
        line(&["train", &recipe, "--out", &path(&format!("{name}-dense"))]);
        let (dense, sparse) = (path(&format!("{name}-dense")), path(&format!("{name}-sparse")));
        line(&["prune", &recipe, "--model", &dense, "--out", &sparse]);
        for method in ["finetune", "retrain"] {
            let out = path(&format!("{name}-{method}"));
            line(&["forget", &recipe, "--model", &sparse, "--method", method, "--out", &out]);
        }
    }
    let mut line = vec!["eval".to_owned(), recipe.clone(), "--out".into(), path("judged")];
    for model in ["a-sparse", "a-finetune", "a-retrain", "b-finetune", "b-retrain"] {
        line.extend(["--model".into(), path(model)]);
    }
    run(&tool, 0, &line.iter().map(String::as_str).collect::<Vec<_>>());
    let report = json(&tool.root().join("judged/results.json"));
    let rows = report["rows"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["network_name"].as_str().unwrap()).collect();
    let (a, b) = (path("a-sparse"), path("b-finetune"));
    assert_eq!(names, [&*a, &*a, &*a, &*b, &*b]);
    assert_eq!(rows[2]["gap"]["average"]["value"], 0.0, "{}", rows[2]);
    assert_eq!(rows[4]["gap"]["average"]["value"], 0.0, "{}", rows[4]);
    assert_eq!(rows[1]["hyperparameters"]["epochs"], 1, "{}", rows[1]);
    // One network needs no name.
    run(
        &tool,
        0,
        &[
            "eval",
            &recipe,
            "--model",
            &path("a-sparse"),
            "--model",
            &path("a-retrain"),
            "--out",
            &path("one"),
        ],
    );
    let report = json(&tool.root().join("one/results.json"));
    assert!(report["rows"][0]["network_name"].is_null());
    assert!(report["rows"][0]["gap"]["average"]["value"].is_number());
}

/// What was measured before an error is not lost with it.
#[test]
fn a_run_that_ends_early_keeps_its_rows() {
    let tool = Tool::new();
    let recipe = tool.file("tiny.toml", TINY);
    let (out, rate) = (tool.path("out"), "network.sparse.pruning.rate=0.999");
    let said = run(&tool, 2, &["run", &recipe, "--out", &out, "--set", rate]);
    assert!(said.contains("E_PRUNE_LAYER_EMPTY"), "{said}");
    let report = json(&tool.root().join("out/results.json"));
    assert_eq!(report["rows"].as_array().unwrap().len(), 3, "the dense network's");
    assert!(report["about"]["ended early"].as_str().unwrap().contains("E_PRUNE_LAYER_EMPTY"), "{report}");
    let table = fs::read_to_string(tool.root().join("out/results.md")).unwrap();
    assert!(table.contains("ended early, these are not all rows: E_PRUNE_LAYER_EMPTY"), "{table}");
}

/// Whoever closes standard error wants no notes; the work goes on.
#[test]
fn a_closed_standard_error_ends_nothing() {
    let tool = Tool::new();
    let recipe = tool.file("tiny.toml", TINY);
    let out = tool.path("dense");
    let mut command = tool.command(&["-vv", "train", &recipe, "--out", &out]);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stderr.take());
    assert!(child.wait().unwrap().success());
    assert!(tool.root().join("dense/model/model.safetensors").is_file());
}
