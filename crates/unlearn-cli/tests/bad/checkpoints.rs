//! Wrong models and masks.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::pictures::ten_classes;
use super::{Case, case, strings};
use crate::common::{TINY, Tool};

/// A sparse model of the tiny recipe, made once.
pub(super) fn made() -> &'static Path {
    static MADE: OnceLock<(Tool, PathBuf)> = OnceLock::new();
    let (_, path) = MADE.get_or_init(|| {
        let tool = Tool::new();
        let recipe = tool.file("recipe.toml", TINY);
        for line in [
            vec!["train", &recipe, "--out", &tool.path("dense")],
            vec!["prune", &recipe, "--model", &tool.path("dense"), "--out", &tool.path("sparse")],
        ] {
            let done = tool.run(&line);
            assert_eq!(done.code, 0, "{}", done.stderr);
        }
        let path = tool.root().join("sparse/model");
        (tool, path)
    });
    path
}

fn model() -> Vec<u8> {
    fs::read(made().join("model.safetensors")).unwrap()
}

/// `unlearn forget` from `model`, with further arguments.
fn forget(tool: &Tool, model: &str, more: &[&str]) -> Vec<String> {
    let recipe = tool.file("recipe.toml", TINY);
    let mut line =
        strings(&["forget", &recipe, "--method", "finetune", "--model", model, "--out", &tool.path("out")]);
    line.extend(strings(more));
    line
}

/// A file that holds whatever `content` gives.
fn file(
    name: &'static str,
    exit: i32,
    code: &'static str,
    word: &'static str,
    content: impl Fn() -> Vec<u8> + 'static,
) -> Case {
    case(name, exit, code, word, move |tool: &Tool| {
        let model = tool.file("model.safetensors", content());
        forget(tool, &model, &[])
    })
}

type Tensors = HashMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// The model with its tensors changed; the metadata stay.
fn changed(change: impl Fn(&mut Tensors)) -> Vec<u8> {
    let bytes = model();
    let (_, about) = SafeTensors::read_metadata(&bytes).unwrap();
    let read = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Tensors = read
        .iter()
        .map(|(name, view)| (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
        .collect();
    change(&mut tensors);
    let views: Vec<(&String, TensorView<'_>)> = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()))
        .collect();
    safetensors::serialize(views, about.metadata().clone()).unwrap()
}

fn tensors(
    name: &'static str,
    code: &'static str,
    word: &'static str,
    change: impl Fn(&mut Tensors) + Copy + 'static,
) -> Case {
    file(name, 4, code, word, move || changed(change))
}

const HEAD: &str = "conv1.weight";

/// A stage folder with model and mask, whose mask is changed.
fn mask(name: &'static str, code: &'static str, change: impl Fn(Vec<u8>) -> Vec<u8> + 'static) -> Case {
    case(name, 4, code, "mask", move |tool: &Tool| {
        tool.file("stage/model.safetensors", model());
        tool.file("stage/mask.safetensors", change(fs::read(made().join("mask.safetensors")).unwrap()));
        forget(tool, &tool.path("stage"), &[])
    })
}

/// A good model under another recipe.
fn under(name: &'static str, exit: i32, code: &'static str, word: &'static str, set: &'static str) -> Case {
    case(name, exit, code, word, move |tool: &Tool| {
        let model = tool.file("model.safetensors", model());
        forget(tool, &model, &["--set", set])
    })
}

/// A wrong model beside pictures of which none would open: the model is looked at before.
fn before_pictures(
    name: &'static str,
    exit: i32,
    code: &'static str,
    word: &'static str,
    content: impl Fn() -> Vec<u8> + 'static,
    set: &'static str,
) -> Case {
    case(name, exit, code, word, move |tool: &Tool| {
        ten_classes(tool, "0.png", b"no picture");
        let model = tool.file("model.safetensors", content());
        let data = tool.path("data");
        forget(tool, &model, &["--data", &data, "--set", "data={kind=\"folder\"}", "--set", set])
    })
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        case("model that is mostly a hole", 4, "E_CKPT_FORMAT", "describes", |tool: &Tool| {
            let path = tool.file("model.safetensors", model());
            // Past what could be read in the time that an error may take; it takes no room on the disk.
            fs::File::options().write(true).open(&path).unwrap().set_len(6 << 30).unwrap();
            forget(tool, &path, &[])
        }),
        case("a network of gigabytes from a small file", 4, "E_CKPT_MISMATCH", "numbers", |tool: &Tool| {
            let tensor = TensorView::new(Dtype::F32, vec![1], &[0; 4]).unwrap();
            let bytes = safetensors::serialize([("fc.bias", tensor)], None).unwrap();
            let (model, out) = (tool.file("model.safetensors", bytes), tool.path("out"));
            let architecture = ["--model", "resnet18", "--classes", "10", "--width", "400"];
            strings(&[&["import", &model, "--out", &out][..], &architecture[..]].concat())
        }),
        case("width that no number holds", 2, "E_CONFIG", "hidden", |tool: &Tool| {
            let model = tool.file("model.safetensors", model());
            let width = usize::MAX.to_string();
            let out = tool.path("out");
            let architecture = ["--model", "vit-tiny-cifar", "--classes", "10", "--width", &width];
            strings(&[&["import", &model, "--out", &out][..], &architecture[..]].concat())
        }),
        case("model not there", 5, "E_IO", "nowhere", |tool: &Tool| forget(tool, "nowhere.safetensors", &[])),
        case("model is a folder without one", 4, "E_NOT_A_FILE", "stage", |tool: &Tool| {
            tool.file("stage/readme.md", "");
            forget(tool, &tool.path("stage"), &[])
        }),
        file("empty model file", 4, "E_CKPT_FORMAT", "empty", Vec::new),
        file("text as a model", 4, "E_CKPT_FORMAT", "model.safetensors", || {
            b"hello, I am no model at all".to_vec()
        }),
        file("model cut in its header", 4, "E_CKPT_FORMAT", "model.safetensors", || model()[..40].to_vec()),
        file("model cut in its values", 4, "E_CKPT_FORMAT", "model.safetensors", || {
            let bytes = model();
            bytes[..bytes.len() - 3].to_vec()
        }),
        file("model with bytes left over", 4, "E_CKPT_FORMAT", "model.safetensors", || {
            let mut bytes = model();
            bytes.extend([0; 9]);
            bytes
        }),
        file("header longer than the file", 4, "E_CKPT_FORMAT", "model.safetensors", || {
            let mut bytes = (1_u64 << 40).to_le_bytes().to_vec();
            bytes.extend(b"{\"a\":1}");
            bytes
        }),
        file("pickle that runs a command as a model", 4, "E_CKPT_FORMAT", "model.safetensors", || {
            b"\x80\x02cos\nsystem\nq\x00X\x0b\x00\x00\x00touch ownedq\x01\x85q\x02Rq\x03.".to_vec()
        }),
        tensors("tensor missing", "E_CKPT_MISMATCH", "conv1.weight", |t| {
            t.remove(HEAD);
        }),
        tensors("tensor left over", "E_CKPT_MISMATCH", "extra.weight", |t| {
            let copy = t[HEAD].clone();
            t.insert("extra.weight".into(), copy);
        }),
        tensors("tensor of another shape", "E_CKPT_MISMATCH", "conv1.weight", |t| {
            let tensor = t.get_mut(HEAD).unwrap();
            tensor.1 = vec![tensor.1.iter().product()];
        }),
        tensors("NaN weights", "E_NONFINITE", "conv1.weight", |t| {
            t.get_mut(HEAD).unwrap().2[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        }),
        before_pictures(
            "NaN weights beside broken pictures",
            4,
            "E_NONFINITE",
            "conv1.weight",
            || changed(|t| t.get_mut(HEAD).unwrap().2[..4].copy_from_slice(&f32::NAN.to_le_bytes())),
            "seeds.forget=1",
        ),
        before_pictures(
            "model of another width beside broken pictures",
            4,
            "E_CKPT_MODEL",
            "width",
            model,
            "model.width=8",
        ),
        before_pictures(
            "model of more samples beside broken pictures",
            3,
            "E_DATASET_MISMATCH",
            "60 samples of 10 classes",
            model,
            "seeds.forget=1",
        ),
        tensors("infinite statistics", "E_NONFINITE", "bn1.running_var", |t| {
            t.get_mut("bn1.running_var").unwrap().2[..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
        }),
        tensors("tensor of integers", "E_CKPT_DTYPE", "conv1.weight", |t| {
            t.get_mut(HEAD).unwrap().0 = Dtype::I32;
        }),
        mask("text as a mask", "E_MASK_FILE", |_| b"no mask".to_vec()),
        mask("mask cut short", "E_MASK_FILE", |bytes| bytes[..bytes.len() - 1].to_vec()),
        mask("empty mask", "E_MASK_FILE", |_| Vec::new()),
        mask("model given as its mask", "E_MASK_FILE", |_| model()),
        under("model of another width", 4, "E_CKPT_MODEL", "width", "model.width=8"),
        under("model of other pictures", 3, "E_DATASET_MISMATCH", "fingerprint", "seeds.data=7"),
        under("model of another split", 4, "E_SPLIT", "split", "split={rule=\"stratified\",fraction=0.2}"),
        under("unknown method for a good model", 2, "E_CONFIG", "epochs", "method.finetune.epochs=0"),
        case("sparse model without its mask", 4, "E_MASK_FILE", "no mask beside", |tool: &Tool| {
            let model = tool.file("copied/model.safetensors", model());
            forget(tool, &model, &[])
        }),
        case("dense model beside a mask", 4, "E_MASK_FILE", "no mask, under which", |tool: &Tool| {
            let dense = fs::read(made().join("../../dense/model/model.safetensors")).unwrap();
            tool.file("stage/model.safetensors", dense);
            tool.file("stage/mask.safetensors", fs::read(made().join("mask.safetensors")).unwrap());
            forget(tool, &tool.path("stage"), &[])
        }),
        case("eval under another forget set", 4, "E_FORGET_SET", "class:3", |tool: &Tool| {
            let recipe = tool.file("recipe.toml", TINY);
            let made = made().to_str().unwrap();
            let line =
                ["forget", &recipe, "--method", "finetune", "--model", made, "--out", &tool.path("ft")];
            let done = tool.run(&line);
            assert_eq!(done.code, 0, "{}", done.stderr);
            strings(&["eval", &recipe, "--model", &tool.path("ft"), "--set", "forget.spec=class:3"])
        }),
        case("one bad model among good ones", 4, "E_CKPT_FORMAT", "bad.safetensors", |tool: &Tool| {
            let recipe = tool.file("recipe.toml", TINY);
            let dense = fs::read(made().join("../../dense/model/model.safetensors")).unwrap();
            let (good, bad) = (tool.file("good.safetensors", dense), tool.file("bad.safetensors", "x"));
            strings(&["eval", &recipe, "--model", &good, "--model", &bad, "--out", &tool.path("out")])
        }),
        case("prune without such a network", 2, "E_NETWORK", "spares", |tool: &Tool| {
            let recipe = tool.file("recipe.toml", TINY);
            let model = tool.file("model.safetensors", model());
            strings(&["prune", &recipe, "--model", &model, "--network", "spares", "--out", &tool.path("out")])
        }),
    ];
    if cfg!(unix) {
        cases.push(case("record of a stage that is a pipe", 5, "E_IO", "stage.json", |tool: &Tool| {
            let dense = fs::read(made().join("../../dense/model/model.safetensors")).unwrap();
            let model = tool.file("copied/model.safetensors", dense);
            tool.pipe("copied/stage.json");
            forget(tool, &model, &[])
        }));
    }
    cases
}
