//! Adapters in recipes, and networks that go out and come back.

// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use common::{TINY, TINY_VIT, Tool};
use serde_json::Value;
use unlearn::models::{LoraConfig, ModelConfig, ResNetConfig, StateDict, Stem, add_adapters, checkpoint};
use unlearn::prune::MaskSet;

#[test]
fn a_recipe_with_adapters_reports_what_they_cost() {
    let tool = Tool::new();
    let lora = "epochs = 1\nlora = { rank = 2, alpha = 8, targets = [\"conv1\", \"conv2\"], modules_to_save = [\"fc\"] }";
    let recipe = tool.file("tiny.toml", TINY.replacen("epochs = 1", lora, 1));
    tool.succeeds(&["run", &recipe, "--out", &tool.path("out")]);
    let report: Value =
        serde_json::from_slice(&fs::read(tool.root().join("out/results.json")).unwrap()).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let adapted: Vec<&Value> = rows.iter().filter(|row| row["method"] == "finetune").collect();
    assert_eq!(adapted.len(), 2);
    for row in adapted {
        let told = &row["diagnostics"];
        let share = told["lora_trainable_share"].as_f64().unwrap();
        assert!(share > 0.0 && share < 0.5, "{row}");
        assert!(told["lora_merge_largest_change"].is_number(), "{row}");
    }
    // The pruned network is exactly as sparse as before.
    let folder = tool.root().join("out/sparse");
    let mask = |stage: &str| MaskSet::load(folder.join(stage).join("mask.safetensors")).unwrap();
    assert_eq!(mask("finetune"), mask("original"));
    let state = checkpoint::read(folder.join("finetune/model.safetensors")).unwrap().state;
    for (path, mask) in mask("finetune").iter() {
        let values = &state.get(path.as_str()).unwrap().values;
        assert!(values.iter().zip(mask.keep()).all(|(v, keep)| *keep || v.to_bits() == 0), "{path}");
    }
}

fn state(path: impl AsRef<Path>) -> StateDict {
    checkpoint::read(path).unwrap().state
}

#[test]
fn networks_go_out_and_come_back_to_the_bit() {
    let tool = Tool::new();
    let recipe = tool.file("recipe.toml", TINY);
    tool.succeeds(&["train", &recipe, "--out", &tool.path("dense")]);
    tool.succeeds(&["prune", &recipe, "--model", &tool.path("dense"), "--out", &tool.path("sparse")]);
    let original = tool.root().join("sparse/model");
    let there = state(original.join("model.safetensors"));

    for file in ["out.pth", "out.safetensors"] {
        tool.succeeds(&["export", &tool.path("sparse"), "--out", &tool.path(file)]);
        assert_eq!(state(tool.root().join(file)), there, "{file}");
        if file.ends_with("safetensors") {
            // Without its mask it is a dense network with zeros in it.
            let (plain, out) = (tool.path(file), tool.path("plain"));
            tool.succeeds(&["import", &plain, "--out", &out]);
            assert_eq!(state(tool.root().join("plain/model.safetensors")), there);
            assert!(!tool.root().join("plain/mask.safetensors").exists());
        }
        let masked = format!("masked-{file}");
        tool.succeeds(&["export", &tool.path("sparse"), "--masks", "--out", &tool.path(&masked)]);

        // A .pth does not say what it is, nor on which data it was trained.
        let back = format!("back-{file}");
        let (source, out) = (tool.path(&masked), tool.path(&back));
        let mut line = vec!["import", &source, "--out", &out];
        if file.ends_with("safetensors") {
            tool.succeeds(&line);
        } else {
            let said = tool.run(&line);
            assert!(said.stderr.contains("E_CONFIG") && said.stderr.contains("--model"), "{}", said.stderr);
            // The tiny network is none of the published ones.
            line.extend(["--model", "resnet18", "--classes", "10", "--width", "4"]);
            let said = tool.run(&line);
            assert!(said.stderr.contains("E_CKPT_MISMATCH"), "{}", said.stderr);
            continue;
        }
        assert_eq!(state(tool.root().join(&back).join("model.safetensors")), there);
        let mask = |folder: &Path| MaskSet::load(folder.join("mask.safetensors")).unwrap();
        assert_eq!(mask(&tool.root().join(&back)), mask(&original));
        // And it is a model like any other.
        let line = ["forget", &recipe, "--method", "finetune", "--model", &out, "--out", &tool.path("ft")];
        tool.succeeds(&line);
    }
}

#[test]
fn adapters_of_peft_are_merged_and_keep_the_network_sparse() {
    let tool = Tool::new();
    let recipe = tool.file("recipe.toml", TINY);
    tool.succeeds(&["train", &recipe, "--out", &tool.path("dense")]);
    tool.succeeds(&["prune", &recipe, "--model", &tool.path("dense"), "--out", &tool.path("sparse")]);
    let base = state(tool.root().join("sparse/model/model.safetensors"));
    let config = ResNetConfig { width: 4, blocks: [1, 1, 1, 1], classes: 10, stem: Stem::Cifar };
    let mut rng = unlearn::data::Seed(1).rng(unlearn::data::Stream::Adapters, 0, 0);
    let network = config.init(&[0.5; 3], &[0.25; 3], &Device::flex(), &mut rng).unwrap();
    let lora = LoraConfig { modules_to_save: vec!["fc".into()], ..LoraConfig::new(2, 8.0, ["conv1"]) };
    let adapted = add_adapters(base.load_into(network).unwrap(), &lora, &mut rng).unwrap();
    adapted.save_peft(tool.root().join("adapter"), None).unwrap();
    // B is drawn anew, so that there is something to merge.
    let weights = tool.root().join("adapter/adapter_model.safetensors");
    let mut changed = StateDict::new();
    for (name, tensor) in state(&weights).iter() {
        let mut tensor = tensor.clone();
        if name.contains("lora_B") {
            tensor.values.iter_mut().enumerate().for_each(|(i, v)| *v = 0.1 * ((i % 7) as f32 - 3.0));
        }
        changed.insert(name, tensor).unwrap();
    }
    changed.write_safetensors(weights).unwrap();

    let line =
        ["import", &tool.path("adapter"), "--base", &tool.path("sparse"), "--out", &tool.path("merged")];
    let said = tool.succeeds(&line);
    assert!(said.contains("sparsity 50.0 %"), "{said}");
    let merged = state(tool.root().join("merged/model.safetensors"));
    let mask = MaskSet::load(tool.root().join("merged/mask.safetensors")).unwrap();
    let mut moved = 0;
    for (name, before) in base.iter() {
        let after = &merged.get(name).unwrap().values;
        let keep = mask.get(&name.into()).map(|mask| mask.keep().to_vec());
        for (i, (before, after)) in before.values.iter().zip(after).enumerate() {
            let kept = keep.as_ref().is_none_or(|keep| keep[i]);
            let adapted = name.ends_with("conv1.weight");
            assert!(kept || after.to_bits() == 0, "{name}[{i}]");
            assert!(adapted || before.to_bits() == after.to_bits(), "{name}[{i}]");
            moved += usize::from(before != after);
        }
    }
    assert!(moved > 1000, "{moved}");
}

#[test]
fn a_stage_that_was_changed_does_not_go_out() {
    let tool = Tool::new();
    let recipe = tool.file("recipe.toml", TINY);
    tool.succeeds(&["train", &recipe, "--out", &tool.path("dense")]);
    let dense = tool.path("dense");
    tool.succeeds(&["prune", &recipe, "--model", &dense, "--out", &tool.path("sparse")]);
    let other = tool.file("other.toml", TINY.replacen("rate = 0.5", "rate = 0.4", 1));
    tool.succeeds(&["prune", &other, "--model", &dense, "--out", &tool.path("other")]);
    let (folder, out) = (tool.root().join("sparse/model"), tool.path("out.pth"));
    let foreign = tool.root().join("other/model/mask.safetensors");
    fs::copy(&foreign, folder.join("mask.safetensors")).unwrap();
    let line = ["export", &tool.path("sparse"), "--masks", "--out", &out];
    tool.fails(&line, 4, &["mask.safetensors"]);
    // Nor where nothing says any more that it was changed, but the model itself.
    fs::remove_file(folder.join("COMMIT.json")).unwrap();
    tool.fails(&line, 4, &["E_MASK_FILE"]);
    assert!(!tool.root().join("out.pth").exists());
}

/// The adapters of `stage`, as peft would describe them, into the network that they began from, and out again.
#[track_caller]
fn merged_kept_and_out_again(tool: &Tool, stage: &Path, base: &Path, config: &Value) {
    let name = stage.parent().and_then(Path::file_name).unwrap().to_str().unwrap();
    let [theirs, merged, copy, peft] =
        ["theirs", "merged", "copy", "peft"].map(|kind| tool.path(&format!("{kind}-{name}")));
    let (weights, description) = ("adapter_model.safetensors", "adapter_config.json");
    // What peft knows of the base and we do not is not lost.
    let mut described = config.clone();
    described["base_model_name_or_path"] = "someone/network".into();
    described["revision"] = "abc123".into();
    described["task_type"] = "IMAGE_CLASSIFICATION".into();
    described["auto_mapping"] = serde_json::json!({ "base_model_class": "Network" });
    fs::create_dir(&theirs).unwrap();
    fs::write(Path::new(&theirs).join(description), described.to_string()).unwrap();
    fs::copy(stage.join("adapter").join(weights), Path::new(&theirs).join(weights)).unwrap();

    tool.succeeds(&["import", &theirs, "--base", base.to_str().unwrap(), "--out", &merged]);
    let model = |folder: &Path| state(folder.join("model.safetensors"));
    assert_eq!(model(Path::new(&merged)), model(stage), "{name}");
    // An import of the import keeps them.
    tool.succeeds(&["import", &merged, "--out", &copy]);
    let stage_path = stage.to_str().unwrap();
    for (source, expected) in [(&*merged, &described), (&copy, &described), (stage_path, config)] {
        tool.succeeds(&["export", source, "--for", "peft", "--out", &peft]);
        let read = |folder: &Path, file: &str| fs::read(folder.join(file)).unwrap();
        let got: Value = serde_json::from_slice(&read(Path::new(&peft), description)).unwrap();
        assert_eq!(&got, expected, "{source}");
        let same = read(Path::new(&peft), weights) == read(&stage.join("adapter"), weights);
        assert!(same, "{source}: other weights");
        fs::remove_dir_all(&peft).unwrap();
    }
    // They belong to the stage: a change is found, by whatever name it goes.
    let altered = Path::new(&merged).join("adapter").join(weights);
    let mut bytes = fs::read(&altered).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(altered, bytes).unwrap();
    for source in [&merged, &format!("{merged}/model.safetensors")] {
        tool.fails(&["export", source, "--for", "peft", "--out", &peft], 4, &["E_STAGE", weights]);
    }
}

/// The adapters beside a method's model give that model when they are merged into the original, and are what peft reads.
#[track_caller]
fn adapters_stand_beside(text: &str, targets: &str, networks: &[(&str, &str)]) {
    let tool = Tool::new();
    let lora = format!("name = \"finetune\"\nepochs = 2\nlora = {{ rank = 2, alpha = 8, {targets} }}");
    let recipe = tool.file("tiny.toml", text.replacen("name = \"finetune\"\nepochs = 1", &lora, 1));
    tool.succeeds(&["run", &recipe, "--out", &tool.path("out")]);
    for (network, original) in networks {
        let stage = tool.root().join("out").join(network).join("finetune");
        let config: Value =
            serde_json::from_slice(&fs::read(stage.join("adapter/adapter_config.json")).unwrap()).unwrap();
        assert_eq!((&config["peft_type"], &config["r"]), (&"LORA".into(), &2.into()));
        let adapters = state(stage.join("adapter/adapter_model.safetensors"));
        let moved = |(name, tensor): (&str, &unlearn::models::HostTensor)| {
            name.contains("lora_B") && tensor.values.iter().any(|v| *v != 0.0)
        };
        assert!(adapters.iter().any(moved), "they never learned");
        merged_kept_and_out_again(&tool, &stage, &tool.root().join("out").join(original), &config);
        assert!(!tool.root().join("out").join(network).join("retrain/adapter").exists());
    }
    // A run that is done is found done.
    tool.succeeds(&["run", &recipe, "--out", &tool.path("out"), "--resume"]);
}

#[test]
fn adapters_of_a_residual_network_stand_beside_its_model() {
    let targets = "targets = [\"conv1\", \"conv2\"], modules_to_save = [\"fc\"]";
    adapters_stand_beside(TINY, targets, &[("dense", "base"), ("sparse", "sparse/original")]);
}

/// torchvision's own networks do not say that theirs is the stem for large pictures.
#[test]
fn a_first_kernel_of_seven_is_torchvisions_stem() {
    let tool = Tool::new();
    let mut rng = unlearn::data::Seed(1).rng(unlearn::data::Stream::Init, 0, 0);
    let config = ResNetConfig { width: 4, ..ResNetConfig::resnet18(10).with_stem(Stem::ImageNet) };
    let network = config.init(&[0.5; 3], &[0.25; 3], &Device::flex(), &mut rng).unwrap();
    let (file, state) = (tool.path("theirs.pth"), StateDict::of(&network).unwrap());
    checkpoint::write_torch(&file, &state).unwrap();
    let line = [
        "import",
        &file,
        "--model",
        "resnet18",
        "--classes",
        "10",
        "--width",
        "4",
        "--out",
        &tool.path("in"),
    ];
    let done = tool.run(&line);
    assert!(done.code == 0 && done.stderr.contains("max pooling"), "{}", done.stderr);
    let read = checkpoint::read(tool.root().join("in/model.safetensors")).unwrap();
    assert_eq!(read.state, state);
    assert_eq!(read.metadata.model().unwrap(), Some(ModelConfig::ResNet(config)));
}

#[test]
fn adapters_of_a_transformer_stand_beside_its_model() {
    let text = TINY_VIT.replacen("name = \"fisher\"", "name = \"finetune\"\nepochs = 1", 1);
    let targets = "targets = [\"query\", \"value\", \"dense\"], modules_to_save = [\"classifier\"]";
    adapters_stand_beside(&text, targets, &[("sparse", "sparse/original")]);
}

/// peft's folder on a network in Hugging Face's folder: both as PyTorch users have them.
#[test]
fn adapters_are_merged_into_a_folder_of_hugging_face() {
    let tool = Tool::new();
    let text = TINY_VIT.replacen("name = \"fisher\"", "name = \"finetune\"\nepochs = 1", 1);
    let lora = "name = \"finetune\"\nepochs = 1\nlora = { rank = 2, targets = [\"query\"] }";
    let recipe = tool.file("tiny.toml", text.replacen("name = \"finetune\"\nepochs = 1", lora, 1));
    tool.succeeds(&["train", &recipe, "--out", &tool.path("model")]);
    let line = [
        "forget",
        &recipe,
        "--method",
        "finetune",
        "--model",
        &tool.path("model"),
        "--out",
        &tool.path("ft"),
    ];
    tool.succeeds(&line);
    tool.succeeds(&["export", &tool.path("model"), "--for", "transformers", "--out", &tool.path("folder")]);
    let adapter = tool.path("ft/model/adapter");
    tool.succeeds(&["import", &adapter, "--base", &tool.path("folder"), "--out", &tool.path("merged")]);
    let merged = state(tool.root().join("merged/model.safetensors"));
    assert_eq!(merged, state(tool.root().join("ft/model/model.safetensors")));
}
