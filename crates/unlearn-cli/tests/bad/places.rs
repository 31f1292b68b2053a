//! Wrong output folders, and runs that come to a bad end.

use std::fs::File;

use super::pictures::{PIXEL, RED, ten_classes};
use super::{Case, case, run, set, strings};
use crate::common::{TINY, Tool};

fn out(tool: &Tool, out: &str, more: &[&str]) -> Vec<String> {
    let recipe = tool.file("recipe.toml", TINY);
    let mut line = strings(&["run", &recipe, "--out", out]);
    line.extend(strings(more));
    line
}

/// A folder that a run of this recipe has finished.
fn finished(tool: &Tool) -> String {
    let recipe = tool.file("recipe.toml", TINY);
    let folder = tool.path("out");
    let done = tool.run(&["train", &recipe, "--out", &folder]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    folder
}

fn again(tool: &Tool, more: &[&str]) -> Vec<String> {
    let folder = finished(tool);
    let mut line = strings(&["train", &tool.path("recipe.toml"), "--out", &folder]);
    line.extend(strings(more));
    line
}

/// Trains on ten pictures of one pixel in the folder `data`, or on what `place` is.
fn of_pixels(tool: &Tool, place: &str) -> Vec<String> {
    ten_classes(tool, "0.png", PIXEL);
    let recipe = tool.file("recipe.toml", TINY);
    let (data, out) = (tool.path(place), tool.path("out"));
    strings(&["train", &recipe, "--data", &data, "--set", "data={kind=\"auto\"}", "--out", &out])
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        case("a file where a folder is wanted", 5, "E_OUTDIR", "taken", |tool: &Tool| {
            let file = tool.file("taken", "mine");
            out(tool, &file, &[])
        }),
        case("a folder below a file", 5, "E_OUTDIR", "taken", |tool: &Tool| {
            let file = tool.file("taken", "mine");
            out(tool, &format!("{file}/run"), &[])
        }),
        case("a folder with other things in it", 5, "E_OUTDIR", "photos", |tool: &Tool| {
            tool.file("photos/me.jpg", "x");
            out(tool, &tool.path("photos"), &[])
        }),
        case("resume in a folder that no run made", 5, "E_OUTDIR", "photos", |tool: &Tool| {
            tool.file("photos/me.jpg", "x");
            out(tool, &tool.path("photos"), &["--resume"])
        }),
        case("resume beside the lock of another program", 5, "E_OUTDIR", "LOCK", |tool: &Tool| {
            tool.file("database/LOCK", "");
            tool.file("database/CURRENT", "MANIFEST-000001");
            tool.file("database/.tmp-journal", "mine");
            out(tool, &tool.path("database"), &["--resume"])
        }),
        case("resume beside a lock with foreign words", 5, "E_OUTDIR", "LOCK", |tool: &Tool| {
            tool.file("database/LOCK", "pid 4711\n");
            tool.file("database/results.json", "mine");
            out(tool, &tool.path("database"), &["--resume"])
        }),
        case("run beside a foreign lock", 5, "E_OUTDIR", "database", |tool: &Tool| {
            tool.file("database/LOCK", "");
            out(tool, &tool.path("database"), &[])
        }),
        case("resume where the lock is a folder", 5, "E_OUTDIR", "LOCK", |tool: &Tool| {
            tool.file("odd/LOCK/x", "mine");
            out(tool, &tool.path("odd"), &["--resume"])
        }),
        Case {
            leaves_nothing: false,
            ..case("resume where a stage is not the run's", 5, "E_OUTDIR", "COMMIT.json", |tool: &Tool| {
                let line = again(tool, &["--resume"]);
                let stage = tool.root().join("out/model");
                std::fs::remove_dir_all(&stage).unwrap();
                tool.file("out/model/notes.txt", "mine");
                line
            })
        },
        case("second run on one folder", 5, "E_OUTDIR", "--resume", |tool: &Tool| again(tool, &[])),
        case("resume with another verb", 2, "E_RESUME_CONFIG", "config.json", |tool: &Tool| {
            let folder = finished(tool);
            strings(&["run", &tool.path("recipe.toml"), "--out", &folder, "--resume"])
        }),
        case(
            "resume under another recipe beside broken pictures",
            2,
            "E_RESUME_CONFIG",
            "data.kind",
            |tool: &Tool| {
                ten_classes(tool, "0.png", b"no picture");
                let data = tool.path("data");
                again(tool, &["--resume", "--data", &data, "--set", "data={kind=\"folder\"}"])
            },
        ),
        case(
            "resume with fewer pictures a class",
            2,
            "E_RESUME_CONFIG",
            "data.train_per_class",
            |tool: &Tool| again(tool, &["--resume", "--set", "data.train_per_class=5"]),
        ),
        case("resume on a device that means nothing", 2, "E_DEVICE", "flexx", |tool: &Tool| {
            again(tool, &["--resume", "--device", "flexx"])
        }),
        case("resume with another method", 2, "E_RESUME_CONFIG", "of.method", |tool: &Tool| {
            let recipe = tool.file("recipe.toml", TINY);
            let (model, forgot) = (finished(tool), tool.path("forgot"));
            let line = ["forget", &recipe, "--model", &model, "--out", &forgot, "--method"];
            tool.succeeds(&[&line[..], &["finetune"]].concat());
            strings(&[&line[..], &["gradient-ascent", "--resume"]].concat())
        }),
        Case {
            leaves_nothing: false,
            ..case("resume beside a picture more", 3, "E_DATASET_MISMATCH", "data.train", |tool: &Tool| {
                let line = of_pixels(tool, "data");
                tool.succeeds(&line.iter().map(String::as_str).collect::<Vec<_>>());
                tool.file("data/train/0/1.png", PIXEL);
                [line, strings(&["--resume"])].concat()
            })
        },
        Case {
            leaves_nothing: false,
            ..case("resume under other constants", 2, "E_RESUME_CONFIG", "normalization", |tool: &Tool| {
                let first = ["--set", "data.train_per_class=1"];
                let line = [of_pixels(tool, "data"), strings(&first)].concat();
                tool.file("data/train/0/1.png", RED);
                for class in 1..10 {
                    tool.file(&format!("data/train/{class}/1.png"), PIXEL);
                }
                tool.succeeds(&line.iter().map(String::as_str).collect::<Vec<_>>());
                // The constants of all that was packed.
                tool.succeeds(&["data", "pack", &tool.path("data"), &tool.path("packed.bin")]);
                [of_pixels(tool, "packed.bin"), strings(&first), strings(&["--resume"])].concat()
            })
        },
        Case {
            leaves_nothing: false,
            ..set("a rate that diverges", 6, "E_DIVERGED", "step", &["training.learning_rate=1e30"])
        },
        case("results for eval in a full folder", 5, "E_OUTDIR", "photos", |tool: &Tool| {
            tool.file("photos/me.jpg", "x");
            let recipe = tool.file("recipe.toml", TINY);
            strings(&["eval", &recipe, "--model", "any", "--out", &tool.path("photos")])
        }),
    ];
    cases.push(Case {
        name: "a folder in use by another run",
        exit: 5,
        code: "E_LOCKED",
        word: "out",
        leaves_nothing: true,
        prepare: Box::new(|tool| {
            let lock = File::create(tool.file("out/LOCK", "process 1\n")).unwrap();
            lock.lock().unwrap();
            (run(tool, TINY, &[]), Some(Box::new(lock)))
        }),
    });
    if cfg!(unix) {
        cases.push(case("resume where the lock is a pipe", 5, "E_OUTDIR", "LOCK", |tool: &Tool| {
            tool.file("odd/mine.txt", "x");
            tool.pipe("odd/LOCK");
            out(tool, &tool.path("odd"), &["--resume"])
        }));
    }
    if cfg!(target_os = "linux") {
        // Nobody can write there, root included.
        cases.push(case("a folder that cannot be written", 5, "E_OUTDIR", "/proc", |tool: &Tool| {
            out(tool, "/proc/unlearn-run", &[])
        }));
        cases.push(case("a folder without a name", 5, "E_OUTDIR", "/dev/null", |tool: &Tool| {
            out(tool, "/dev/null", &[])
        }));
    }
    cases
}
