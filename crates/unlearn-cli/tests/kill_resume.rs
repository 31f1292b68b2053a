//! A run that is killed at any moment and resumed ends with the bytes of one that never was.

// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used)]
#![cfg(unix)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{TINY, Tool, hash};
use rand::{RngExt, SeedableRng};
use serde_json::Value;

const KILLS: u32 = 20;

#[test]
fn twenty_kills_at_random_moments_change_no_byte() {
    let tool = Tool::new();
    let recipe = tool.file("recipe.toml", longer());
    let began = Instant::now();
    let whole = tool.run(&["run", &recipe, "--out", &tool.path("whole"), "--quiet"]);
    let time = began.elapsed();
    assert_eq!(whole.code, 0, "{}", whole.stderr);
    let expected = results(&tool.root().join("whole"));
    assert!(expected.len() >= 2 + 6, "{:?}", expected.keys());

    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let mut rng = rand::rngs::SmallRng::seed_from_u64(seed);
    let mut killed = 0;
    for kill in 0..KILLS {
        let name = format!("killed-{kill}");
        let out = tool.path(&name);
        // One in each twentieth of the run, so that early and late moments both come; every third
        // run is killed once more while it resumes.
        let share = (f64::from(kill) + rng.random::<f64>()) / f64::from(KILLS);
        let mut moments = vec![time.mul_f64(share)];
        if kill % 3 == 0 {
            moments.push(time.mul_f64(rng.random::<f64>() * (1.0 - share)));
        }
        for moment in &moments {
            let child = start(&tool, &["run", &recipe, "--out", &out, "--resume", "--quiet"]);
            killed += u32::from(kill_after(child, *moment));
        }
        let resumed = tool.run(&["run", &recipe, "--out", &out, "--resume", "--quiet"]);
        let told = format!("kill {kill} at {moments:?} of {time:?} (seed {seed})");
        assert_eq!(resumed.code, 0, "{told}: {}", resumed.stderr);
        assert_eq!(results(&tool.root().join(&name)), expected, "{told}");
        fs::remove_dir_all(tool.root().join(&name)).unwrap();
    }
    assert!(killed >= KILLS / 2, "only {killed} runs were killed before their end (seed {seed})");
}

#[test]
fn sigterm_finishes_the_step_and_ends_with_75() {
    let tool = Tool::new();
    let recipe = tool.file("recipe.toml", longer().replacen("epochs = 4", "epochs = 200", 1));
    let out = tool.path("out");
    let line = ["run", &recipe, "--out", &out, "--set", "network=[{name=\"dense\"}]", "--resume"];
    let child = start(&tool, &line);
    // The first checkpoint: training is under way.
    wait_for(&tool.root().join("out/work/base/fit/ckpt"));
    terminate(&child);
    let ended = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(75), "{told}");
    assert!(told.contains("error[E_INTERRUPTED]") && told.contains("--resume"), "{told}");
    assert!(!tool.root().join("out/results.json").exists());
}

#[test]
fn methods_without_steps_end_at_once_and_what_was_done_before_stays() {
    let tool = Tool::new();
    let text = TINY
        .replacen("name = \"finetune\"\nepochs = 1", "name = \"fisher\"", 1)
        .replacen("train_per_class = 6", "train_per_class = 300", 1)
        .replacen("epochs = 2", "epochs = 1", 1);
    let recipe = tool.file("recipe.toml", text);
    let out = tool.path("out");
    let line = ["run", &recipe, "--out", &out, "--set", "network=[{name=\"dense\"}]"];
    let child = start(&tool, &line);
    wait_for(&tool.root().join("out/work/dense/fisher"));
    terminate(&child);
    let began = Instant::now();
    let ended = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(75), "{told}");
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    assert!(told.contains("error[E_INTERRUPTED]") && told.contains("--resume"), "{told}");
    assert!(tool.root().join("out/dense/retrain/COMMIT.json").is_file());
    assert!(!tool.root().join("out/dense/fisher").exists());
    assert!(!tool.root().join("out/results.json").exists());
}

#[test]
fn nobody_is_told_to_resume_what_keeps_nothing() {
    let tool = Tool::new();
    let scratch = tool.root().join("scratch");
    fs::create_dir(&scratch).unwrap();
    let mut command = tool.command(&["demo", "--quick", "--set", "training.epochs=2000"]);
    command.env("TMPDIR", &scratch).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let began = Instant::now();
    // Its folder is there: the handlers are too.
    while fs::read_dir(&scratch).unwrap().count() == 0 {
        assert!(began.elapsed() < Duration::from_mins(1), "the demo did not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(300));
    terminate(&child);
    let ended = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(75), "{told}");
    assert!(told.contains("E_INTERRUPTED") && !told.contains("--resume"), "{told}");
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0, "models of the demo were left");
}

fn terminate(child: &Child) {
    let sent = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

fn wait_for(path: &Path) {
    let began = Instant::now();
    while !path.exists() {
        assert!(began.elapsed() < Duration::from_mins(1), "the run did not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Long enough to be hit, with every kind of stage.
fn longer() -> String {
    TINY.replacen("epochs = 2", "epochs = 4", 1).replacen("epoch:1", "epoch:2", 1)
}

fn start(tool: &Tool, arguments: &[&str]) -> Child {
    tool.command(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Sends SIGKILL after `moment`; says whether the process was still at work.
fn kill_after(mut child: Child, moment: Duration) -> bool {
    std::thread::sleep(moment);
    let at_work = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    let ended = child.wait().unwrap();
    assert!(at_work || ended.success(), "it ended by itself with {ended}");
    at_work
}

/// Hashes of all models and masks, and `results.json` without times.
fn results(folder: &Path) -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, String> = common::contents(folder)
        .into_iter()
        .filter(|(path, _)| path.extension().is_some_and(|e| e == "safetensors"))
        .map(|(path, hash)| (path.strip_prefix(folder).unwrap().display().to_string(), hash))
        .collect();
    let mut json: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("results.json")).unwrap()).unwrap();
    for row in json["rows"].as_array_mut().unwrap() {
        assert!(row["seconds"].is_object(), "{row}");
        row.as_object_mut().unwrap().remove("seconds");
    }
    found.insert("results.json".into(), hash(json.to_string().as_bytes()));
    assert!(!folder.join("work").exists(), "checkpoints were left");
    found
}
