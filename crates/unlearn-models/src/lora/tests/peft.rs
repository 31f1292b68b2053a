//! Folders that peft would write, and those that it would not.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::checkpoint::{self, HostTensor};
use crate::{Classifier, StateDict};

fn adapted(lora: &LoraConfig) -> Adapted<ResNet> {
    stirred(add_adapters(base(&Device::flex()), lora, &mut rng(3)).unwrap())
}

fn edit(folder: &Path, change: impl FnOnce(&mut Value)) {
    let path = folder.join(CONFIG_FILE);
    let mut value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
}

fn refused(folder: &Path) -> LoraError {
    load_peft(base(&Device::flex()), folder).map(|_| ()).unwrap_err()
}

#[test]
fn what_is_saved_is_loaded_to_the_bit() {
    let device = Device::flex();
    let plain = LoraConfig { rs_lora: true, dropout: 0.1, ..config() };
    let head = LoraConfig { modules_to_save: vec!["fc".into()], ..LoraConfig::new(2, 3.5, ["conv1"]) };
    let norms = LoraConfig { norms: Norms::Train, ..LoraConfig::new(2, 3.0, ["conv2", "fc"]) };
    for lora in [plain, head, norms] {
        let folder = tempfile::tempdir().unwrap();
        let mut saved = adapted(&lora);
        if lora.norms == Norms::Train || !lora.modules_to_save.is_empty() {
            // Values that the base does not have.
            saved.base.fc.bias = saved.base.fc.bias.map(|b| b.map(|b| b + 0.5));
            saved.base.bn1.gamma = saved.base.bn1.gamma.map(|g| g + 0.5);
        }
        saved.save_peft(folder.path(), Some("a base")).unwrap();
        let loaded = load_peft(base(&device), folder.path()).unwrap();
        assert_eq!(loaded.trainable(), saved.trainable());
        let trained = |m: &Adapted<ResNet>| {
            let paths = unlearn_curvature::parameters(m);
            let trained: Vec<String> =
                paths.into_iter().filter(|p| p.trainable).map(|p| p.path.to_string()).collect();
            bits(m).into_iter().filter(|(path, _)| trained.contains(path)).collect::<Vec<_>>()
        };
        assert_eq!(trained(&loaded), trained(&saved));
        if lora.dropout > 0.0 {
            assert_eq!(loaded.config(), &lora);
        }
        // And saved again.
        let again = tempfile::tempdir().unwrap();
        loaded.save_peft(again.path(), None).unwrap();
        let weights = |folder: &Path| fs::read(folder.join(WEIGHTS_FILE)).unwrap();
        assert_eq!(weights(again.path()), weights(folder.path()));
    }
}

#[test]
fn names_and_layouts_are_pefts() {
    let folder = tempfile::tempdir().unwrap();
    let lora = LoraConfig {
        modules_to_save: vec!["bn1".into()],
        ..LoraConfig::new(2, 4.0, ["fc", "layer1.0.conv1"])
    };
    adapted(&lora).save_peft(folder.path().join("made"), None).unwrap();
    let state = checkpoint::read(folder.path().join("made").join(WEIGHTS_FILE)).unwrap().state;
    let shape = |name: &str| state.get(&format!("base_model.model.{name}")).map(|t| t.shape.clone());
    assert_eq!(shape("fc.lora_A.weight"), Some(vec![2, 32]));
    assert_eq!(shape("fc.lora_B.weight"), Some(vec![5, 2]));
    assert_eq!(shape("layer1.0.conv1.lora_A.weight"), Some(vec![2, 4, 3, 3]));
    assert_eq!(shape("layer1.0.conv1.lora_B.weight"), Some(vec![4, 2, 1, 1]));
    for value in ["weight", "bias", "running_mean", "running_var"] {
        assert_eq!(shape(&format!("bn1.{value}")), Some(vec![4]));
        assert_eq!(shape(&format!("layer2.1.bn1.{value}")), Some(vec![8]));
    }
    // Six blocks' and the stem's first norms.
    assert_eq!(state.len(), 4 + 4 * 6);
    let config: Value =
        serde_json::from_slice(&fs::read(folder.path().join("made").join(CONFIG_FILE)).unwrap()).unwrap();
    for (key, value) in [
        ("peft_type", json!("LORA")),
        ("r", json!(2)),
        ("lora_alpha", json!(4)),
        ("target_modules", json!(["fc", "layer1.0.conv1"])),
        ("bias", json!("none")),
        ("use_rslora", json!(false)),
    ] {
        assert_eq!(config[key], value, "{key}");
    }
}

/// As PyTorch computes the branch: ΔW = α/r · B A with A `[r, in]` and B `[out, r]` from the file.
#[test]
fn the_files_factors_are_the_branch() {
    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    let lora = LoraConfig::new(3, 6.0, ["fc"]);
    let saved = adapted(&lora);
    saved.save_peft(folder.path(), None).unwrap();
    let state = checkpoint::read(folder.path().join(WEIGHTS_FILE)).unwrap().state;
    let [a, b] = ["A", "B"].map(|f| state.get(&format!("base_model.model.fc.lora_{f}.weight")).unwrap());
    let mut whole = StateDict::of(&base(&device)).unwrap();
    let mut weight = whole.remove("fc.weight").unwrap();
    for (o, row) in weight.values.chunks_mut(32).enumerate() {
        for (i, w) in row.iter_mut().enumerate() {
            let product: f64 =
                (0..3).map(|r| f64::from(b.values[o * 3 + r]) * f64::from(a.values[r * 32 + i])).sum();
            *w += (2.0 * product) as f32;
        }
    }
    whole.insert("fc.weight", weight).unwrap();
    let expected = host(whole.load_into(base(&device)).unwrap().forward(images(3, &device)));
    assert!(distance(&host(saved.forward(images(3, &device))), &expected) < 1e-5);
}

#[test]
fn adapters_of_other_models_are_refused_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    adapted(&config()).save_peft(folder.path(), None).unwrap();
    let other = ResNetConfig { width: 8, blocks: [1, 1, 1, 1], classes: 5, stem: Stem::Cifar };
    let other = other.init(&[0.5; 3], &[0.25; 3], &Device::flex(), &mut rng(1)).unwrap();
    match load_peft(other, folder.path()).map(|_| ()) {
        Err(error @ LoraError::OtherModel(_)) => {
            let text = error.to_string();
            for part in ["layer2.1.conv1.lora_A", "fc.lora_A.weight: got [3, 32], expected [3, 64]"] {
                assert!(text.contains(part), "{part} is not in {text}");
            }
            assert_eq!(error.code(), "E_LORA_MISMATCH");
        }
        other => panic!("{other:?}"),
    }
    // Patterns that mean nothing here: the file's names are listed.
    edit(folder.path(), |config| config["target_modules"] = json!(["query", "value"]));
    let text = refused(folder.path()).to_string();
    assert!(text.contains("left over  base_model.model.fc.lora_A.weight"), "{text}");
}

#[test]
fn folders_that_are_not_whole() {
    let folder = tempfile::tempdir().unwrap();
    let says = |part: &str| {
        let error = refused(folder.path());
        assert!(matches!(error, LoraError::Folder { .. }), "{error}");
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(error.code(), "E_LORA_FORMAT");
    };
    says("adapter_config.json: no such file");
    adapted(&config()).save_peft(folder.path(), None).unwrap();
    let whole = fs::read(folder.path().join(CONFIG_FILE)).unwrap();
    fs::write(folder.path().join(CONFIG_FILE), "[1, 2").unwrap();
    says("JSON object");
    fs::write(folder.path().join(CONFIG_FILE), "[1, 2]").unwrap();
    says("JSON object");
    for (key, value) in [
        ("peft_type", json!("IA3")),
        ("r", json!(0)),
        ("r", json!("eight")),
        ("lora_alpha", json!(null)),
        ("lora_dropout", json!(1.5)),
        ("target_modules", json!("all-linear")),
        ("target_modules", json!([1])),
        ("modules_to_save", json!("fc")),
        ("use_dora", json!(true)),
        ("bias", json!("all")),
        ("rank_pattern", json!({"fc": 2})),
        ("layers_to_transform", json!([0])),
        ("init_lora_weights", json!("pissa")),
        ("init_lora_weights", json!("olora")),
        ("corda_config", json!({"a": 1})),
        ("use_rslora", json!("true")),
    ] {
        fs::write(folder.path().join(CONFIG_FILE), &whole).unwrap();
        edit(folder.path(), |config| config[key] = value.clone());
        says(&format!("`{key}` is "));
    }
    fs::write(folder.path().join(CONFIG_FILE), &whole).unwrap();
    fs::remove_file(folder.path().join(WEIGHTS_FILE)).unwrap();
    says("adapter_model.safetensors: no such file");
}

#[test]
fn damaged_and_infinite_weights() {
    let folder = tempfile::tempdir().unwrap();
    adapted(&config()).save_peft(folder.path(), None).unwrap();
    let path = folder.path().join(WEIGHTS_FILE);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 4]).unwrap();
    assert_eq!(refused(folder.path()).code(), "E_CKPT_FORMAT");

    // Half precision, which has infinities that safetensors of ours never hold.
    fs::write(&path, &whole).unwrap();
    let mut state = checkpoint::read(&path).unwrap().state;
    let name = "base_model.model.fc.lora_B.weight";
    let HostTensor { shape, mut values } = state.remove(name).unwrap();
    values[0] = f32::INFINITY;
    let bytes: Vec<u8> = values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect();
    let others: Vec<(String, Vec<usize>, Vec<u8>)> = state
        .iter()
        .map(|(name, t)| {
            (name.to_owned(), t.shape.clone(), t.values.iter().flat_map(|v| v.to_le_bytes()).collect())
        })
        .collect();
    let view = |dtype, shape: &Vec<usize>, bytes| {
        safetensors::tensor::TensorView::new(dtype, shape.clone(), bytes).unwrap()
    };
    let mut views: Vec<_> = others
        .iter()
        .map(|(name, shape, bytes)| (name.as_str(), view(safetensors::Dtype::F32, shape, bytes.as_slice())))
        .collect();
    views.push((name, view(safetensors::Dtype::F16, &shape, &bytes)));
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    let error = refused(folder.path());
    assert_eq!(error.code(), "E_NONFINITE", "{error}");
    assert!(error.to_string().contains(name));
}
