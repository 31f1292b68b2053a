//! Vision transformers that cannot be, and folders of Hugging Face that do not fit.

use unlearn::burn::tensor::Device;
use unlearn::data::{Seed, Stream};
use unlearn::models::VitConfig;
use unlearn::models::vit::HuggingFaceVit;

use super::{Case, case, run};
use crate::common::{TINY, TINY_VIT, Tool};

/// A folder with the transformer of the tiny recipe.
pub fn folder(tool: &Tool, classes: usize) -> String {
    let tiny = VitConfig::tiny_cifar(classes);
    let config = VitConfig { image: 8, patch: 4, hidden: 8, layers: 1, heads: 2, mlp: 16, ..tiny };
    let mut rng = Seed(3).rng(Stream::Init, 0, 0);
    let model = config.init(&[0.5; 3], &[0.5; 3], &Device::flex(), &mut rng).unwrap();
    HuggingFaceVit::write(tool.root().join("folder"), &model, &config).unwrap();
    tool.path("folder")
}

fn set(name: &'static str, code: &'static str, word: &'static str, assignment: &'static str) -> Case {
    case(name, 2, code, word, move |tool| run(tool, TINY_VIT, &[assignment]))
}

/// A run from a folder whose `config.json` was changed from one text to another.
fn described(name: &'static str, word: &'static str, from: &'static str, to: &'static str) -> Case {
    case(name, 4, "E_FOREIGN_CONFIG", word, move |tool| {
        let folder = folder(tool, 10);
        let text = std::fs::read_to_string(format!("{folder}/config.json")).unwrap();
        assert!(text.contains(from), "{text}");
        tool.file("folder/config.json", text.replace(from, to));
        from_folder(tool, &folder, TINY_VIT, &[])
    })
}

fn from_folder(tool: &Tool, folder: &str, recipe: &str, assignments: &[&str]) -> Vec<String> {
    let mut line = run(tool, recipe, assignments);
    line.extend(["--pretrained".to_owned(), folder.to_owned()]);
    line
}

pub fn cases() -> Vec<Case> {
    vec![
        set("picture no multiple of the patch", "E_CONFIG", "model.image", "model.patch=3"),
        set("features no multiple of the heads", "E_CONFIG", "model.hidden", "model.heads=3"),
        set("no heads", "E_CONFIG", "model.heads", "model.heads=0"),
        set("patch larger than the picture", "E_CONFIG", "model.patch", "model.patch=16"),
        set("dropout of everything", "E_CONFIG", "model.dropout", "model.dropout=1.0"),
        set("layer norms without epsilon", "E_CONFIG", "model.layer_norm_eps", "model.layer_norm_eps=0.0"),
        set("unknown activation", "E_CONFIG", "swish", "model.activation=swish"),
        set("unknown pooling", "E_CONFIG", "max", "model.pooling=max"),
        set("unknown normalisation", "E_CONFIG", "cifar", "data.normalization=cifar"),
        case("no config.json", 4, "E_FOREIGN_FILE", "config.json", |tool| {
            tool.file("folder/model.safetensors", "");
            from_folder(tool, &tool.path("folder"), TINY_VIT, &[])
        }),
        described(
            "channels without end",
            "num_channels",
            "\"num_channels\": 3",
            "\"num_channels\": 1000000000000",
        ),
        case("a folder of another program", 4, "E_FOREIGN_CONFIG", "save_pretrained", |tool| {
            let folder = folder(tool, 10);
            tool.file("folder/config.json", r#"{"run": {"recipe": {}}, "verb": "train"}"#);
            from_folder(tool, &folder, TINY_VIT, &[])
        }),
        case("no weights in the folder", 4, "E_FOREIGN_FILE", "model.safetensors", |tool| {
            let folder = folder(tool, 10);
            std::fs::remove_file(format!("{folder}/model.safetensors")).unwrap();
            from_folder(tool, &folder, TINY_VIT, &[])
        }),
        case("weights cut short", 4, "E_CKPT_FORMAT", "model.safetensors", |tool| {
            let folder = folder(tool, 10);
            let bytes = std::fs::read(format!("{folder}/model.safetensors")).unwrap();
            tool.file("folder/model.safetensors", &bytes[..bytes.len() / 2]);
            from_folder(tool, &folder, TINY_VIT, &[])
        }),
        described("activation of another kind", "hidden_act", "\"gelu\"", "\"gelu_new\""),
        described("a model of another kind", "model_type", "\"vit\"", "\"deit\""),
        described("queries without a bias", "qkv_bias", "\"qkv_bias\": true", "\"qkv_bias\": false"),
        case("folder of another size", 2, "E_CONFIG", "training.pretrained", |tool| {
            let folder = folder(tool, 10);
            from_folder(tool, &folder, TINY_VIT, &["model.mlp=24"])
        }),
        case("folder for a residual network", 2, "E_CONFIG", "training.pretrained", |tool| {
            let folder = folder(tool, 10);
            from_folder(tool, &folder, TINY, &[])
        }),
    ]
}
