//! Folders of Hugging Face, and timm's names.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::*;
use crate::checkpoint::{self, CheckpointError, Mask, MaskMap, Metadata};
use crate::vit::{HuggingFaceVit, from_timm, has_timm_names, masks_from_timm, masks_to_timm, to_timm};

/// A folder with a network of our own, and the network.
fn folder() -> (TempDir, Vit) {
    let place = TempDir::new().unwrap();
    let model = numbered(built(&small(), 0, &Device::flex()));
    HuggingFaceVit::write(place.path(), &model, &small()).unwrap();
    (place, model)
}

fn description(place: &Path) -> Map<String, Value> {
    serde_json::from_slice(&fs::read(place.join("config.json")).unwrap()).unwrap()
}

fn describe(place: &Path, object: &Map<String, Value>) {
    fs::write(place.join("config.json"), serde_json::to_vec(object).unwrap()).unwrap();
}

#[test]
fn what_is_written_is_read_back() {
    let (place, model) = folder();
    let read = HuggingFaceVit::read(place.path()).unwrap();
    assert_eq!(read.config, small());
    assert!(
        read.state.iter().all(|(name, _)| !name.starts_with("normalize.")),
        "transformers knows no such name"
    );
    let back = read.into_model(&Device::flex(), &mut rng(9)).unwrap();
    assert_eq!(StateDict::of(&back).unwrap(), StateDict::of(&model).unwrap());
    assert_eq!(host(back.forward(images(2, 8))), host(model.forward(images(2, 8))));
    let keys: Vec<String> = description(place.path()).into_iter().map(|(key, _)| key).collect();
    for key in ["architectures", "model_type", "hidden_size", "hidden_act", "id2label", "layer_norm_eps"] {
        assert!(keys.iter().any(|k| k == key), "{key}");
    }
    let mean = VitConfig { pooling: Pooling::Mean, ..small() };
    let refused = HuggingFaceVit::write(place.path(), &built(&mean, 0, &Device::flex()), &mean);
    assert!(matches!(refused, Err(CheckpointError::ForeignConfig { ref key, .. }) if key == "pooling"));
}

/// No tensor tells how many heads there are, nor ε: whoever reads the folder would build another network.
#[test]
fn a_configuration_of_another_network_is_not_written() {
    let place = TempDir::new().unwrap();
    let (model, config) = (built(&small(), 0, &Device::flex()), small());
    for (key, other) in [
        ("heads", VitConfig { heads: 1, ..config }),
        ("layer_norm_eps", VitConfig { layer_norm_eps: 1e-3, ..config }),
        ("layers", VitConfig { layers: config.layers + 1, ..config }),
        ("mlp", VitConfig { mlp: config.mlp + 1, ..config }),
        ("image", VitConfig { image: config.image + config.patch, ..config }),
    ] {
        let folder = place.path().join(key);
        let refused = HuggingFaceVit::write(&folder, &model, &other);
        assert!(
            matches!(refused, Err(CheckpointError::ForeignConfig { key: ref k, .. }) if k == key),
            "{key}"
        );
        assert!(!folder.exists(), "{key}");
        let (here, there) = (model.settings(), built(&other, 0, &Device::flex()).settings());
        assert_eq!(here != there, matches!(key, "heads" | "layer_norm_eps"), "{key}: {here}; {there}");
    }
}

/// Other programs, a run of ours among them, have a file of that name.
#[test]
fn a_folder_is_told_by_what_its_description_says() {
    let (place, _) = folder();
    let config = place.path().join("config.json");
    assert!(HuggingFaceVit::is_folder(place.path()));
    for (text, is) in [
        (r#"{"model_type": "deit"}"#, true),
        (r#"{"architectures": ["ViTModel"]}"#, true),
        (r#"{"run": {"recipe": {"model": {}}}, "verb": "train"}"#, false),
        (r#"{"architecture": "vit_base_patch16_224"}"#, false),
        // Damaged, and weights beside it.
        (r#"{"model_type": "#, true),
    ] {
        fs::write(&config, text).unwrap();
        assert_eq!(HuggingFaceVit::is_folder(place.path()), is, "{text}");
    }
    fs::remove_file(place.path().join("model.safetensors")).unwrap();
    assert!(!HuggingFaceVit::is_folder(place.path()));
    fs::remove_file(config).unwrap();
    assert!(!HuggingFaceVit::is_folder(place.path()) && !HuggingFaceVit::is_folder(place.path().join("x")));
}

#[test]
fn without_constants_a_half_is_taken_and_without_normalisation_nothing() {
    let (place, _) = folder();
    let preprocessor = place.path().join("preprocessor_config.json");
    fs::write(&preprocessor, r#"{"do_normalize": false, "image_mean": [1, 2, 3]}"#).unwrap();
    let read = HuggingFaceVit::read(place.path()).unwrap();
    assert_eq!((read.mean, read.std), (vec![0.0; 3], vec![1.0; 3]));
    fs::write(&preprocessor, r#"{"image_mean": [0.1, 0.2], "image_std": [1, 1, 1]}"#).unwrap();
    let short = HuggingFaceVit::read(place.path());
    assert!(matches!(short, Err(CheckpointError::ForeignConfig { ref key, .. }) if key == "image_mean"));
    for (text, named) in [
        (r#"{"do_rescale": false}"#, "do_rescale"),
        (r#"{"do_normalize": false, "do_rescale": false}"#, "do_rescale"),
        (r#"{"rescale_factor": 1.0}"#, "rescale_factor"),
    ] {
        fs::write(&preprocessor, text).unwrap();
        let refused = HuggingFaceVit::read(place.path());
        assert!(
            matches!(refused, Err(CheckpointError::ForeignConfig { ref key, .. }) if key == named),
            "{text}"
        );
    }
    // What the processor of transformers takes where nothing is said.
    fs::write(&preprocessor, r#"{"do_normalize": true, "rescale_factor": 0.00392156862745098}"#).unwrap();
    assert_eq!(HuggingFaceVit::read(place.path()).unwrap().mean, [0.5; 3]);
    fs::remove_file(&preprocessor).unwrap();
    let read = HuggingFaceVit::read(place.path()).unwrap();
    assert_eq!((read.mean, read.std), (vec![0.5; 3], vec![0.5; 3]));
}

#[test]
fn missing_files_are_named() {
    let (place, _) = folder();
    fs::remove_file(place.path().join("model.safetensors")).unwrap();
    let missing = |folder: &Path| match HuggingFaceVit::read(folder) {
        Err(error @ CheckpointError::MissingFile { file, .. }) => {
            assert_eq!(error.code(), "E_FOREIGN_FILE");
            file
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(missing(place.path()), "model.safetensors");
    fs::remove_file(place.path().join("config.json")).unwrap();
    assert_eq!(missing(place.path()), "config.json");
    assert_eq!(missing(&place.path().join("nowhere")), "config.json");
    fs::write(place.path().join("config.json"), "[1]").unwrap();
    assert!(matches!(HuggingFaceVit::read(place.path()), Err(CheckpointError::Format { .. })));
    fs::write(place.path().join("config.json"), "{").unwrap();
    assert!(matches!(HuggingFaceVit::read(place.path()), Err(CheckpointError::Format { .. })));
}

#[test]
fn what_would_change_the_result_is_refused_by_its_key() {
    let (place, _) = folder();
    let good = description(place.path());
    let bad = [
        ("model_type", json!("deit")),
        ("hidden_act", json!("gelu_new")),
        ("hidden_act", json!("quick_gelu")),
        ("qkv_bias", json!(false)),
        ("attention_probs_dropout_prob", json!(0.1)),
        ("pruned_heads", json!({"0": [1]})),
        ("quantization_config", json!({"load_in_8bit": true})),
        ("image_size", json!([8, 16])),
        ("image_size", json!("8")),
        ("num_attention_heads", json!(-3)),
        ("num_attention_heads", json!(2.5)),
        ("layer_norm_eps", json!("tiny")),
        ("id2label", json!(["a", "b"])),
    ];
    for (key, value) in bad {
        let mut object = good.clone();
        object.insert(key.to_owned(), value.clone());
        describe(place.path(), &object);
        match HuggingFaceVit::read(place.path()) {
            Err(error @ CheckpointError::ForeignConfig { .. }) => {
                assert_eq!(error.code(), "E_FOREIGN_CONFIG");
                let text = error.to_string();
                assert!(text.contains(key) && text.contains("config.json"), "{text}");
            }
            other => panic!("{key} = {value}: {other:?}"),
        }
    }
    // Numbers that describe no network.
    for (key, value, field) in [("patch_size", 3, "image"), ("num_attention_heads", 5, "hidden")] {
        let mut object = good.clone();
        object.insert(key.to_owned(), value.into());
        describe(place.path(), &object);
        let refused = HuggingFaceVit::read(place.path());
        assert!(matches!(refused, Err(CheckpointError::ForeignConfig { ref key, .. }) if key == field));
    }
    // Numbers that the weights do not have.
    let mut object = good.clone();
    object.insert("num_hidden_layers".to_owned(), 3.into());
    describe(place.path(), &object);
    let read = HuggingFaceVit::read(place.path()).unwrap();
    let refused = read.into_model(&Device::flex(), &mut rng(0));
    assert!(matches!(refused, Err(CheckpointError::Mismatch(ref m)) if m.missing.len() == 16));
    // What makes no difference, or stands there in another form.
    let mut object = good;
    for (key, value) in [
        ("chunk_size_feed_forward", json!(4)),
        ("image_size", json!([8, 8])),
        ("attention_probs_dropout_prob", json!(0)),
        ("encoder_stride", json!(16)),
    ] {
        object.insert(key.to_owned(), value);
    }
    describe(place.path(), &object);
    assert_eq!(HuggingFaceVit::read(place.path()).unwrap().config, small());
}

/// What `ViTConfig` has when nothing is said.
#[test]
fn absent_keys_have_hugging_faces_defaults() {
    let (place, _) = folder();
    fs::write(place.path().join("config.json"), r#"{"model_type": "vit"}"#).unwrap();
    assert_eq!(HuggingFaceVit::read(place.path()).unwrap().config, VitConfig::base_16_224(2));
}

#[test]
fn half_precision_is_read_to_single() {
    let (place, model) = folder();
    let state = StateDict::of(&model).unwrap();
    let names: Vec<_> = state.iter().filter(|(name, _)| !name.starts_with("normalize.")).collect();
    let half = |v: f32| half::f16::from_f32(v);
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = names
        .iter()
        .map(|(name, t)| {
            let bytes = t.values.iter().flat_map(|&v| half(v).to_le_bytes()).collect();
            ((*name).to_owned(), t.shape.clone(), bytes)
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F16, shape.clone(), bytes);
        (name.clone(), view.unwrap())
    });
    let file = safetensors::serialize(views, None).unwrap();
    fs::write(place.path().join("model.safetensors"), file).unwrap();
    let read = HuggingFaceVit::read(place.path()).unwrap();
    let loaded = StateDict::of(&read.into_model(&Device::flex(), &mut rng(0)).unwrap()).unwrap();
    for (name, tensor) in names {
        let expected: Vec<f32> = tensor.values.iter().map(|&v| half(v).to_f32()).collect();
        assert_eq!(loaded.get(name).unwrap().values, expected, "{name}");
    }
}

#[test]
fn a_backbone_alone_takes_a_head_of_its_own() {
    let (place, model) = folder();
    let mut alone = StateDict::new();
    for (name, tensor) in StateDict::of(&model).unwrap().iter() {
        if let Some(name) = name.strip_prefix("vit.") {
            alone.insert(name, tensor.clone()).unwrap();
        }
    }
    let pooler = HostTensor { shape: vec![12], values: vec![0.0; 12] };
    alone.insert("pooler.dense.bias", pooler).unwrap();
    checkpoint::write(place.path().join("model.safetensors"), &alone, &Metadata::new()).unwrap();
    let read = HuggingFaceVit::read(place.path()).unwrap();
    let refused = read.clone().into_model(&Device::flex(), &mut rng(0));
    assert!(matches!(refused, Err(CheckpointError::Mismatch(ref m)) if m.missing.len() == 2), "{refused:?}");
    let tuned = read.with_new_head(7).into_model(&Device::flex(), &mut rng(0)).unwrap();
    assert_eq!(tuned.num_classes(), 7);
    let (state, before) = (StateDict::of(&tuned).unwrap(), StateDict::of(&model).unwrap());
    assert_eq!(state.get("classifier.weight").unwrap().shape, [7, 12]);
    assert_eq!(state.get("vit.layernorm.weight"), before.get("vit.layernorm.weight"));
    // A head that is there is replaced.
    let (place, _) = folder();
    let read = HuggingFaceVit::read(place.path()).unwrap().with_new_head(2);
    assert_eq!(read.into_model(&Device::flex(), &mut rng(0)).unwrap().num_classes(), 2);
}

#[test]
fn timms_names_go_both_ways() {
    let model = numbered(built(&small(), 0, &Device::flex()));
    let state = StateDict::of(&model).unwrap();
    let timm = to_timm(&state).unwrap();
    let names: Vec<&str> = timm.iter().map(|(name, _)| name).collect();
    for name in [
        "cls_token",
        "pos_embed",
        "patch_embed.proj.weight",
        "blocks.0.norm1.weight",
        "blocks.1.norm2.bias",
        "blocks.1.attn.qkv.weight",
        "blocks.1.attn.qkv.bias",
        "blocks.0.attn.proj.weight",
        "blocks.0.mlp.fc1.bias",
        "blocks.0.mlp.fc2.weight",
        "norm.weight",
        "head.bias",
    ] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    assert!(names.iter().all(|name| !name.contains("vit.")), "{names:?}");
    // Queries, keys and values lie one below the other.
    let fused = timm.get("blocks.1.attn.qkv.weight").unwrap();
    assert_eq!(fused.shape, [36, 12]);
    for (part, name) in ["query", "key", "value"].iter().enumerate() {
        let whole = state.get(&format!("vit.encoder.layer.1.attention.attention.{name}.weight")).unwrap();
        assert_eq!(fused.values[part * 144..(part + 1) * 144], whole.values[..]);
    }
    assert!(has_timm_names(&timm) && !has_timm_names(&state));
    assert_eq!(from_timm(&timm).unwrap(), state);
    // What is not timm's stays, and loading says so.
    let mut strange = timm.clone();
    strange.insert("blocks.0.ls1.gamma", HostTensor { shape: vec![12], values: vec![1.0; 12] }).unwrap();
    let refused = from_timm(&strange).unwrap().load_into(model);
    let Err(CheckpointError::Mismatch(mismatch)) = refused else { panic!("{refused:?}") };
    assert_eq!(mismatch.left_over[0].0, "blocks.0.ls1.gamma");
    let mut odd = StateDict::new();
    odd.insert("blocks.0.attn.qkv.bias", HostTensor { shape: vec![4], values: vec![0.0; 4] }).unwrap();
    assert!(matches!(from_timm(&odd), Err(CheckpointError::Length { .. })));
    // Queries without their keys and values make no fused layer, and nothing is left out in silence.
    let key = "vit.encoder.layer.0.attention.attention.key.weight";
    for keep in [true, false] {
        let mut part = StateDict::new();
        for (name, tensor) in state.iter().filter(|(name, _)| (*name == key) == keep) {
            part.insert(name, tensor.clone()).unwrap();
        }
        let Err(CheckpointError::Mismatch(mismatch)) = to_timm(&part) else { panic!("{keep}") };
        assert_eq!(mismatch.missing.iter().any(|(name, _)| name == key), !keep);
        assert_eq!(mismatch.missing.len(), if keep { 2 } else { 1 });
    }
}

/// A mask of its own in every part, and none in some.
#[test]
fn masks_go_both_ways_under_timms_names() {
    let mask =
        |from: usize| Mask { shape: vec![12, 12], keep: (from..from + 144).map(|i| i % 3 != 0).collect() };
    let block = "vit.encoder.layer.1";
    let part = |name: &str| format!("{block}.attention.attention.{name}.weight");
    let dense = (format!("{block}.attention.output.dense.weight"), mask(5));
    let all: MaskMap =
        [(part("query"), mask(0)), (part("key"), mask(1)), (part("value"), mask(2)), dense.clone()]
            .into_iter()
            .collect();
    let timm = masks_to_timm(&all).unwrap();
    let names: Vec<&str> = timm.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["blocks.1.attn.proj.weight", "blocks.1.attn.qkv.weight"]);
    let fused = timm.get("blocks.1.attn.qkv.weight").unwrap();
    assert_eq!(fused.shape, [36, 12]);
    assert_eq!(fused.keep[144..288], mask(1).keep[..]);
    assert_eq!(masks_from_timm(&timm).unwrap(), all);
    // One part alone: the others are kept whole.
    let alone: MaskMap = [(part("key"), mask(1)), dense].into_iter().collect();
    let timm = masks_to_timm(&alone).unwrap();
    let fused = timm.get("blocks.1.attn.qkv.weight").unwrap();
    assert_eq!(fused.shape, [36, 12]);
    assert!(fused.keep[..144].iter().chain(&fused.keep[288..]).all(|&keep| keep));
    assert_eq!(fused.keep[144..288], mask(1).keep[..]);
    let back = masks_from_timm(&timm).unwrap();
    assert_eq!((back.len(), back.get(&part("key"))), (4, Some(&mask(1))));
    // Parts that do not fit one another.
    let odd = Mask { shape: vec![2, 6], keep: vec![true; 12] };
    let odd: MaskMap = [(part("query"), mask(0)), (part("key"), odd)].into_iter().collect();
    assert!(matches!(masks_to_timm(&odd), Err(CheckpointError::Length { .. })));
}

/// `save_pretrained` of a network with `torch.nn.utils.prune` in it.
#[test]
fn masks_in_a_folders_weights_are_read() {
    let (place, model) = folder();
    let name = "vit.encoder.layer.0.intermediate.dense.weight";
    let mut state = StateDict::of(&model).unwrap();
    let weight = state.remove(name).unwrap();
    let values = (0..weight.values.len()).map(|i| (i % 2) as f32).collect();
    let mask = HostTensor { shape: weight.shape.clone(), values };
    state.insert(format!("{name}_orig"), weight).unwrap();
    state.insert(format!("{name}_mask"), mask).unwrap();
    for alone in [false, true] {
        let mut saved = StateDict::new();
        for (name, tensor) in state.iter().filter(|(name, _)| !name.starts_with("normalize.")) {
            let name = if alone { name.strip_prefix("vit.").unwrap_or(name) } else { name };
            saved.insert(name, tensor.clone()).unwrap();
        }
        checkpoint::write(place.path().join("model.safetensors"), &saved, &Metadata::new()).unwrap();
        let read = HuggingFaceVit::read(place.path()).unwrap();
        let mask = read.masks.get(name).unwrap();
        assert!(mask.keep.iter().enumerate().all(|(i, &keep)| keep == (i % 2 == 1)));
        assert_eq!((read.masks.len(), read.state.get(name).unwrap().values[0]), (1, 0.0));
    }
}
