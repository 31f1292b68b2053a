//! The built command in a folder of its own.

// Each test binary uses its part of this.
#![allow(dead_code, unreachable_pub)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

/// A whole recipe that runs in about a second: dense and pruned, Retrain and FT.
pub const TINY: &str = r#"
name = "tiny"

[data]
kind = "synthetic"
train_per_class = 6
test_per_class = 4
size = 8

[model]
name = "resnet"
width = 4
blocks = [1, 1, 1, 1]
classes = 10

[training]
epochs = 2
batch_size = 20
learning_rate = 0.05
augment = "crop-flip"
optimizer = { name = "sgd", momentum = 0.9, weight_decay = 5e-4 }
schedule = { name = "cosine" }

[[network]]
name = "dense"

[[network]]
name = "sparse"
pruning = { rate = 0.5, rewind = "epoch:1" }

[forget]
spec = "class:0"

[[method]]
name = "retrain"

[[method]]
name = "finetune"
epochs = 1
"#;

/// A recipe of a vision transformer that trains in about a second.
pub const TINY_VIT: &str = r#"
name = "tiny-vit"

[data]
kind = "synthetic"
train_per_class = 6
test_per_class = 4
size = 10

[model]
name = "vit"
image = 8
patch = 4
hidden = 8
layers = 1
heads = 2
mlp = 16
classes = 10

[training]
epochs = 2
batch_size = 20
learning_rate = 1e-3
warmup_epochs = 1
augment = "random-resized-crop"
optimizer = { name = "adam-w", weight_decay = 0.05 }
schedule = { name = "cosine-steps" }

[[network]]
name = "sparse"
pruning = { rate = 0.5, prunable = "dense", rewind = "epoch:1" }

[forget]
spec = "class:0"

[[method]]
name = "retrain"

[[method]]
name = "fisher"

[[method]]
name = "influence"
samples = 20
"#;

/// What a run of the command came to.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The command and a temporary folder that it works in.
pub struct Tool {
    folder: tempfile::TempDir,
}

impl Tool {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, name: &str) -> String {
        self.root().join(name).to_str().unwrap().to_owned()
    }

    /// Writes a file and returns its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.root().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Makes a pipe that nobody writes to, and returns its path.
    pub fn pipe(&self, name: &str) -> String {
        let path = self.path(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_unlearn"));
        command.args(arguments).current_dir(self.root()).env_remove("RUST_LOG");
        // No test asks the net, whatever a wrong path looks like.
        command
            .env("HF_HUB_OFFLINE", "1")
            .env("HF_HOME", self.root().join("hub-home"))
            .env_remove("HF_TOKEN");
        command
    }

    /// Runs to the end, or to the deadline: what waits for ever must not stop the tests for ever.
    pub fn run(&self, arguments: &[&str]) -> Done {
        const DEADLINE: Duration = Duration::from_mins(2);
        let mut command = self.command(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let number = child.id().to_string();
        let (ended, watched) = std::sync::mpsc::channel::<()>();
        let watch = std::thread::spawn(move || {
            if watched.recv_timeout(DEADLINE) == Err(RecvTimeoutError::Timeout) {
                let _ = Command::new("kill").args(["-9", &number]).status();
            }
        });
        let output = child.wait_with_output().unwrap();
        drop(ended);
        watch.join().unwrap();
        output.into()
    }

    /// Runs what must succeed; gives its output.
    #[track_caller]
    pub fn succeeds(&self, arguments: &[&str]) -> String {
        let done = self.run(arguments);
        assert_eq!(done.code, 0, "{arguments:?}: {}", done.stderr);
        done.stdout
    }

    /// Runs what must fail with this exit code and these words on standard error.
    #[track_caller]
    pub fn fails(&self, arguments: &[&str], exit: i32, words: &[&str]) {
        let done = self.run(arguments);
        assert_eq!(done.code, exit, "{arguments:?}: {}", done.stderr);
        for word in words {
            assert!(done.stderr.contains(word), "no {word:?} in {}", done.stderr);
        }
    }
}

/// Every file below `folder` with the hash of its content, in order.
pub fn contents(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.push((path.clone(), "folder".into()));
                folders.push(path);
            } else if !path.is_file() {
                found.push((path, "neither file nor folder".into()));
            } else {
                found.push((path.clone(), hash(&std::fs::read(&path).unwrap())));
            }
        }
    }
    found.sort();
    found
}

/// SHA-256 in hexadecimal.
pub fn hash(bytes: &[u8]) -> String {
    use std::fmt::Write;

    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
