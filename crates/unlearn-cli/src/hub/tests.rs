use std::collections::BTreeMap;
use std::fs;

use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;
use crate::download::hex;
use crate::download::tests::server::{Answer, Server};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const CONFIG_TEXT: &[u8] = br#"{"model_type": "vit"}"#;
/// What `git hash-object` says of it.
const CONFIG_BLOB: &str = "09906378791dc1e4b7285bfaaed5e2a73a9986f0";
const CONSTANTS: &[u8] = br#"{"image_mean": [0.5, 0.5, 0.5]}"#;

fn weights() -> Vec<u8> {
    (0..50_000_u32).map(|i| (i % 251) as u8).collect()
}

/// A hub with one model, and a cache.
struct Case {
    dir: TempDir,
    server: Server,
}

impl Case {
    fn new(answers: Vec<Answer>) -> Self {
        Self::with(&description(), answers)
    }

    fn with(description: &serde_json::Value, answers: Vec<Answer>) -> Self {
        let mut files = BTreeMap::new();
        for revision in ["main", "v1", COMMIT, "refs%2Fpr%2F1"] {
            let address = format!("/api/models/org/name/revision/{revision}?blobs=true");
            files.insert(address, serde_json::to_vec(description).unwrap());
        }
        for (name, content) in [
            ("config.json", CONFIG_TEXT.to_vec()),
            ("preprocessor_config.json", CONSTANTS.to_vec()),
            ("model.safetensors", weights()),
        ] {
            files.insert(format!("/org/name/resolve/{COMMIT}/{name}"), content);
        }
        Self { dir: tempfile::tempdir().unwrap(), server: Server::serving(files, answers) }
    }

    fn hub(&self, token: Option<&str>, offline: bool) -> Hub {
        let cache = Cache::new(self.dir.path().join("hub"));
        let endpoint = Some(format!("{}/", self.server.endpoint()));
        let hub = Hub::new(endpoint, cache, token.map(str::to_owned), offline, true).unwrap();
        Hub { stall: Duration::from_millis(400), pause: Duration::ZERO, ..hub }
    }

    fn fetch(&self, text: &str) -> Result<Fetched, Failure> {
        self.hub(None, false).fetch(&Id::parse(text).unwrap())
    }

    fn offline(&self, text: &str) -> Result<Fetched, Failure> {
        self.hub(None, true).fetch(&Id::parse(text).unwrap())
    }

    fn addresses(&self) -> Vec<String> {
        let words = |head: &String| head.split(' ').nth(1).unwrap().to_owned();
        self.server.requests().iter().map(words).collect()
    }

    #[track_caller]
    fn fails(&self, code: &str, exit: Exit, words: &[&str]) {
        let failure = self.fetch("org/name").unwrap_err();
        let message = failure.to_string();
        assert_eq!((failure.code, failure.exit), (code, exit), "{message}");
        for word in words {
            assert!(message.contains(word), "{word:?} is not in: {message}");
        }
        assert!(self.offline("org/name").is_err(), "a model that is not whole is taken for one");
    }
}

/// What the hub says of a model with files of both kinds, and some that are not wanted.
fn description() -> serde_json::Value {
    let weights = weights();
    let sha256 = hex(&Sha256::digest(&weights));
    json!({
        "id": "org/name", "sha": COMMIT, "private": false,
        "siblings": [
            {"rfilename": "README.md", "size": 3, "blobId": "x"},
            {"rfilename": "config.json", "size": CONFIG_TEXT.len(), "blobId": CONFIG_BLOB},
            {"rfilename": "preprocessor_config.json", "size": CONSTANTS.len()},
            {"rfilename": "model.safetensors", "size": weights.len(), "blobId": "5".repeat(40),
             "lfs": {"sha256": sha256, "size": weights.len()}},
            {"rfilename": "pytorch_model.bin", "size": 99_999},
        ],
    })
}

#[test]
fn only_what_is_read_is_fetched_and_once() {
    let case = Case::new(vec![]);
    let fetched = case.fetch("org/name").unwrap();
    assert_eq!(fetched.id.to_string(), format!("org/name@{COMMIT}"));
    let folder = case.dir.path().join("hub/models--org--name/snapshots").join(COMMIT);
    assert_eq!(fetched.folder, folder);
    let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["config.json", "model.safetensors", "preprocessor_config.json"]);
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights());
    assert_eq!(fs::read(folder.join("config.json")).unwrap(), CONFIG_TEXT);
    let reference = case.dir.path().join("hub/models--org--name/refs/main");
    assert_eq!(fs::read_to_string(reference).unwrap(), COMMIT);
    let expected = ["config.json", "preprocessor_config.json", "model.safetensors"];
    let expected: Vec<_> = expected.iter().map(|name| format!("/org/name/resolve/{COMMIT}/{name}")).collect();
    assert_eq!(case.addresses()[0], "/api/models/org/name/revision/main?blobs=true");
    assert_eq!(case.addresses()[1..], expected);
    // The second time only the commit is asked for, and where it is named nothing is.
    assert_eq!(case.fetch("org/name").unwrap(), fetched);
    assert_eq!(case.addresses().len(), 5);
    assert_eq!(case.fetch(&format!("org/name@{}", COMMIT.to_uppercase())).unwrap(), fetched);
    // Without the net it is what is there.
    assert_eq!(case.offline("org/name").unwrap(), fetched);
    assert_eq!(case.offline(&format!("org/name@{COMMIT}")).unwrap(), fetched);
    assert_eq!(case.addresses().len(), 5);
}

#[test]
fn revisions_are_asked_for_and_the_commit_is_told() {
    for revision in ["v1", COMMIT, "refs/pr/1"] {
        let case = Case::new(vec![]);
        let fetched = case.fetch(&format!("org/name@{revision}")).unwrap();
        assert_eq!(fetched.id.revision, COMMIT);
        assert_eq!(case.offline(&format!("org/name@{revision}")).unwrap(), fetched, "{revision}");
        assert!(case.offline("org/name").is_err(), "main was never asked for");
    }
}

#[test]
fn another_commit_than_the_pinned_one_is_refused() {
    let mut description = description();
    description["sha"] = json!("f".repeat(40));
    let case = Case::with(&description, vec![]);
    let failure = case.fetch(&format!("org/name@{COMMIT}")).unwrap_err();
    assert_eq!(failure.code, "E_DOWNLOAD");
    assert!(failure.to_string().contains("ffff"), "{failure}");
    assert_eq!(case.addresses().len(), 1);
    assert!(!case.dir.path().join("hub").exists(), "something was kept of it");
}

#[test]
fn what_is_named_like_a_file_is_not_asked_for() {
    // Nobody is asked here: this process has no server.
    for path in ["runs/model.pth", "weights/model.safetensors", "a/b.tar", "./org/name", "a/b/c"] {
        assert_eq!(resolve(Path::new(path), true).unwrap(), None, "{path}");
    }
}

#[test]
fn a_cut_is_continued() {
    let ok = || Answer::Cut(usize::MAX);
    let case = Case::new(vec![ok(), ok(), ok(), Answer::Cut(20_000)]);
    let fetched = case.fetch("org/name").unwrap();
    assert_eq!(fs::read(fetched.folder.join("model.safetensors")).unwrap(), weights());
    let last = case.server.requests().pop().unwrap().to_lowercase();
    assert!(last.contains("range: bytes=20000-"), "{last}");
    // Three cuts are for the next call, which goes on.
    let cut = || Answer::Cut(1_000);
    let case = Case::new(vec![ok(), ok(), ok(), cut(), cut(), cut()]);
    case.fails("E_DOWNLOAD", Exit::Environment, &["byte 3000", "run the same command again"]);
    case.fetch("org/name").unwrap();
    let last = case.server.requests().pop().unwrap().to_lowercase();
    assert!(last.contains("range: bytes=3000-"), "{last}");
    // What is said of the model is cut, too.
    Case::new(vec![Answer::Cut(10)]).fetch("org/name").unwrap();
}

#[test]
fn models_that_are_not_there_are_named() {
    let missing = || Answer::Head("404 Not Found", "content-length: 0\r\n");
    let case = Case::new(vec![missing()]);
    case.fails("E_DOWNLOAD", Exit::Environment, &["org/name@main", "no such model", "folder"]);
    assert_eq!(case.addresses().len(), 1, "it is not asked again");
    let case = Case::new(vec![]);
    let failure = case.fetch("org/name@v2").unwrap_err();
    assert!(failure.to_string().contains("org/name@v2: got no such model"), "{failure}");
}

#[test]
fn what_is_not_for_everybody_says_how_to_ask() {
    for status in ["401 Unauthorized", "403 Forbidden"] {
        let denied = || Answer::Head(status, "content-length: 0\r\n");
        Case::new(vec![denied()]).fails("E_DOWNLOAD", Exit::Environment, &[&status[..3], "HF_TOKEN"]);
        // A gated model is described to everybody, and its files are not.
        let case = Case::new(vec![Answer::Cut(usize::MAX), denied()]);
        case.fails("E_DOWNLOAD", Exit::Environment, &[&status[..3], "HF_TOKEN", "terms"]);
    }
    let case = Case::new(vec![]);
    case.hub(Some("secret"), false).fetch(&Id::parse("org/name").unwrap()).unwrap();
    let heads = case.server.requests();
    assert_eq!(heads.len(), 4);
    assert!(heads.iter().all(|head| head.contains("Bearer secret")), "{heads:?}");
    let case = Case::new(vec![]);
    case.fetch("org/name").unwrap();
    assert!(case.server.requests().iter().all(|head| !head.to_lowercase().contains("authorization")));
}

#[test]
fn other_content_is_refused() {
    let ok = || Answer::Cut(usize::MAX);
    let case = Case::new(vec![ok(), ok(), ok(), Answer::Content(vec![7; 50_000])]);
    case.fails("E_CHECKSUM", Exit::Data, &["SHA-256", "HF_ENDPOINT"]);
    let case = Case::new(vec![ok(), Answer::Content(vec![7; 5])]);
    case.fails("E_DOWNLOAD", Exit::Environment, &["a file of 5 bytes", "21 bytes"]);
    // Changed in the cache.
    let case = Case::new(vec![]);
    let folder = case.fetch("org/name").unwrap().folder;
    fs::write(folder.join("model.safetensors"), vec![1; 50_000]).unwrap();
    let failure = case.fetch("org/name").unwrap_err();
    assert_eq!((failure.code, failure.mend.contains("delete the file")), ("E_CHECKSUM", true), "{failure}");
}

/// Small files have no SHA-256 on the hub, but git's name.
#[test]
fn other_content_of_a_small_file_is_refused() {
    let ok = || Answer::Cut(usize::MAX);
    let other = br#"{"model_type": "ViT"}"#.to_vec();
    assert_eq!(other.len(), CONFIG_TEXT.len());
    let case = Case::new(vec![ok(), Answer::Content(other.clone())]);
    case.fails("E_CHECKSUM", Exit::Data, &["config.json", "git blob", CONFIG_BLOB]);
    // Of a hub that does not say it, the first one is believed, and no other afterwards.
    let mut description = description();
    description["siblings"][1]["blobId"] = json!(null);
    let case = Case::with(&description, vec![]);
    let folder = case.fetch("org/name").unwrap().folder;
    fs::write(folder.join("config.json"), &other).unwrap();
    let pinned = format!("org/name@{COMMIT}");
    let tries =
        [case.fetch("org/name"), case.fetch(&pinned), case.offline("org/name"), case.offline(&pinned)];
    for failure in tries.map(Result::unwrap_err) {
        assert_eq!((failure.code, failure.exit), ("E_CHECKSUM", Exit::Data), "{failure}");
        assert!(failure.place.ends_with("config.json") && failure.mend.contains("delete"), "{failure}");
    }
    // Deleted, it is fetched again, and must be the one that it was.
    fs::remove_file(folder.join("config.json")).unwrap();
    let failure = case.offline(&pinned).unwrap_err();
    assert_eq!(failure.code, "E_DOWNLOAD", "{failure}");
    case.fetch(&pinned).unwrap();
    assert_eq!(fs::read(folder.join("config.json")).unwrap(), CONFIG_TEXT);
    // One that a model can be without, but this one had it.
    fs::remove_file(folder.join("preprocessor_config.json")).unwrap();
    let failure = case.offline(&pinned).unwrap_err();
    assert_eq!((failure.code, failure.got.contains("preprocessor")), ("E_DOWNLOAD", true), "{failure}");
    case.fetch(&pinned).unwrap();
    fs::remove_file(folder.join("config.json")).unwrap();
    let changed = Case { dir: case.dir, ..Case::with(&description, vec![ok(), Answer::Content(other)]) };
    assert_eq!(changed.fetch(&pinned).unwrap_err().code, "E_CHECKSUM");
}

#[test]
fn a_record_that_is_damaged_or_of_another_program_is_made_anew() {
    let case = Case::new(vec![]);
    let folder = case.fetch("org/name").unwrap().folder;
    let record = case.dir.path().join(format!("hub/models--org--name/unlearn/{COMMIT}.json"));
    let whole = fs::read_to_string(&record).unwrap();
    for text in ["", "{}", &whole.replace("config.json", "../config.json"), &whole.replace(": 1,", ": 2,")] {
        fs::write(&record, text).unwrap();
        assert_eq!(case.offline("org/name").unwrap().folder, folder);
        let before = case.addresses().len();
        assert_eq!(case.fetch(&format!("org/name@{COMMIT}")).unwrap().folder, folder);
        assert_eq!(case.addresses().len(), before + 1, "the hub says whether the files are right");
        assert_eq!(fs::read_to_string(&record).unwrap(), whole);
    }
}

#[test]
fn two_that_fetch_one_model_both_get_it() {
    // The first one is in the middle of its weights for as long as a stall takes.
    let ok = || Answer::Cut(usize::MAX);
    let case = Case::new(vec![ok(), ok(), ok(), Answer::Stall(3_000), ok()]);
    let all = std::thread::scope(|scope| {
        let threads = [(); 3].map(|()| scope.spawn(|| case.fetch("org/name")));
        threads.map(|thread| thread.join().unwrap())
    });
    let folder = all[0].as_ref().unwrap().folder.clone();
    for fetched in all {
        assert_eq!(fetched.unwrap().folder, folder);
    }
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights());
    let addresses = case.addresses();
    let configs = addresses.iter().filter(|address| address.ends_with("/config.json"));
    assert_eq!(configs.count(), 1, "fetched twice: {addresses:?}");
}

#[test]
fn a_process_that_makes_no_progress_is_not_waited_for_for_ever() {
    let case = Case::new(vec![]);
    let hub = Hub { patience: Duration::from_millis(200), ..case.hub(None, false) };
    let id = Id::parse("org/name").unwrap();
    let lock = hub.beside(&id, COMMIT, "lock");
    let held = Lock::take(&lock, case.dir.path(), Duration::ZERO).unwrap();
    let failure = hub.fetch(&id).unwrap_err();
    assert_eq!((failure.code, failure.exit), ("E_LOCKED", Exit::Environment), "{failure}");
    assert!(failure.place.contains("unlearn"), "{failure}");
    drop(held);
    hub.fetch(&id).unwrap();
}

#[test]
fn what_is_no_vision_transformer_of_this_kind_is_not_fetched() {
    let without = |names: &[&str]| {
        let mut description = description();
        let files = description["siblings"].as_array_mut().unwrap();
        files.retain(|file| !names.contains(&file["rfilename"].as_str().unwrap()));
        description
    };
    for (names, word) in [
        (&["config.json"][..], "no config.json"),
        (&["model.safetensors", "pytorch_model.bin"], "no model.safetensors"),
    ] {
        let case = Case::with(&without(names), vec![]);
        case.fails("E_FOREIGN_FILE", Exit::Checkpoint, &[word, "org/name@main"]);
        assert_eq!(case.addresses().len(), 1);
    }
    // No constants: half is taken, as transformers does.
    let case = Case::with(&without(&["preprocessor_config.json"]), vec![]);
    assert!(!case.fetch("org/name").unwrap().folder.join("preprocessor_config.json").exists());
    for size in [json!(null), json!(9_u64 << 30)] {
        let mut description = description();
        description["siblings"][3]["size"] = size;
        Case::with(&description, vec![]).fails("E_TOO_LARGE", Exit::Checkpoint, &["model.safetensors"]);
    }
}

#[test]
fn answers_that_are_no_answers_are_refused() {
    for commit in ["", "main", "../../../etc", "abc", &"a".repeat(65)] {
        let mut description = description();
        description["sha"] = json!(commit);
        Case::with(&description, vec![]).fails("E_DOWNLOAD", Exit::Environment, &["commit", "HF_ENDPOINT"]);
    }
    Case::with(&json!([1]), vec![]).fails("E_DOWNLOAD", Exit::Environment, &["no description"]);
    let busy = || Answer::Head("503 Service Unavailable", "content-length: 0\r\n");
    Case::new(vec![busy(), Answer::Silence]).fetch("org/name").unwrap();
    let case = Case::new(vec![busy(), Answer::Raw(b"SSH-2.0\r\n"), busy()]);
    case.fails("E_DOWNLOAD", Exit::Environment, &["503", "3 tries", "HF_HUB_OFFLINE"]);
    // Far more than a list of files, though less than the server would send.
    let case = Case::with(&json!({ "long": "x".repeat(9 << 20) }), vec![]);
    case.fails("E_DOWNLOAD", Exit::Environment, &["over 8388608 bytes"]);
}

#[test]
fn nobody_there_and_no_address_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let hub = |endpoint: &str| {
        Hub::new(Some(endpoint.to_owned()), Cache::new(dir.path().to_owned()), None, false, true)
    };
    let nobody = Hub { pause: Duration::ZERO, ..hub("http://127.0.0.1:9").unwrap() };
    let failure = nobody.fetch(&Id::parse("org/name").unwrap()).unwrap_err();
    assert_eq!(failure.code, "E_DOWNLOAD");
    assert!(failure.to_string().contains("no answer"), "{failure}");
    let failure = hub("ftp://somewhere").err().unwrap();
    assert_eq!((failure.code, failure.exit), ("E_CONFIG", Exit::Usage));
}

#[test]
fn names_are_told_from_paths() {
    let parsed = |text| Id::parse(text).map(|id| id.to_string());
    assert_eq!(parsed("org/name").unwrap(), "org/name@main");
    assert_eq!(parsed("or-g/na.me_2@v1.0").unwrap(), "or-g/na.me_2@v1.0");
    assert_eq!(parsed("org/name@refs/pr/1").unwrap(), "org/name@refs/pr/1");
    for path in [
        "name",
        "/org/name",
        "./name",
        "../name",
        "~/name",
        "a/b/c",
        "org/",
        "/",
        "",
        "org/name@",
        "org/na me",
        "org/..",
        "org/name@../x",
        "org/name@/x",
        "org/name@a//b",
        "org\\name",
        "org/name?x",
        "org/a--b",
        "org/.git",
    ] {
        assert_eq!(parsed(path), None, "{path}");
    }
    // A folder that is there is a folder.
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(resolve(dir.path(), true).unwrap(), None);
    assert_eq!(resolve(&dir.path().join("no/where"), true).unwrap(), None);
}
