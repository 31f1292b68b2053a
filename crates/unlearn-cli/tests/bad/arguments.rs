//! Wrong command lines.

use super::{Case, case, set, strings};
use crate::common::{TINY, Tool};

fn line(name: &'static str, word: &'static str, parts: &'static [&'static str]) -> Case {
    case(name, 2, "E_USAGE", word, move |_: &Tool| strings(parts))
}

pub fn cases() -> Vec<Case> {
    vec![
        line("unknown verb", "unlaern", &["unlaern"]),
        line("unknown flag", "--epoch", &["run", "r.toml", "--epoch", "3"]),
        line("run without a recipe", "RECIPE", &["run"]),
        line("train without out", "--out", &["train", "r.toml"]),
        line(
            "forget without a model",
            "--model",
            &["forget", "r.toml", "--method", "finetune", "--out", "x"],
        ),
        line("unknown shell", "tcsh", &["completions", "tcsh"]),
        line("quiet and verbose", "--verbose", &["-q", "-v", "methods"]),
        case("unknown method page", 2, "E_METHOD", "finetun", |_: &Tool| strings(&["methods", "finetun"])),
        case("unknown device", 2, "E_DEVICE", "flexx", |tool: &Tool| {
            strings(&["run", &tool.file("r.toml", TINY), "--out", &tool.path("out"), "--device", "flexx"])
        }),
        case("device not built in", 5, "E_BACKEND_NOT_BUILT", "cuda", |tool: &Tool| {
            strings(&["run", &tool.file("r.toml", TINY), "--out", &tool.path("out"), "--device", "cuda"])
        }),
        case("demo on a device not built in", 5, "E_BACKEND_NOT_BUILT", "cuda", |_: &Tool| {
            strings(&["demo", "--quick", "--device", "cuda"])
        }),
        case("folder for synthetic pictures", 2, "E_CONFIG", "--data", |tool: &Tool| {
            strings(&["run", &tool.file("r.toml", TINY), "--out", &tool.path("out"), "--data", "."])
        }),
        set("set without an equals sign", 2, "E_SET", "training.epochs", &["training.epochs"]),
        set("set with an empty key", 2, "E_SET", "a..b", &["a..b=1"]),
        set("set past the end of an array", 2, "E_SET", "9", &["method.9.epochs=1"]),
        set("set of an unknown array element", 2, "E_SET", "finetun", &["method.finetun.epochs=1"]),
        set("set below a number", 2, "E_SET", "epochs", &["training.epochs.x=1"]),
    ]
}
