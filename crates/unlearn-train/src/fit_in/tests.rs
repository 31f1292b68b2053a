use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use unlearn_data::{Loader, Seed};
use unlearn_models::StateDict;

use crate::testing::{TinyNet, bits, loader};
use crate::{
    BatchNormMode, CheckpointConfig, CrossEntropy, Event, Fit, FitConfig, Observer, OptimizerConfig,
    Schedule, Silent, TrainError, Unconstrained, fit, fit_in,
};

mod kill;

const PLAIN: CrossEntropy = CrossEntropy { label_smoothing: 0.0 };

/// Three epochs of five steps with everything on that has a state: momentum, a schedule, clipping,
/// snapshots, augmentation, a short last batch.
fn config(optimizer: OptimizerConfig) -> FitConfig {
    FitConfig {
        schedule: Schedule::CosineSteps,
        warmup_epochs: 1,
        clip_norm: Some(1.0),
        snapshot_epochs: vec![0, 1, 3],
        checkpoint: CheckpointConfig { every_steps: Some(2), keep: 2 },
        ..FitConfig::new(3, 0.05, optimizer)
    }
}

fn sgd() -> FitConfig {
    config(OptimizerConfig::Sgd { momentum: 0.9, weight_decay: 5e-4, nesterov: true })
}

fn net() -> TinyNet {
    TinyNet::new(4, 1)
}

fn data() -> Loader {
    loader(36, 8)
}

/// Stops after `stop` steps of this process; 0 never.
#[derive(Default)]
struct Stop {
    after: usize,
    steps: usize,
    events: Vec<Event>,
}

impl Stop {
    fn after(stop: usize) -> Self {
        Self { after: stop, ..Self::default() }
    }
}

impl Observer for Stop {
    fn on_event(&mut self, event: &Event) {
        self.steps += usize::from(matches!(event, Event::Step { .. }));
        self.events.push(event.clone());
    }

    fn should_stop(&mut self) -> bool {
        self.after > 0 && self.steps >= self.after
    }
}

fn go(directory: &Path, config: &FitConfig, observer: &mut dyn Observer) -> Result<Fit<TinyNet>, TrainError> {
    fit_in(directory, net(), &data(), &PLAIN, &Unconstrained, config, observer)
}

fn straight(config: &FitConfig) -> Fit<TinyNet> {
    fit(net(), &data(), &PLAIN, &Unconstrained, config, &mut Silent).unwrap()
}

fn same(a: &Fit<TinyNet>, b: &Fit<TinyNet>) {
    assert_eq!(bits(&a.model), bits(&b.model));
    assert_eq!(a.steps, b.steps);
    assert_eq!(a.history, b.history);
    assert_eq!(a.snapshots.keys().collect::<Vec<_>>(), b.snapshots.keys().collect::<Vec<_>>());
    for (epoch, model) in &a.snapshots {
        assert_eq!(bits(model), bits(&b.snapshots[epoch]), "snapshot {epoch}");
    }
}

/// Every file under a directory with its content.
fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(at: &Path, root: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(directory, directory, &mut found);
    found
}

fn checkpoints(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory.join("ckpt"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_directory_changes_nothing_of_the_result() {
    let at = tempfile::tempdir().unwrap();
    let mut watch = Stop::default();
    let done = go(at.path(), &sgd(), &mut watch).unwrap();
    same(&done, &straight(&sgd()));
    let saved: Vec<_> = watch
        .events
        .iter()
        .filter_map(|e| if let Event::Saved { step, .. } = e { Some(*step) } else { None })
        .collect();
    assert_eq!(saved, [2, 4, 6, 8, 10, 12, 14]);
    // What only served to go on is gone, and nothing lies about.
    let names: Vec<_> = contents(at.path()).into_keys().collect();
    assert_eq!(
        names,
        [
            "LOCK",
            "config.json",
            "final/COMMIT.json",
            "final/model.safetensors",
            "final/state.json",
            "log.jsonl",
            "snapshots/000000/COMMIT.json",
            "snapshots/000000/model.safetensors",
            "snapshots/000001/COMMIT.json",
            "snapshots/000001/model.safetensors",
            "snapshots/000003/COMMIT.json",
            "snapshots/000003/model.safetensors",
        ]
    );
    // The weights are a file like any other.
    let state = StateDict::read_safetensors(at.path().join("final/model.safetensors")).unwrap();
    assert_eq!(state.fingerprint(), StateDict::of(&done.model).unwrap().fingerprint());
}

#[test]
fn a_finished_run_is_read_back_at_once() {
    let at = tempfile::tempdir().unwrap();
    let done = go(at.path(), &sgd(), &mut Silent).unwrap();
    let before = contents(at.path());
    let mut watch = Stop::default();
    // How often it saves is no part of what a run is.
    let rarely = FitConfig { checkpoint: CheckpointConfig::default(), ..sgd() };
    let again = go(at.path(), &rarely, &mut watch).unwrap();
    same(&again, &done);
    assert_eq!(again.seconds, done.seconds);
    assert!(matches!(
        watch.events[..],
        [Event::Started { step: 15, steps: 15, .. }, Event::Finished { steps: 15, .. }]
    ));
    let after = contents(at.path());
    for (name, content) in before.iter().filter(|(name, _)| *name != "LOCK") {
        assert_eq!(&after[name], content, "{name}");
    }
}

/// Stopped after every number of steps, for both optimizers: the rest is the same to the bit.
#[test]
fn a_run_stopped_anywhere_goes_on_to_the_same_bits() {
    for optimizer in [
        OptimizerConfig::Sgd { momentum: 0.9, weight_decay: 5e-4, nesterov: true },
        OptimizerConfig::adam_w(),
    ] {
        let config = config(optimizer);
        let whole = straight(&config);
        for stop in 1..15 {
            let at = tempfile::tempdir().unwrap();
            let error = go(at.path(), &config, &mut Stop::after(stop)).unwrap_err();
            assert!(matches!(error, TrainError::Interrupted { step } if step == stop as u64), "{error}");
            let mut rest = Stop::default();
            same(&go(at.path(), &config, &mut rest).unwrap(), &whole);
            assert_eq!(rest.steps, 15 - stop, "no step is done twice");
        }
    }
}

#[test]
fn a_run_stopped_at_every_step_ends_the_same() {
    let config = FitConfig { batch_norm: BatchNormMode::Frozen, ..sgd() };
    let at = tempfile::tempdir().unwrap();
    for step in 1..15 {
        let error = go(at.path(), &config, &mut Stop::after(1)).unwrap_err();
        assert!(matches!(error, TrainError::Interrupted { step: s } if s == step), "{error}");
        assert!(checkpoints(at.path()).len() <= 2);
    }
    same(&go(at.path(), &config, &mut Silent).unwrap(), &straight(&config));
    let log = fs::read_to_string(at.path().join("log.jsonl")).unwrap();
    let resumed = log.lines().filter(|l| l.contains("\"resumed\"")).count();
    assert_eq!(resumed, 14);
    assert!(log.lines().all(|l| serde_json::from_str::<serde_json::Value>(l).is_ok()));
}

#[test]
fn damaged_checkpoints_are_passed_over_and_the_result_is_the_same() {
    type Damage = fn(&Path);
    let whole = straight(&sgd());
    let damages: [(&str, Damage); 7] = [
        ("a flipped bit in the weights", |c| flip(&c.join("model.safetensors"), 200)),
        ("a flipped bit in the optimizer's state", |c| flip(&c.join("optimizer.safetensors"), 300)),
        ("a cut state", |c| {
            let content = fs::read(c.join("state.json")).unwrap();
            fs::write(c.join("state.json"), &content[..content.len() / 2]).unwrap();
        }),
        ("no manifest", |c| fs::remove_file(c.join("COMMIT.json")).unwrap()),
        ("a cut manifest", |c| fs::write(c.join("COMMIT.json"), "{\"format\": 1").unwrap()),
        ("a missing file", |c| fs::remove_file(c.join("optimizer.safetensors")).unwrap()),
        ("an empty folder", |c| {
            fs::remove_dir_all(c).unwrap();
            fs::create_dir(c).unwrap();
        }),
    ];
    for (what, damage) in damages {
        // Only the newest, then all of them.
        for (all, steps_left) in [(false, 15 - 8), (true, 15)] {
            let at = tempfile::tempdir().unwrap();
            go(at.path(), &sgd(), &mut Stop::after(10)).unwrap_err();
            assert_eq!(checkpoints(at.path()), ["00000008", "00000010"]);
            for name in checkpoints(at.path()).iter().skip(usize::from(!all)) {
                damage(&at.path().join("ckpt").join(name));
            }
            let mut rest = Stop::default();
            same(&go(at.path(), &sgd(), &mut rest).unwrap(), &whole);
            assert_eq!(rest.steps, steps_left, "{what}");
        }
    }
}

fn flip(path: &Path, at: usize) {
    let mut content = fs::read(path).unwrap();
    content[at] ^= 4;
    fs::write(path, content).unwrap();
}

#[test]
fn a_lost_snapshot_is_taken_anew() {
    let whole = straight(&sgd());
    for finished in [false, true] {
        let at = tempfile::tempdir().unwrap();
        let result = go(at.path(), &sgd(), &mut Stop::after(if finished { 0 } else { 8 }));
        assert_eq!(result.is_ok(), finished);
        flip(&at.path().join("snapshots/000001/model.safetensors"), 150);
        let mut rest = Stop::default();
        same(&go(at.path(), &sgd(), &mut rest).unwrap(), &whole);
        assert_eq!(rest.steps, 15);
    }
}

#[test]
fn what_a_kill_leaves_unfinished_is_cleared() {
    let at = tempfile::tempdir().unwrap();
    go(at.path(), &sgd(), &mut Stop::after(5)).unwrap_err();
    for folder in [
        ".unlearn-tmp-1",
        "ckpt/.unlearn-tmp-2",
        "ckpt/.unlearn-tmp-old-00000002",
        "snapshots/.unlearn-tmp-3",
    ] {
        fs::create_dir_all(at.path().join(folder)).unwrap();
        fs::write(at.path().join(folder).join("model.safetensors"), b"half").unwrap();
    }
    fs::create_dir(at.path().join("ckpt/notes")).unwrap();
    let mut log = fs::read(at.path().join("log.jsonl")).unwrap();
    log.extend(b"{\"event\":\"sav");
    fs::write(at.path().join("log.jsonl"), log).unwrap();
    go(at.path(), &sgd(), &mut Stop::after(1)).unwrap_err();
    assert!(contents(at.path()).keys().all(|name| !name.contains("-tmp-")));
    assert!(at.path().join("ckpt/notes").exists(), "what is not ours stays");
    let log = fs::read_to_string(at.path().join("log.jsonl")).unwrap();
    assert!(log.lines().all(|l| serde_json::from_str::<serde_json::Value>(l).is_ok()), "{log}");
    same(&go(at.path(), &sgd(), &mut Silent).unwrap(), &straight(&sgd()));
}

#[test]
fn a_second_run_in_the_directory_is_refused_at_once_and_writes_nothing() {
    struct Second<'a> {
        directory: &'a Path,
        tried: usize,
    }
    impl Observer for Second<'_> {
        fn on_event(&mut self, event: &Event) {
            if matches!(event, Event::Step { .. } | Event::Saved { .. }) {
                let before = contents(self.directory);
                let error = go(self.directory, &sgd(), &mut Silent).unwrap_err();
                assert!(matches!(error, TrainError::Locked { .. }), "{error}");
                assert!(error.to_string().contains(&format!("process {}", std::process::id())));
                assert_eq!(contents(self.directory), before);
                self.tried += 1;
            }
        }
    }
    let at = tempfile::tempdir().unwrap();
    let mut second = Second { directory: at.path(), tried: 0 };
    same(&go(at.path(), &sgd(), &mut second).unwrap(), &straight(&sgd()));
    assert_eq!(second.tried, 15 + 7);
}

#[test]
fn another_run_is_refused_key_by_key() {
    let at = tempfile::tempdir().unwrap();
    go(at.path(), &sgd(), &mut Stop::after(5)).unwrap_err();
    let before = contents(at.path());
    let refused = |result: Result<Fit<TinyNet>, TrainError>, keys: &[&str]| {
        let TrainError::OtherRun { differences, .. } = result.unwrap_err() else { panic!("{keys:?}") };
        assert_eq!(differences.len(), keys.len(), "{differences:?}");
        for (difference, key) in differences.iter().zip(keys) {
            assert!(difference.starts_with(&format!("{key} is ")), "{difference} {key}");
        }
        for (name, content) in before.iter().filter(|(name, _)| *name != "LOCK" && *name != "log.jsonl") {
            assert_eq!(&fs::read(at.path().join(name)).unwrap(), content, "{name}");
        }
    };
    let other = FitConfig { epochs: 4, learning_rate: 0.06, ..sgd() };
    refused(go(at.path(), &other, &mut Silent), &["fit.epochs", "fit.learning_rate"]);
    let with = |model: TinyNet, loader: Loader, objective: CrossEntropy| {
        fit_in(at.path(), model, &loader, &objective, &Unconstrained, &sgd(), &mut Silent)
    };
    let smooth = CrossEntropy { label_smoothing: 0.1 };
    refused(with(net(), data(), smooth), &["objective"]);
    refused(with(TinyNet::new(4, 2), data(), PLAIN), &["model.weights"]);
    refused(with(TinyNet::new(8, 1), data(), PLAIN), &["model.weights"]);
    refused(with(net(), data().with_shuffle(Seed(9)), PLAIN), &["data.shuffle_seed"]);
    let fewer = Loader::new(data().dataset(), &data().indices()[..32], 8).unwrap();
    let fewer = fewer.with_shuffle(Seed(5)).with_augment(data().augment().0, data().augment().1);
    refused(with(net(), fewer, PLAIN), &["data.indices", "data.samples"]);
    refused(with(net(), loader(36, 12), PLAIN), &["data.batch_size"]);
    same(&go(at.path(), &sgd(), &mut Silent).unwrap(), &straight(&sgd()));
}

#[test]
fn a_diverging_run_leaves_only_finite_checkpoints() {
    use unlearn_data::Batch;
    struct Explodes;
    impl crate::Objective<TinyNet> for Explodes {
        fn loss(&self, model: &TinyNet, batch: &Batch, at: crate::Moment) -> crate::Loss {
            let mut loss = PLAIN.loss(model, batch, at);
            if at.step == 9 {
                loss.value = loss.value * f32::NAN;
            }
            loss
        }
    }
    let at = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let error =
            fit_in(at.path(), net(), &data(), &Explodes, &Unconstrained, &sgd(), &mut Silent).unwrap_err();
        assert!(matches!(error, TrainError::Diverged { step: 9, what: "loss", .. }), "{error}");
        assert_eq!(checkpoints(at.path()), ["00000006", "00000008"]);
        for (name, content) in contents(at.path()).iter().filter(|(n, _)| n.ends_with(".safetensors")) {
            let file = crate::tensor_file::TensorFile::decode(content).unwrap();
            assert_eq!(file.not_finite(), None, "{name}");
        }
    }
}

#[test]
fn a_place_that_cannot_be_used_is_named_before_any_step() {
    let at = tempfile::tempdir().unwrap();
    let file = at.path().join("file");
    fs::write(&file, "x").unwrap();
    let mut places = vec![file.clone(), file.join("run")];
    if cfg!(target_os = "linux") {
        places.push("/proc/self/unlearn-run".into());
    }
    // A folder without the right to write, unless this is a user whom no right binds.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let sealed = at.path().join("sealed");
        fs::create_dir(&sealed).unwrap();
        fs::set_permissions(&sealed, fs::Permissions::from_mode(0o555)).unwrap();
        if fs::write(sealed.join("probe"), "x").is_err() {
            places.push(sealed);
        }
    }
    for place in places {
        let mut watch = Stop::default();
        let error = go(&place, &sgd(), &mut watch).unwrap_err();
        let TrainError::Io { path, .. } = &error else { panic!("{error}") };
        assert!(path.starts_with(&place), "{error}");
        assert_eq!(watch.steps, 0);
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "x");
}

/// Whole by its hashes, but not of this run: said, not guessed at.
#[test]
fn a_checkpoint_of_another_make_is_an_error() {
    let at = tempfile::tempdir().unwrap();
    go(at.path(), &sgd(), &mut Stop::after(10)).unwrap_err();
    let newest = at.path().join("ckpt/00000010");
    let old = crate::commit::Commit::open(&newest).unwrap();
    let files: BTreeMap<String, Vec<u8>> =
        old.files().keys().map(|name| (name.clone(), old.read(name).unwrap())).collect();
    let state = String::from_utf8(files["state.json"].clone()).unwrap();
    let forge = |name: &str, content: &[u8]| {
        let mut pending = crate::commit::Pending::new(&at.path().join("ckpt")).unwrap();
        for (file, bytes) in &files {
            pending.write(file, if file == name { content } else { bytes }).unwrap();
        }
        pending.commit("00000010").unwrap();
        let error = go(at.path(), &sgd(), &mut Silent).unwrap_err();
        let TrainError::RunDirectory { path, .. } = &error else { panic!("{error}") };
        assert_eq!(path, &newest.join(name));
    };
    forge("state.json", state.replace("\"batch\": 0", "\"batch\": 1").as_bytes());
    forge("state.json", state.replace("\"epoch\": 2,\n  \"batch\"", "\"epoch\": 9,\n  \"batch\"").as_bytes());
    forge("state.json", state.replace("\"step\"", "\"steps\"").as_bytes());
    forge("model.safetensors", &files["optimizer.safetensors"]);
    forge("optimizer.safetensors", &files["model.safetensors"]);
    forge("optimizer.safetensors", b"");
}
