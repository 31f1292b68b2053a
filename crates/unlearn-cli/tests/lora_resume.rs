//! Adapters with dropout: training that is stopped and resumed in another process ends with the bytes of one that never
//! was. Burn's generator, which dropout draws from, is one for the whole process; so each training has a process of its
//! own here.

// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used)]
#![cfg(unix)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{TINY, TINY_VIT, Tool, hash};

/// The safetensors files of a stage, by name, and the adapters' description.
fn bytes(stage: &Path) -> Vec<(String, String)> {
    let names = ["model.safetensors", "adapter/adapter_model.safetensors", "adapter/adapter_config.json"];
    names.iter().map(|name| ((*name).to_owned(), hash(&fs::read(stage.join(name)).unwrap()))).collect()
}

/// Trains an original, then adapters on it: once whole, and once stopped `stops` times, in the middle of an epoch as a
/// rule.
fn stopped_is_whole(text: &str, lora: &str) {
    let tool = Tool::new();
    let method =
        format!("name = \"finetune\"\nepochs = 12\nlearning_rate = 0.003\nbatch_size = 3\nlora = {lora}");
    let recipe = tool.file("recipe.toml", text.replacen("name = \"finetune\"\nepochs = 1", &method, 1));
    let done = tool.run(&["train", &recipe, "--out", &tool.path("model")]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let model = tool.path("model");
    let line = |out: &str| {
        let line =
            ["forget", &recipe, "--method", "finetune", "--model", &model, "--out", out, "--resume", "-q"];
        line.map(str::to_owned)
    };
    let forget = |out: &str| {
        let line = line(&tool.path(out));
        let done = tool.run(&line.each_ref().map(String::as_str));
        assert_eq!(done.code, 0, "{}", done.stderr);
        bytes(&tool.root().join(out).join("model"))
    };
    let began = Instant::now();
    let whole = forget("whole");
    let time = began.elapsed();
    assert_eq!(forget("whole-again"), whole, "two whole trainings differ: this test would say nothing");

    // Without dropout it is another network: the draws matter.
    let plain = ["--set", "method.finetune.lora.dropout=0.0"];
    let plain_line = [&line(&tool.path("plain"))[..], &plain.map(str::to_owned)].concat();
    let done = tool.run(&plain_line.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert_ne!(bytes(&tool.root().join("plain/model")), whole);

    let mut interrupted = 0;
    for (number, signal) in ["-TERM", "-KILL", "-TERM", "-KILL"].into_iter().enumerate() {
        let name = format!("stopped-{number}");
        let line = line(&tool.path(&name));
        let line = line.each_ref().map(String::as_str);
        let mut child = tool.command(&line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Training is under way once there are checkpoints; then at another moment each time.
        let checkpoints = tool.root().join(&name).join("work/model/ckpt");
        let began = Instant::now();
        while !checkpoints.exists() && child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < Duration::from_mins(1), "the run did not begin");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(time.mul_f64(0.1 * f64::from(number as u32)));
        if child.try_wait().unwrap().is_none() {
            let sent = std::process::Command::new("kill").args([signal, &child.id().to_string()]).status();
            assert!(sent.unwrap().success());
        }
        let ended = child.wait().unwrap();
        interrupted += u32::from(!ended.success());
        assert_eq!(forget(&name), whole, "{signal} ({ended})");
    }
    assert!(interrupted >= 2, "only {interrupted} of 4 were stopped before their end");
}

#[test]
fn dropout_beside_convolutions_goes_on_where_it_was() {
    stopped_is_whole(
        TINY,
        "{ rank = 2, alpha = 8, dropout = 0.3, targets = [\"conv1\", \"conv2\", \"fc\"] }",
    );
}

#[test]
fn dropout_beside_a_transformers_layers_goes_on_where_it_was() {
    let text = TINY_VIT.replacen("name = \"fisher\"", "name = \"finetune\"\nepochs = 1", 1);
    stopped_is_whole(
        &text,
        "{ rank = 2, alpha = 8, dropout = 0.3, targets = [\"query\", \"value\", \"dense\"] }",
    );
}
