//! Wrong recipes.

use super::{Case, case, run, set, strings};
use crate::common::{TINY, Tool};

/// The tiny recipe with one piece of its text replaced.
fn edit(
    name: &'static str,
    code: &'static str,
    word: &'static str,
    from: &'static str,
    to: &'static str,
) -> Case {
    case(name, 2, code, word, move |tool: &Tool| {
        assert!(TINY.contains(from), "{from:?}");
        run(tool, &TINY.replacen(from, to, 1), &[])
    })
}

fn file(name: &'static str, exit: i32, code: &'static str, content: Option<&'static [u8]>) -> Case {
    case(name, exit, code, "r.toml", move |tool: &Tool| {
        let path = content.map_or_else(|| tool.path("r.toml"), |content| tool.file("r.toml", content));
        strings(&["recipe", "check", &path])
    })
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        file("recipe not there", 5, "E_IO", None),
        file("empty recipe", 2, "E_CONFIG", Some(b"")),
        file("recipe not UTF-8", 2, "E_RECIPE", Some(b"name = \"\xff\xfe\"")),
        file("recipe cut in a string", 2, "E_RECIPE", Some(b"name = \"tin")),
        file("key given twice", 2, "E_RECIPE", Some(b"name = \"a\"\nname = \"b\"\n")),
        case("recipe is a folder", 2, "E_RECIPE", "folder", |tool: &Tool| {
            tool.file("folder/x", "");
            strings(&["run", &tool.path("folder"), "--out", &tool.path("out")])
        }),
        edit("unknown key", "E_KEY", "recipe.toml:17 training.epoch", "epochs = 2", "epoch = 2"),
        edit("unknown table", "E_KEY", "forgett", "[forget]", "[forgett]"),
        edit("unknown key of a method", "E_KEY", "epoch", "epochs = 1", "epoch = 1"),
        edit(
            "unknown key of a schedule",
            "E_KEY",
            "warmth",
            "name = \"cosine\"",
            "name = \"cosine\", warmth = 1",
        ),
        edit("unknown key of the model", "E_KEY", "widht", "width = 4", "widht = 4"),
        edit("missing key", "E_CONFIG", "batch_size", "batch_size = 20\n", ""),
        edit("text for a number", "E_CONFIG", "training.epochs", "epochs = 2", "epochs = \"two\""),
        set("zero epochs", 2, "E_CONFIG", "training.epochs", &["training.epochs=0"]),
        set("negative epochs", 2, "E_CONFIG", "training.epochs", &["training.epochs=-3"]),
        set("zero batch size", 2, "E_CONFIG", "training.batch_size", &["training.batch_size=0"]),
        set("zero learning rate", 2, "E_CONFIG", "training.learning_rate", &["training.learning_rate=0.0"]),
        set("infinite learning rate", 2, "E_CONFIG", "inf", &["training.learning_rate=inf"]),
        set("label smoothing of one", 2, "E_CONFIG", "label_smoothing", &["training.label_smoothing=1.0"]),
        set("momentum of one and a half", 2, "E_CONFIG", "momentum", &["training.optimizer.momentum=1.5"]),
        set("unknown optimizer", 2, "E_CONFIG", "adam", &["training.optimizer={name=\"adam\"}"]),
        set("unknown kind of data", 2, "E_CONFIG", "cifar11", &["data.kind=cifar11"]),
        set("no pictures of a class", 2, "E_CONFIG", "train_per_class", &["data.train_per_class=0"]),
        set("pruning rate one", 2, "E_RATE", "network.1.pruning.rate", &["network.sparse.pruning.rate=1.0"]),
        set("pruning rate zero", 2, "E_RATE", "network.1.pruning.rate", &["network.sparse.pruning.rate=0.0"]),
        set("pruning rate not a number", 2, "E_RATE", "NaN", &["network.sparse.pruning.rate=nan"]),
        set("no rounds", 2, "E_CONFIG", "rounds", &["network.sparse.pruning.rounds=0"]),
        set("rewind past the end", 2, "E_CONFIG", "rewind", &["network.sparse.pruning.rewind=epoch:9"]),
        set("unknown rewind", 2, "E_CONFIG", "rewind", &["network.sparse.pruning.rewind=middle"]),
        set("unknown score", 2, "E_CONFIG", "magnitud", &["network.sparse.pruning.score=magnitud"]),
        set("network named as a folder of the run", 2, "E_CONFIG", "base", &["network.dense.name=base"]),
        set("network name that climbs", 2, "E_CONFIG", "../x", &["network.dense.name=../x"]),
        set("two networks of one name", 2, "E_CONFIG", "sparse", &["network.dense.name=sparse"]),
        set("no network", 2, "E_CONFIG", "network", &["network=[]"]),
        set("unknown method", 2, "E_METHOD", "finetunes", &["method.finetune.name=finetunes"]),
        set("two methods of one label", 2, "E_CONFIG", "retrain", &["method.finetune.label=retrain"]),
        set("zero epochs of a method", 2, "E_CONFIG", "method.1", &["method.finetune.epochs=0"]),
        set(
            "NaN as a hyperparameter",
            2,
            "E_CONFIG",
            "method.1.learning_rate",
            &["method.finetune.learning_rate=nan"],
        ),
        set(
            "infinity deep in a method",
            2,
            "E_CONFIG",
            "method.1.optimizer.momentum",
            &["method.finetune.optimizer={name=\"sgd\",momentum=-inf}"],
        ),
        set(
            "a date as a hyperparameter",
            2,
            "E_CONFIG",
            "method.1.epochs",
            &["method.finetune.epochs=2026-01-01"],
        ),
        set(
            "text for a number of a method",
            2,
            "E_CONFIG",
            "method.1.learning_rate",
            &["method.finetune.learning_rate=fast"],
        ),
        edit(
            "number for a boolean of a method",
            "E_CONFIG",
            "recipe.toml:39 method.1.share_inputs",
            "name = \"finetune\"\nepochs = 1",
            "name = \"fisher\"\nshare_inputs = 1",
        ),
        set(
            "another method called retrain",
            2,
            "E_CONFIG",
            "method.0.label",
            &["method.0={name=\"finetune\",label=\"retrain\"}", "method.1.label=x"],
        ),
        set(
            "network named as the results",
            2,
            "E_CONFIG",
            "results.json",
            &["network.dense.name=results.json"],
        ),
        set("network named as the lock", 2, "E_CONFIG", "lock", &["network.dense.name=lock"]),
        set("network named as the recipe", 2, "E_CONFIG", "Recipe.toml", &["network.dense.name=Recipe.toml"]),
        set(
            "pattern that matches nothing",
            2,
            "E_PRUNABLE",
            "network.1.pruning.prunable",
            &["network.sparse.pruning.prunable={rule=\"conv\",exclude=[\"layer9.*\"]}"],
        ),
        set(
            "rule that selects nothing",
            2,
            "E_PRUNABLE",
            "network.1.pruning.prunable",
            &["network.sparse.pruning.prunable=dense"],
        ),
        set(
            "pruning that leaves nothing",
            2,
            "E_PRUNE_ALL",
            "network sparse",
            &["network.sparse.pruning.rate=0.999999", "network.sparse.pruning.empty_layers=allow"],
        ),
        set("model without width", 2, "E_CONFIG", "model.width", &["model.width=0"]),
        set("model too wide", 2, "E_CONFIG", "model.width", &["model.width=100000"]),
        set(
            "split fraction of one",
            2,
            "E_CONFIG",
            "split.fraction",
            &["split={rule=\"stratified\",fraction=1.0}"],
        ),
        set("zero evaluation batch", 2, "E_CONFIG", "evaluation.batch_size", &["evaluation.batch_size=0"]),
        set("unknown forget spec", 2, "E_CONFIG", "klass:1", &["forget.spec=klass:1"]),
    ];
    if cfg!(target_os = "linux") {
        cases.push(case("recipe that never ends", 2, "E_RECIPE", "/dev/zero", |_: &Tool| {
            strings(&["recipe", "check", "/dev/zero"])
        }));
    }
    if cfg!(unix) {
        cases.push(case("recipe that is a pipe", 2, "E_RECIPE", "pipe", |tool: &Tool| {
            strings(&["recipe", "check", &tool.pipe("recipe.toml")])
        }));
    }
    cases
}
