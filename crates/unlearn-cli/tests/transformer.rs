//! A vision transformer through the verbs, from its first weights and from a folder of Hugging Face.

// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod bad;
mod common;

use bad::transformers::folder;
use common::{TINY_VIT, Tool};
use unlearn::models::StateDict;

#[test]
fn a_recipe_trains_prunes_and_forgets() {
    let tool = Tool::new();
    let recipe = tool.file("tiny.toml", TINY_VIT);
    let done = tool.run(&["run", &recipe, "--out", &tool.path("out")]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    for row in ["original", "retrain", "fisher", "influence"] {
        assert!(done.stdout.to_lowercase().contains(row), "no row {row}:\n{}", done.stdout);
    }
    // Both layers that the published code would not prune lost half of their weights, too.
    let state =
        StateDict::read_safetensors(tool.root().join("out/sparse/original/model.safetensors")).unwrap();
    let zeros = |name: &str| state.get(name).unwrap().values.iter().filter(|v| **v == 0.0).count();
    let block = "vit.encoder.layer.0";
    assert!(zeros(&format!("{block}.attention.attention.value.weight")) > 10);
    assert_eq!(zeros("classifier.weight") + zeros("vit.embeddings.position_embeddings"), 0);
}

/// With a learning rate of nearly nothing the trained model is the one of the folder.
#[test]
fn training_begins_with_a_folder() {
    let trained = |classes: usize| {
        let tool = Tool::new();
        let recipe = tool.file("tiny.toml", TINY_VIT);
        let (source, out) = (folder(&tool, classes), tool.path("out"));
        let rate = ["--set", "training.learning_rate=1e-12"];
        let done =
            tool.run(&[&["train", &recipe, "--out", &out, "--pretrained", &source][..], &rate].concat());
        assert_eq!(done.code, 0, "{}", done.stderr);
        let read = |path: &str| StateDict::read_safetensors(tool.root().join(path)).unwrap();
        (read("out/model/model.safetensors"), read("folder/model.safetensors"))
    };
    let (got, given) = trained(10);
    for (name, tensor) in given.iter() {
        let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-6;
        assert!(got.get(name).unwrap().values.iter().zip(&tensor.values).all(near), "{name}");
    }
    // The folder's constants, not those of the pictures.
    assert_eq!(got.get("normalize.mean").unwrap().values, [0.5; 3]);
    // Other classes: a classifier of its own, the rest as given.
    let (got, given) = trained(7);
    assert_eq!(got.get("classifier.weight").unwrap().shape, [10, 8]);
    let name = "vit.encoder.layer.0.intermediate.dense.weight";
    let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-6;
    assert!(got.get(name).unwrap().values.iter().zip(&given.get(name).unwrap().values).all(near));
}
