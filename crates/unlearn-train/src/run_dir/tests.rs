use serde_json::json;

use super::*;

#[test]
fn one_process_at_a_time() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("run");
    let first = RunDir::open(&path).unwrap();
    let error = RunDir::open(&path).unwrap_err();
    let TrainError::Locked { path: named, holder } = &error else { panic!("{error}") };
    assert_eq!(named, &path);
    assert!(holder.starts_with(&format!("process {} ", std::process::id())), "{holder}");
    drop(first);
    RunDir::open(&path).unwrap();
}

#[test]
fn opening_clears_what_was_left_unfinished() {
    let parent = tempfile::tempdir().unwrap();
    RunDir::open(parent.path()).unwrap().bind(&json!(1)).unwrap();
    fs::create_dir(parent.path().join(".unlearn-tmp-abc")).unwrap();
    for name in ["mine.txt", ".tmp-abc"] {
        fs::write(parent.path().join(name), "x").unwrap();
    }
    let _held = RunDir::open(parent.path()).unwrap();
    assert!(!parent.path().join(".unlearn-tmp-abc").exists());
    for name in ["mine.txt", ".tmp-abc"] {
        assert!(parent.path().join(name).exists(), "{name} is not ours");
    }
}

#[test]
fn folders_that_no_run_made_are_refused_and_left_as_they_are() {
    type Make = fn(&Path);
    let foreign: [(&str, Make); 6] = [
        ("entries that no run made", |at| fs::write(at.join("notes.txt"), "x").unwrap()),
        ("LOCK no run wrote", |at| fs::write(at.join("LOCK"), "pid 12").unwrap()),
        ("empty LOCK", |at| {
            fs::write(at.join("LOCK"), "").unwrap();
            fs::write(at.join("CURRENT"), "a database").unwrap();
            fs::write(at.join("config.json"), "{}").unwrap();
        }),
        ("no regular file", |at| fs::create_dir(at.join("LOCK")).unwrap()),
        ("no config.json", |at| {
            fs::write(at.join("LOCK"), format!("{MARK}process 1\n")).unwrap();
            fs::write(at.join("recipe.toml"), "mine").unwrap();
        }),
        #[cfg(unix)]
        ("no regular file", |at| {
            let outside = at.parent().unwrap().join("outside");
            fs::write(&outside, "").unwrap();
            std::os::unix::fs::symlink(outside, at.join("LOCK")).unwrap();
        }),
    ];
    for (says, make) in foreign {
        let root = tempfile::tempdir().unwrap();
        let at = root.path().join("folder");
        fs::create_dir(&at).unwrap();
        fs::create_dir(at.join(".unlearn-tmp-x")).unwrap();
        make(&at);
        let read = |name: &str| fs::read(at.join(name)).unwrap_or_default();
        let names = || {
            let mut names: Vec<_> = fs::read_dir(&at).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let before = (names(), read("LOCK"));
        let error = RunDir::open(&at).unwrap_err();
        assert!(matches!(error, TrainError::RunDirectory { .. }), "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!((names(), read("LOCK")), before, "{says}");
    }
    // A kill right after the lock file was made leaves it empty and alone.
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("LOCK"), "").unwrap();
    RunDir::open(root.path()).unwrap();
}

#[test]
fn another_configuration_is_refused_key_by_key() {
    let parent = tempfile::tempdir().unwrap();
    let run = RunDir::open(parent.path()).unwrap();
    let identity = json!({"fit": {"epochs": 3, "rate": 0.1}, "data": "abc", "old": 1});
    run.bind(&identity).unwrap();
    run.bind(&identity).unwrap();
    let text = fs::read_to_string(parent.path().join("config.json")).unwrap();
    assert!(text.find("\"data\"") < text.find("\"fit\""), "keys are in order: {text}");
    let other = json!({"fit": {"epochs": 4, "rate": 0.1}, "data": "abd", "new": true});
    let error = run.bind(&other).unwrap_err();
    let TrainError::OtherRun { differences, .. } = &error else { panic!("{error}") };
    assert_eq!(
        differences,
        &[
            "data is \"abc\" there, \"abd\" now",
            "fit.epochs is 3 there, 4 now",
            "new is null there, true now",
            "old is 1 there, null now",
        ]
    );
    let error = run.bind(&json!({"fit": "é".repeat(300)})).unwrap_err();
    assert!(error.to_string().contains("éé…"), "{error}");
    assert!(error.to_string().len() < 600, "{error}");
    // In lists and in long texts it is the difference that is shown.
    let there = parent.path().join("other");
    let listed = RunDir::open(&there).unwrap();
    let of = |rate: f64, last: &str| {
        let methods = json!([{"name": "retrain"}, {"name": "ga", "label": "slow", "rate": rate}]);
        json!({"method": methods, "text": format!("{}{last}", "x".repeat(200)), "list": [1, 2]})
    };
    listed.bind(&of(0.1, "yes")).unwrap();
    let error = listed.bind(&of(0.2, "no")).unwrap_err();
    let TrainError::OtherRun { differences, .. } = &error else { panic!("{error}") };
    assert_eq!(differences[0], "method.slow.rate is 0.1 there, 0.2 now");
    assert!(differences[1].contains("xxyes\" there") && differences[1].contains("xxno\" now"), "{error}");
    let mut fewer = of(0.1, "yes");
    fewer["list"] = json!([1]);
    let error = listed.bind(&fewer).unwrap_err();
    assert!(error.to_string().contains("list is [1,2] there, [1] now"), "{error}");
    fs::write(parent.path().join("config.json"), "{").unwrap();
    let error = run.bind(&identity).unwrap_err();
    assert!(matches!(error, TrainError::RunDirectory { .. }), "{error}");
}

#[test]
fn what_is_known_already_is_compared_before_the_rest() {
    let parent = tempfile::tempdir().unwrap();
    let there = parent.path().join("run");
    let known = |epochs: u32| [("/fit", json!({"epochs": epochs})), ("/of/device", json!("flex"))];
    check_identity(&there, &known(4)).unwrap();
    let run = RunDir::open(&there).unwrap();
    check_identity(&there, &known(4)).unwrap();
    run.bind(&json!({"fit": {"epochs": 3}, "of": {"device": "flex", "data": "abc"}})).unwrap();
    check_identity(&there, &known(3)).unwrap();
    let error = check_identity(&there, &known(4)).unwrap_err();
    let TrainError::OtherRun { differences, .. } = &error else { panic!("{error}") };
    assert_eq!(differences, &["fit.epochs is 3 there, 4 now"]);
    let error = check_identity(&there, &[("/of/seed", json!(7))]).unwrap_err();
    let TrainError::OtherRun { differences, .. } = &error else { panic!("{error}") };
    assert_eq!(differences, &["of.seed is null there, 7 now"]);
    for make in [|at: &Path| fs::write(at, "{").unwrap(), |at: &Path| fs::create_dir(at).unwrap()] {
        fs::remove_file(there.join("config.json")).unwrap();
        make(&there.join("config.json"));
        let error = check_identity(&there, &known(3)).unwrap_err();
        assert!(matches!(error, TrainError::RunDirectory { .. }), "{error}");
    }
}

#[test]
fn a_cut_last_line_of_the_log_is_dropped() {
    let parent = tempfile::tempdir().unwrap();
    let run = RunDir::open(parent.path()).unwrap();
    run.log().unwrap().append(&json!({"a": 1})).unwrap();
    let path = parent.path().join("log.jsonl");
    for cut in ["{\"b\"", "\u{fffd}", ""] {
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(cut.as_bytes()).unwrap();
        run.log().unwrap().append(&json!({"c": 2})).unwrap();
    }
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text, "{\"a\":1}\n{\"c\":2}\n{\"c\":2}\n{\"c\":2}\n");
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "x").unwrap();
    for path in [file.clone(), file.join("run")] {
        let error = RunDir::open(&path).unwrap_err();
        let TrainError::Io { path: named, .. } = &error else { panic!("{error}") };
        assert!(named.starts_with(&file), "{error}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "x");
}
