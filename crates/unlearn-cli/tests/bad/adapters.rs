//! Wrong adapters, and wrong ways in and out.

use unlearn::models::checkpoint::Metadata;
use unlearn::models::{HostTensor, StateDict, checkpoint};

use super::checkpoints::made;
use super::{Case, case, set, strings};
use crate::common::Tool;

/// The arguments of `import` for a folder that looks like peft's.
fn folder(tool: &Tool, config: &str, base: Option<&str>) -> Vec<String> {
    tool.file("adapter/adapter_config.json", config);
    let mut line = strings(&["import", &tool.path("adapter"), "--out", &tool.path("out")]);
    if let Some(base) = base {
        line.extend(strings(&["--base", &tool.file(base, b"")]));
    }
    line
}

/// `import` onto the sparse tiny network, of a folder with one pair of factors beside `module`, of rank 2.
fn onto(
    name: &'static str,
    code: &'static str,
    word: &'static str,
    module: &'static str,
    more: &'static str,
) -> Case {
    case(name, 4, code, word, move |tool: &Tool| {
        let config = format!(
            r#"{{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["{}"]{more}}}"#,
            module.rsplit('.').next().unwrap()
        );
        tool.file("adapter/adapter_config.json", config);
        let mut state = StateDict::new();
        for (factor, shape) in [("A", [2, 5]), ("B", [5, 2])] {
            let name = format!("base_model.model.{module}.lora_{factor}.weight");
            state.insert(name, HostTensor { shape: shape.to_vec(), values: vec![0.5; 10] }).unwrap();
        }
        let weights = tool.root().join("adapter/adapter_model.safetensors");
        checkpoint::write(weights, &state, &Metadata::new()).unwrap();
        let base = made().to_str().unwrap();
        strings(&["import", &tool.path("adapter"), "--base", base, "--out", &tool.path("out")])
    })
}

pub fn cases() -> Vec<Case> {
    vec![
        set(
            "adapters of rank zero",
            2,
            "E_CONFIG",
            "method.1.lora",
            &["method.finetune.lora={rank=0,targets=[\"fc\"]}"],
        ),
        set(
            "adapters of more rank than a layer",
            2,
            "E_CONFIG",
            "method.1.lora",
            &["method.finetune.lora={rank=11,targets=[\"fc\"]}"],
        ),
        set(
            "adapters on no layer",
            2,
            "E_CONFIG",
            "did you mean",
            &["method.finetune.lora={rank=2,targets=[\"conv3\"]}"],
        ),
        set("adapters without targets", 2, "E_CONFIG", "targets", &["method.finetune.lora={rank=2}"]),
        set(
            "unknown key of adapters",
            2,
            "E_KEY",
            "rnak",
            &["method.finetune.lora={rnak=2,targets=[\"fc\"]}"],
        ),
        set(
            "dropout of one",
            2,
            "E_CONFIG",
            "dropout",
            &["method.finetune.lora={targets=[\"fc\"],rank=2,dropout=1.0}"],
        ),
        set(
            "adapters for retraining",
            2,
            "E_CONFIG",
            "method.0.lora",
            &["method.retrain.lora={rank=2,targets=[\"fc\"]}"],
        ),
        set(
            "adapters on what is trained in full",
            2,
            "E_CONFIG",
            "modules_to_save",
            &["method.finetune.lora={rank=2,targets=[\"fc\"],modules_to_save=[\"fc\"]}"],
        ),
        onto(
            "an adapter of another model",
            "E_LORA_MISMATCH",
            "attention.query",
            "layer.0.attention.query",
            "",
        ),
        onto("an adapter of other shapes", "E_LORA_MISMATCH", "[2, 5]", "fc", ""),
        onto("an adapter on some of its layers", "E_LORA_MISMATCH", "layer4.0.conv1", "layer1.0.conv1", ""),
        onto("another kind of adapter", "E_LORA_FORMAT", "use_dora", "fc", r#", "use_dora": true"#),
        onto("an adapter with biases", "E_LORA_FORMAT", "`bias`", "fc", r#", "bias": "all""#),
        onto("an adapter of rank zero", "E_LORA_FORMAT", "`r` is 0", "fc", r#", "r": 0"#),
        case("an adapter without weights", 4, "E_LORA_FORMAT", "adapter_model.safetensors", |tool: &Tool| {
            let config = r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["fc"]}"#;
            tool.file("adapter/adapter_config.json", config);
            let base = made().to_str().unwrap();
            strings(&["import", &tool.path("adapter"), "--base", base, "--out", &tool.path("out")])
        }),
        case(
            "a damaged description of an adapter",
            4,
            "E_LORA_FORMAT",
            "adapter_config.json",
            |tool: &Tool| {
                tool.file("adapter/adapter_config.json", r#"{"peft_type": "LO"#);
                let base = made().to_str().unwrap();
                strings(&["import", &tool.path("adapter"), "--base", base, "--out", &tool.path("out")])
            },
        ),
        case("a network without adapters for peft", 4, "E_LORA_FORMAT", "adapter", |tool: &Tool| {
            strings(&["export", made().to_str().unwrap(), "--for", "peft", "--out", &tool.path("out")])
        }),
        case("adapters with a mask", 2, "E_CONFIG", "--masks", |tool: &Tool| {
            let made = made().to_str().unwrap();
            strings(&["export", made, "--for", "peft", "--masks", "--out", &tool.path("out")])
        }),
        case("adapters without a base", 2, "E_CONFIG", "--base", |tool: &Tool| folder(tool, "{}", None)),
        case("a base for a whole network", 2, "E_CONFIG", "--base", |tool: &Tool| {
            let file = tool.file("model.pth", b"");
            strings(&["import", &file, "--base", &file, "--out", &tool.path("out")])
        }),
        case("a file that does not say what it is", 2, "E_CONFIG", "--model", |tool: &Tool| {
            let header = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
            let bytes = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 4]].concat();
            let file = tool.file("model.safetensors", bytes);
            strings(&["import", &file, "--out", &tool.path("out")])
        }),
        case("an unknown architecture", 2, "E_CONFIG", "resnet19", |tool: &Tool| {
            let header = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
            let bytes = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 4]].concat();
            let file = tool.file("model.safetensors", bytes);
            let out = tool.path("out");
            strings(&["import", &file, "--model", "resnet19", "--classes", "10", "--out", &out])
        }),
        case("another network than was said", 4, "E_CKPT_MISMATCH", "model.safetensors", |tool: &Tool| {
            let header = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
            let bytes = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 4]].concat();
            let file = tool.file("model.safetensors", bytes);
            let out = tool.path("out");
            strings(&["import", &file, "--model", "resnet20", "--classes", "10", "--out", &out])
        }),
        case("an import onto something", 5, "E_EXISTS", "out", |tool: &Tool| {
            tool.file("out/mine", b"");
            strings(&["import", &tool.file("model.pth", b""), "--out", &tool.path("out")])
        }),
        case("an export in an unknown format", 2, "E_CONFIG", "model.onnx", |tool: &Tool| {
            strings(&["export", &tool.file("model.pth", b""), "--out", &tool.path("model.onnx")])
        }),
        case("an export onto something", 5, "E_EXISTS", "there.pth", |tool: &Tool| {
            strings(&["export", &tool.file("model.pth", b""), "--out", &tool.file("there.pth", b"")])
        }),
    ]
}
