//! Models of a hub through the verbs, from a server on this machine.

// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod bad;
mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bad::transformers::folder;
use common::{Done, TINY_VIT, Tool, hash};
use serde_json::{Value, json};
use unlearn::models::checkpoint;

const COMMIT: &str = "89abcdef0123456789abcdef0123456789abcdef";
const FILES: [&str; 3] = ["config.json", "model.safetensors", "preprocessor_config.json"];

const MASK: &str = "mask.safetensors";

/// A hub with the files of a folder as the model `org/tiny`.
struct Server {
    endpoint: String,
    requests: Arc<AtomicUsize>,
}

impl Server {
    fn start(folder: PathBuf) -> Self {
        Self::slow(folder, Duration::ZERO)
    }

    /// One that rests before each file.
    fn slow(folder: PathBuf, rest: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&requests);
        // It ends with the test process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = BufReader::new(stream.try_clone().unwrap()).lines();
                let first = head.next().and_then(Result::ok).unwrap_or_default();
                // All of the head, or a client would see the connection reset.
                while head.next().and_then(Result::ok).is_some_and(|line| !line.is_empty()) {}
                seen.fetch_add(1, Ordering::SeqCst);
                let address = first.split(' ').nth(1).unwrap_or_default();
                if address.contains("/resolve/") {
                    std::thread::sleep(rest);
                }
                let (status, body) = match answer(&folder, address) {
                    Some(body) => ("200 OK", body),
                    None => ("404 Not Found", Vec::new()),
                };
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            }
        });
        Self { endpoint, requests }
    }

    fn command(&self, tool: &Tool, line: &[&str]) -> Command {
        let mut command = tool.command(line);
        command.env("HF_ENDPOINT", &self.endpoint).env_remove("HF_HUB_OFFLINE");
        command
    }

    fn run(&self, tool: &Tool, line: &[&str]) -> Done {
        self.command(tool, line).output().unwrap().into()
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn answer(folder: &std::path::Path, address: &str) -> Option<Vec<u8>> {
    if let Some(name) = address.strip_prefix(&format!("/org/tiny/resolve/{COMMIT}/")) {
        return fs::read(folder.join(name)).ok();
    }
    let known = ["main", "v1", COMMIT].map(|r| format!("/api/models/org/tiny/revision/{r}?blobs=true"));
    known.iter().any(|k| k == address).then(|| {
        let file = |name: &str| {
            let bytes = fs::read(folder.join(name)).unwrap();
            let mut file = json!({ "rfilename": name, "size": bytes.len() });
            if name.ends_with("safetensors") {
                file["lfs"] = json!({ "sha256": hash(&bytes), "size": bytes.len() });
            }
            file
        };
        let there = FILES.into_iter().chain([MASK]).filter(|name| folder.join(name).exists());
        let files: Vec<Value> = there.map(file).collect();
        json!({ "sha": COMMIT, "siblings": files }).to_string().into_bytes()
    })
}

/// Commit and SHA-256 of every file, as they stand in a record or in metadata.
#[track_caller]
fn tells_its_origin(told: &Value, folder: &std::path::Path) {
    assert_eq!((&told["hub"], &told["revision"]), (&json!("org/tiny"), &json!(COMMIT)), "{told}");
    assert_eq!(told["files"].as_object().unwrap().len(), FILES.len(), "{told}");
    for name in FILES {
        assert_eq!(told["files"][name], json!(hash(&fs::read(folder.join(name)).unwrap())), "{name}");
    }
}

#[test]
fn training_begins_with_a_model_of_the_hub_and_says_so() {
    let tool = Tool::new();
    let source = PathBuf::from(folder(&tool, 10));
    let server = Server::start(source.clone());
    let recipe = tool.file("tiny.toml", TINY_VIT);
    let train = |name: &str, pretrained: &str| {
        let out = tool.path(name);
        let line = ["train", &recipe, "--out", &out, "--pretrained", pretrained, "--resume"];
        let done = server.run(&tool, &line);
        assert_eq!(done.code, 0, "{}", done.stderr);
        tool.root().join(name).join("model")
    };
    let stage = train("hub", "org/tiny@v1");
    let local = train("local", source.to_str().unwrap());
    let read = |stage: &std::path::Path| checkpoint::read(stage.join("model.safetensors")).unwrap();
    let (hub, local) = (read(&stage), read(&local));
    assert_eq!(hub.state, local.state);
    let record = |stage: &std::path::Path| -> Value {
        serde_json::from_slice(&fs::read(stage.join("stage.json")).unwrap()).unwrap()
    };
    tells_its_origin(&record(&stage)["pretrained"], &source);
    let metadata = hub.metadata.get("unlearn.pretrained").unwrap();
    tells_its_origin(&serde_json::from_str(metadata).unwrap(), &source);
    // The recipe that is kept names the commit, so that it means the same tomorrow; and it works.
    let kept = fs::read_to_string(tool.root().join("hub/recipe.toml")).unwrap();
    assert!(kept.contains(&format!("pretrained = \"org/tiny@{COMMIT}\"")), "{kept}");
    let requests = server.requests();
    let again = tool.path("again");
    let kept = tool.path("hub/recipe.toml");
    let done = tool.run(&["train", &kept, "--out", &again]);
    assert_eq!(done.code, 0, "from the cache, offline: {}", done.stderr);
    assert_eq!(server.requests(), requests);
    // A run that is done is found done, under whatever revision means the same.
    train("hub", "org/tiny");
    // What is made of the model says it too.
    let forget =
        ["forget", &recipe, "--method", "influence", "--model", &tool.path("hub"), "--out", &tool.path("iu")];
    assert_eq!(tool.run(&forget).code, 0);
    tells_its_origin(&record(&tool.root().join("iu/model"))["pretrained"], &source);
}

#[test]
fn models_of_the_hub_are_imported() {
    let tool = Tool::new();
    let source = PathBuf::from(folder(&tool, 7));
    let server = Server::start(source.clone());
    let done = server.run(&tool, &["import", "org/tiny", "--out", &tool.path("in")]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let found = checkpoint::read(tool.root().join("in/model.safetensors")).unwrap();
    tells_its_origin(
        &serde_json::from_str(found.metadata.get("unlearn.pretrained").unwrap()).unwrap(),
        &source,
    );
    let given = checkpoint::read(source.join("model.safetensors")).unwrap().state;
    assert!(given.iter().all(|(name, tensor)| found.state.get(name) == Some(tensor)));
    assert_eq!(found.state.len(), given.len() + 2, "the two constants");
}

#[test]
fn what_is_not_on_the_hub_is_refused() {
    let tool = Tool::new();
    let server = Server::start(PathBuf::from(folder(&tool, 10)));
    let out = tool.path("out");
    let recipe = tool.file("tiny.toml", TINY_VIT);
    for (line, words) in [
        (vec!["import", "org/none", "--out", &out], ["org/none@main", "no such model"]),
        (vec!["import", "org/tiny@v9", "--out", &out], ["org/tiny@v9", "no such revision"]),
        (vec!["train", &recipe, "--pretrained", "org/none", "--out", &out], ["org/none@main", "folder"]),
    ] {
        let done = server.run(&tool, &line);
        assert_eq!(done.code, 5, "{line:?}: {}", done.stderr);
        assert!(done.stderr.starts_with("error[E_DOWNLOAD] "), "{}", done.stderr);
        assert!(words.iter().all(|word| done.stderr.contains(word)), "{words:?} in {}", done.stderr);
    }
    let requests = server.requests();
    // Offline nobody is asked.
    let done = tool.run(&["import", "org/tiny", "--out", &out]);
    assert_eq!(done.code, 5, "{}", done.stderr);
    assert!(done.stderr.contains("HF_HUB_OFFLINE"), "{}", done.stderr);
    // What can only be a path is none of the hub's business.
    let done = server.run(&tool, &["import", "./org/tiny", "--out", &out]);
    assert_eq!((done.code, done.stderr.contains("E_IO")), (5, true), "{}", done.stderr);
    assert_eq!(server.requests(), requests);
    assert!(!tool.root().join("out").exists());
}

#[test]
fn a_commit_that_is_whole_in_the_cache_needs_no_net() {
    let tool = Tool::new();
    let server = Server::start(PathBuf::from(folder(&tool, 10)));
    let recipe = tool.file("tiny.toml", TINY_VIT);
    let (out, pinned) = (tool.path("out"), format!("org/tiny@{COMMIT}"));
    let line = ["train", &recipe, "--out", &out, "--pretrained", &pinned, "--resume"];
    let done = server.run(&tool, &line);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let nobody = Server { endpoint: "http://127.0.0.1:9".into(), ..server };
    let requests = nobody.requests();
    fs::remove_dir_all(tool.root().join("out/model")).unwrap();
    let kept = tool.path("out/recipe.toml");
    for line in [
        &line[..],
        &["train", &kept, "--out", &out, "--resume"],
        &["import", &pinned, "--out", &tool.path("in")],
    ] {
        let done = nobody.run(&tool, line);
        assert_eq!(done.code, 0, "{line:?}: {}", done.stderr);
    }
    assert_eq!(nobody.requests(), requests);
    // A change of any file is seen, and not asked about.
    let snapshot = format!("hub-home/hub/models--org--tiny/snapshots/{COMMIT}");
    let path = tool.root().join(&snapshot).join("config.json");
    let config = fs::read_to_string(&path).unwrap();
    let other = config.replace("\"hidden_dropout_prob\": 0.0", "\"hidden_dropout_prob\": 0.1");
    assert!(other != config && other.len() == config.len(), "{config}");
    fs::write(&path, other).unwrap();
    for offline in [false, true] {
        let line = ["import", &pinned, "--out", &tool.path("no")];
        let done = if offline { tool.run(&line) } else { nobody.run(&tool, &line) };
        assert_eq!(done.code, 3, "{}", done.stderr);
        assert!(done.stderr.starts_with("error[E_CHECKSUM] "), "{}", done.stderr);
        assert!(done.stderr.contains("config.json") && done.stderr.contains("delete"), "{}", done.stderr);
    }
    assert!(!tool.root().join("no").exists());
}

#[test]
fn two_that_fetch_one_model_at_once_both_get_it() {
    let tool = Tool::new();
    let server = Server::slow(PathBuf::from(folder(&tool, 7)), Duration::from_millis(300));
    let outs = [tool.path("one"), tool.path("two")];
    let children = outs.each_ref().map(|out| {
        let mut command = server.command(&tool, &["import", "org/tiny", "--out", out]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    for child in children {
        let done: Done = child.wait_with_output().unwrap().into();
        assert_eq!(done.code, 0, "{}", done.stderr);
    }
    let model = |out: &String| fs::read(PathBuf::from(out).join("model.safetensors")).unwrap();
    assert_eq!(model(&outs[0]), model(&outs[1]));
    // Each asked for the commit, and one for the files.
    assert_eq!(server.requests(), 2 + FILES.len());
}

#[test]
fn the_mask_of_a_pruned_model_comes_with_it() {
    let tool = Tool::new();
    let recipe = tool.file("tiny.toml", TINY_VIT);
    let (dense, sparse, folder) = (tool.path("dense"), tool.path("sparse"), tool.path("folder"));
    tool.succeeds(&["train", &recipe, "--out", &dense]);
    tool.succeeds(&["prune", &recipe, "--model", &dense, "--out", &sparse]);
    tool.succeeds(&["export", &sparse, "--for", "transformers", "--masks", "--out", &folder]);
    let server = Server::start(PathBuf::from(&folder));
    let done = server.run(&tool, &["import", "org/tiny", "--out", &tool.path("in")]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let mask = |folder: &str| fs::read(tool.root().join(folder).join(MASK)).unwrap();
    assert_eq!(mask("in"), mask("sparse/model"));
    let found = checkpoint::read(tool.root().join("in/model.safetensors")).unwrap();
    let told: Value = serde_json::from_str(found.metadata.get("unlearn.pretrained").unwrap()).unwrap();
    assert_eq!(told["files"][MASK], json!(hash(&mask("folder"))), "{told}");
}
