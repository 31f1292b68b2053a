//! Vision transformers that go out to other libraries' folders and come back.

// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::{TINY, TINY_VIT, Tool, contents};
use serde_json::Value;
use unlearn::models::checkpoint::Metadata;
use unlearn::models::vit::HuggingFaceVit;
use unlearn::models::{HostTensor, StateDict, checkpoint};
use unlearn::prune::MaskSet;

fn state(path: impl AsRef<Path>) -> StateDict {
    checkpoint::read(path).unwrap().state
}

/// A trained transformer in `model/`.
fn trained(tool: &Tool) -> (String, StateDict) {
    let recipe = tool.file("tiny.toml", TINY_VIT);
    tool.succeeds(&["train", &recipe, "--out", &tool.path("model")]);
    (recipe, state(tool.root().join("model/model/model.safetensors")))
}

#[test]
fn a_folder_of_hugging_face_goes_out_and_comes_back_to_the_bit() {
    let tool = Tool::new();
    let (recipe, there) = trained(&tool);
    let (model, folder, back) = (tool.path("model"), tool.path("a/folder"), tool.path("back"));
    let said = tool.succeeds(&["export", &model, "--for", "transformers", "--out", &folder]);
    assert!(said.contains(&there.fingerprint()), "{said}");
    let read = HuggingFaceVit::read(&folder).unwrap();
    assert_eq!((read.config.image, read.config.classes), (8, 10));
    let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["config.json", "model.safetensors", "preprocessor_config.json"]);
    assert_eq!(fs::read_dir(tool.root().join("a")).unwrap().count(), 1, "something was left beside it");

    tool.succeeds(&["import", &folder, "--out", &back]);
    assert_eq!(state(tool.root().join("back/model.safetensors")), there);
    // Out again: the same bytes in every file.
    tool.succeeds(&["export", &back, "--for", "transformers", "--out", &tool.path("again")]);
    let files = |folder: &str| {
        let strip = |(path, hash): (std::path::PathBuf, String)| (path.file_name().unwrap().to_owned(), hash);
        contents(&tool.root().join(folder)).into_iter().map(strip).collect::<Vec<_>>()
    };
    assert_eq!(files("again"), files("a/folder"));
    // A folder is a model like any other, and what is made of it says what it began as.
    for (source, name) in [(&back, "one"), (&folder, "two")] {
        let out = tool.path(name);
        tool.succeeds(&["forget", &recipe, "--method", "fisher", "--model", source, "--out", &out]);
        let file = tool.root().join(name).join("model");
        let record: Value = serde_json::from_slice(&fs::read(file.join("stage.json")).unwrap()).unwrap();
        let hash = &record["pretrained"]["files"]["model.safetensors"];
        let bytes = fs::read(tool.root().join("a/folder/model.safetensors")).unwrap();
        assert_eq!(hash, common::hash(&bytes).as_str(), "{record}");
        assert!(record["pretrained"]["hub"].is_null());
        let metadata = checkpoint::read(file.join("model.safetensors")).unwrap().metadata;
        let said: Value = serde_json::from_str(metadata.get("unlearn.pretrained").unwrap()).unwrap();
        assert_eq!(said, record["pretrained"]);
    }
    let model = |name: &str| state(tool.root().join(name).join("model/model.safetensors"));
    assert_eq!(model("one"), model("two"));
    assert_ne!(model("one"), there);
}

#[test]
fn timms_names_go_out_and_come_back_to_the_bit() {
    let tool = Tool::new();
    let (_, there) = trained(&tool);
    let model = tool.path("model");
    for file in ["timm.safetensors", "timm.pth"] {
        tool.succeeds(&["export", &model, "--for", "timm", "--out", &tool.path(file)]);
        let out = state(tool.root().join(file));
        assert!(out.get("blocks.0.attn.qkv.weight").is_some() && out.get("head.bias").is_some());
    }
    tool.succeeds(&["import", &tool.path("timm.safetensors"), "--out", &tool.path("back")]);
    assert_eq!(state(tool.root().join("back/model.safetensors")), there);
    // A bare state dict says nothing of its architecture; the ε of its layer norms is timm's.
    let source = tool.path("timm.pth");
    tool.fails(&["import", &source, "--out", &tool.path("no")], 2, &["E_CONFIG", "--model"]);
    let named =
        ["import", &source, "--model", "vit-tiny-cifar", "--classes", "10", "--out", &tool.path("no")];
    tool.fails(&named, 4, &["E_CKPT_MISMATCH"]);
}

#[test]
fn the_epsilon_of_timms_networks_is_timms() {
    let tool = Tool::new();
    let small = unlearn::models::VitConfig { layers: 6, ..unlearn::models::VitConfig::tiny_cifar(3) };
    let mut rng = unlearn::data::Seed(1).rng(unlearn::data::Stream::Init, 0, 0);
    let device = burn::tensor::Device::flex();
    let model = small.init(&[0.5; 3], &[0.5; 3], &device, &mut rng).unwrap();
    let theirs = unlearn::models::vit::to_timm(&StateDict::of(&model).unwrap()).unwrap();
    let file = tool.root().join("timm.pth");
    checkpoint::write_torch(&file, &theirs).unwrap();
    let file = file.to_str().unwrap();
    tool.succeeds(&[
        "import",
        file,
        "--model",
        "vit-tiny-cifar",
        "--classes",
        "3",
        "--out",
        &tool.path("in"),
    ]);
    let metadata = checkpoint::read(tool.root().join("in/model.safetensors")).unwrap().metadata;
    let Some(unlearn::models::ModelConfig::Vit(config)) = metadata.model().unwrap() else { panic!() };
    assert_eq!(config.layer_norm_eps, 1e-6);
}

#[test]
fn what_cannot_go_out_is_refused_and_leaves_nothing() {
    let tool = Tool::new();
    trained(&tool);
    let (vit, out) = (tool.path("model"), tool.path("out"));
    tool.fails(&["export", &vit, "--out", &out], 2, &["E_CONFIG", "--for transformers"]);
    tool.fails(&["export", &vit, "--for", "keras", "--out", &out], 2, &["E_USAGE", "keras"]);
    let bare = tool.path("bare.pth");
    tool.succeeds(&["export", &vit, "--out", &bare]);
    tool.fails(&["export", &bare, "--for", "transformers", "--out", &out], 4, &["E_CKPT_MODEL", "import"]);
    let recipe = tool.file("resnet.toml", TINY);
    tool.succeeds(&["train", &recipe, "--out", &tool.path("resnet")]);
    let resnet = tool.path("resnet");
    tool.fails(&["export", &resnet, "--for", "transformers", "--out", &out], 2, &["--for", "ResNet"]);
    let timm = tool.path("x.pth");
    tool.fails(&["export", &resnet, "--for", "timm", "--out", &timm], 2, &["--for", "ResNet"]);
    let mean = TINY_VIT.replacen("heads = 2", "heads = 2\npooling = \"mean\"", 1);
    let recipe = tool.file("mean.toml", mean);
    tool.succeeds(&["train", &recipe, "--out", &tool.path("mean")]);
    let mean = tool.path("mean");
    tool.fails(
        &["export", &mean, "--for", "transformers", "--out", &out],
        4,
        &["E_FOREIGN_CONFIG", "pooling"],
    );
    assert!(!tool.root().join("out").exists() && !tool.root().join("x.pth").exists());
    let mut left =
        fs::read_dir(tool.root()).unwrap().filter_map(|e| e.unwrap().file_name().into_string().ok());
    assert!(!left.any(|name| name.starts_with('.')), "something was left");
}

/// A pruned transformer in `sparse/`, and its mask.
fn pruned(tool: &Tool, prunable: &str) -> (String, StateDict, MaskSet) {
    let text = TINY_VIT.replacen("prunable = \"dense\"", &format!("prunable = {prunable}"), 1);
    let recipe = tool.file("tiny.toml", text);
    tool.succeeds(&["train", &recipe, "--out", &tool.path("model")]);
    tool.succeeds(&["prune", &recipe, "--model", &tool.path("model"), "--out", &tool.path("sparse")]);
    let (state, mask) = network(tool, "sparse/model");
    (recipe, state, mask.unwrap())
}

fn network(tool: &Tool, folder: &str) -> (StateDict, Option<MaskSet>) {
    let folder = tool.root().join(folder);
    let mask = folder.join("mask.safetensors");
    (state(folder.join("model.safetensors")), mask.exists().then(|| MaskSet::load(mask).unwrap()))
}

#[test]
fn the_mask_of_a_pruned_network_goes_out_to_timm_and_comes_back() {
    // All parts of the fused layer are masked, or only one, or none.
    let one = "{ rule = \"reference-dense\", include = [\"*.key.weight\"] }";
    for (prunable, fused) in [("\"dense\"", true), (one, true), ("\"reference-dense\"", false)] {
        let tool = Tool::new();
        let (recipe, there, mask) = pruned(&tool, prunable);
        for file in ["timm.safetensors", "timm.pth"] {
            let (sparse, out) = (tool.path("sparse"), tool.path(file));
            tool.succeeds(&["export", &sparse, "--for", "timm", "--masks", "--out", &out]);
            let read = checkpoint::read(&out).unwrap();
            assert_eq!(read.masks.get("blocks.0.attn.qkv.weight").is_some(), fused, "{prunable}");
            assert!(read.masks.get("blocks.0.mlp.fc1.weight").is_some());
            assert_eq!(read.state.get("blocks.0.attn.qkv.weight").unwrap().shape, [24, 8]);
        }
        tool.succeeds(&["import", &tool.path("timm.safetensors"), "--out", &tool.path("back")]);
        assert_eq!(network(&tool, "back"), (there, Some(mask)), "{prunable}");
        // It stays sparse when it is worked on.
        let (back, out) = (tool.path("back"), tool.path("fisher"));
        tool.succeeds(&["forget", &recipe, "--method", "fisher", "--model", &back, "--out", &out]);
        assert_eq!(network(&tool, "fisher/model").1, network(&tool, "back").1);
        // A file whose masks are gone is refused as any other.
        let mut bare = Metadata::new();
        let read = checkpoint::read(tool.path("timm.safetensors")).unwrap();
        for (key, value) in read.metadata.iter() {
            bare = bare.with(key, value);
        }
        let file = tool.path("bare.safetensors");
        checkpoint::write(&file, &read.state, &bare).unwrap();
        tool.fails(&["import", &file, "--out", &tool.path("no")], 4, &["E_MASK_FILE", "no mask"]);
    }
}

/// What Python leaves: masks in a file of timm's that says nothing of itself.
#[test]
fn masks_of_a_bare_timm_file_come_in() {
    let tool = Tool::new();
    let small = unlearn::models::VitConfig::tiny_cifar(3);
    let mut rng = unlearn::data::Seed(1).rng(unlearn::data::Stream::Init, 0, 0);
    let model = small.init(&[0.5; 3], &[0.5; 3], &burn::tensor::Device::flex(), &mut rng).unwrap();
    let mut theirs = unlearn::models::vit::to_timm(&StateDict::of(&model).unwrap()).unwrap();
    let weight = theirs.remove("blocks.0.attn.qkv.weight").unwrap();
    let values: Vec<f32> = (0..weight.values.len()).map(|i| (i % 4 / 2) as f32).collect();
    let mask = HostTensor { shape: weight.shape.clone(), values };
    theirs.insert("blocks.0.attn.qkv.weight_orig", weight).unwrap();
    theirs.insert("blocks.0.attn.qkv.weight_mask", mask).unwrap();
    let file = tool.path("timm.pth");
    checkpoint::write_torch(&file, &theirs).unwrap();
    let line = ["import", &file, "--model", "vit-tiny-cifar", "--classes", "3", "--out", &tool.path("in")];
    let said = tool.succeeds(&line);
    assert!(said.contains("sparsity 50.0 %"), "{said}");
    let (state, mask) = network(&tool, "in");
    let mask = mask.unwrap();
    assert_eq!(mask.len(), 3);
    let name = "vit.encoder.layer.0.attention.attention.value.weight";
    // In memory rows are columns.
    let keep = mask.get(&name.into()).unwrap().keep();
    let values = &state.get(name).unwrap().values;
    assert!((0..128 * 128).all(|i| keep[i] || values[i % 128 * 128 + i / 128] == 0.0));
}

#[test]
fn the_mask_of_a_pruned_network_goes_out_to_transformers_and_comes_back() {
    let tool = Tool::new();
    let (recipe, there, mask) = pruned(&tool, "\"dense\"");
    let (sparse, folder, back) = (tool.path("sparse"), tool.path("folder"), tool.path("back"));
    tool.succeeds(&["export", &sparse, "--for", "transformers", "--masks", "--out", &folder]);
    let weights = checkpoint::read(tool.root().join("folder/model.safetensors")).unwrap();
    assert!(weights.masks.is_empty(), "transformers knows no such names");
    tool.succeeds(&["import", &folder, "--out", &back]);
    assert_eq!(network(&tool, "back"), (there.clone(), Some(mask.clone())));
    // The folder is a model of its own, too, and goes on to others.
    let line = ["forget", &recipe, "--method", "fisher", "--model", &folder, "--out", &tool.path("fisher")];
    tool.succeeds(&line);
    assert_eq!(network(&tool, "fisher/model").1.as_ref(), Some(&mask));
    let timm = tool.path("timm.safetensors");
    tool.succeeds(&["export", &folder, "--for", "timm", "--masks", "--out", &timm]);
    tool.succeeds(&["import", &timm, "--out", &tool.path("again")]);
    assert_eq!(network(&tool, "again"), (there, Some(mask.clone())));
    // What it began as stands in the record, the mask too.
    let metadata = checkpoint::read(tool.root().join("back/model.safetensors")).unwrap().metadata;
    let said: Value = serde_json::from_str(metadata.get("unlearn.pretrained").unwrap()).unwrap();
    let bytes = fs::read(tool.root().join("folder/mask.safetensors")).unwrap();
    assert_eq!(said["files"]["mask.safetensors"], common::hash(&bytes).as_str());
    // Training begins with the weights alone, and says so.
    let done = tool.run(&["train", &recipe, "--pretrained", &folder, "--out", &tool.path("tuned")]);
    assert!(done.code == 0 && done.stderr.contains("has a mask"), "{}", done.stderr);
    assert_eq!(network(&tool, "tuned/model").1, None);
    // Weights that have grown since, as after further training in Python.
    let dense = state(tool.root().join("model/model/model.safetensors"));
    let mut theirs = StateDict::new();
    for (name, tensor) in dense.iter().filter(|(name, _)| !name.starts_with("normalize.")) {
        theirs.insert(name, tensor.clone()).unwrap();
    }
    checkpoint::write(tool.root().join("folder/model.safetensors"), &theirs, &Metadata::new()).unwrap();
    let line = ["import", &folder, "--out", &tool.path("no")];
    tool.fails(&line, 4, &["E_MASK_FILE", "mask.safetensors", "not zero", "remove"]);
    fs::remove_file(tool.root().join("folder/mask.safetensors")).unwrap();
    tool.succeeds(&["import", &folder, "--out", &tool.path("dense")]);
}

#[test]
fn a_mask_that_stays_behind_is_told() {
    let tool = Tool::new();
    pruned(&tool, "\"dense\"");
    for (model, told) in [("sparse", true), ("model", false)] {
        for (library, ending) in [("pytorch", ".pth"), ("timm", ".safetensors"), ("transformers", "")] {
            let (source, out) = (tool.path(model), tool.path(&format!("{model}-{library}{ending}")));
            let done = tool.run(&["export", &source, "--for", library, "--out", &out]);
            assert_eq!(done.code, 0, "{}", done.stderr);
            assert_eq!(done.stderr.contains("--masks"), told, "{model} {library}: {}", done.stderr);
            let done = tool.run(&[
                "export",
                &source,
                "--for",
                library,
                "--masks",
                "--out",
                &format!("{out}-with{ending}"),
            ]);
            assert!(!done.stderr.contains("--masks"), "{}", done.stderr);
        }
    }
    assert!(!tool.root().join("sparse-transformers/mask.safetensors").exists());
}
