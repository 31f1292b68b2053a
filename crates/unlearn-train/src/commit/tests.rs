use super::*;

fn committed(parent: &Path) -> Commit {
    let mut pending = Pending::new(parent).unwrap();
    pending.write("a.bin", &[1, 2, 3, 4]).unwrap();
    pending.write("b.json", b"{}").unwrap();
    pending.commit("00000007").unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_commit_is_read_back_and_leaves_nothing_beside_it() {
    let parent = tempfile::tempdir().unwrap();
    let commit = committed(parent.path());
    assert_eq!(names(parent.path()), ["00000007"]);
    assert_eq!(names(commit.path()), [COMMIT, "a.bin", "b.json"]);
    assert_eq!(commit.read("a.bin").unwrap(), [1, 2, 3, 4]);
    // SHA-256 of "{}", from sha256sum.
    let expected = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    assert_eq!(commit.files()["b.json"].sha256, expected);
    assert_eq!(Commit::open(commit.path()).unwrap().digest(), commit.digest());
}

#[test]
fn a_second_commit_of_the_same_name_takes_its_place() {
    let parent = tempfile::tempdir().unwrap();
    let old = committed(parent.path());
    let mut pending = Pending::new(parent.path()).unwrap();
    pending.write("c.bin", b"new").unwrap();
    let new = pending.commit("00000007").unwrap();
    assert_eq!(names(new.path()), [COMMIT, "c.bin"]);
    assert_ne!(new.digest(), old.digest());
    assert_eq!(names(parent.path()), ["00000007"]);
}

#[test]
fn what_is_not_committed_goes() {
    let parent = tempfile::tempdir().unwrap();
    let mut pending = Pending::new(parent.path()).unwrap();
    pending.write("a.bin", &[1]).unwrap();
    assert!(pending.write("a.bin", &[2]).is_err(), "a file is written once");
    drop(pending);
    assert!(names(parent.path()).is_empty());
    fs::create_dir_all(parent.path().join(".unlearn-tmp-dead/inside")).unwrap();
    fs::write(parent.path().join(".unlearn-tmp-file"), b"x").unwrap();
    fs::write(parent.path().join("kept"), b"x").unwrap();
    fs::write(parent.path().join(".tmp-kept"), b"x").unwrap();
    remove_unfinished(parent.path()).unwrap();
    assert_eq!(names(parent.path()), [".tmp-kept", "kept"]);
    remove_unfinished(&parent.path().join("nowhere")).unwrap();
}

#[test]
fn every_alteration_is_found() {
    let parent = tempfile::tempdir().unwrap();
    let path = committed(parent.path()).path().to_owned();
    let manifest = fs::read(path.join(COMMIT)).unwrap();
    let found = |what: &str| {
        let result = Commit::open(&path).and_then(|c| c.verify());
        let error = result.expect_err(what);
        assert!(matches!(error, TrainError::RunDirectory { .. }), "{what}: {error}");
        error.to_string()
    };
    for bit in 0..32_usize {
        let mut content = vec![1, 2, 3, 4];
        content[bit / 8] ^= 1 << (bit % 8);
        fs::write(path.join("a.bin"), content).unwrap();
        assert!(found("a flipped bit").contains("SHA-256"));
    }
    for length in [0, 1, 3, 5] {
        fs::write(path.join("a.bin"), vec![1; length]).unwrap();
        assert!(found("another length").contains(&format!("{length} bytes")));
    }
    fs::remove_file(path.join("a.bin")).unwrap();
    assert!(found("a missing file").contains("missing"));
    fs::write(path.join("a.bin"), [1, 2, 3, 4]).unwrap();
    Commit::open(&path).unwrap().verify().unwrap();
    for length in 0..manifest.len() {
        fs::write(path.join(COMMIT), &manifest[..length]).unwrap();
        found("a cut manifest");
    }
    let text = String::from_utf8(manifest).unwrap();
    for (from, to) in [("a.bin", "../a.bin"), ("a.bin", "/etc/a"), ("\"format\": 1", "\"format\": 2")] {
        fs::write(path.join(COMMIT), text.replace(from, to)).unwrap();
        found(to);
    }
    fs::remove_file(path.join(COMMIT)).unwrap();
    assert!(found("no manifest").contains("missing"));
}

#[test]
fn a_file_is_replaced_whole() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("config.json");
    write_whole(&path, b"one").unwrap();
    write_whole(&path, b"two").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"two");
    assert_eq!(names(parent.path()), ["config.json"]);
    let error = write_whole(&parent.path().join("no/config.json"), b"x").unwrap_err();
    assert!(matches!(error, TrainError::Io { .. }), "{error}");
}

#[test]
fn what_no_commit_wrote_is_never_replaced() {
    type Make = fn(&Path);
    let foreign: [Make; 3] = [
        |at| fs::write(at, "a file").unwrap(),
        |at| {
            fs::create_dir(at).unwrap();
            fs::write(at.join("notes.txt"), "mine").unwrap();
        },
        |at| {
            committed(at.parent().unwrap());
            fs::write(at.join("notes.txt"), "mine").unwrap();
        },
    ];
    for make in foreign {
        let parent = tempfile::tempdir().unwrap();
        let at = parent.path().join("00000007");
        make(&at);
        let before = (at.is_dir().then(|| names(&at)), fs::read(at.join("notes.txt")).ok());
        let mut pending = Pending::new(parent.path()).unwrap();
        pending.write("c.bin", b"new").unwrap();
        let error = pending.commit("00000007").unwrap_err();
        assert!(matches!(error, TrainError::RunDirectory { .. }), "{error}");
        assert_eq!((at.is_dir().then(|| names(&at)), fs::read(at.join("notes.txt")).ok()), before);
        assert_eq!(names(parent.path()), ["00000007"], "nothing is left beside it");
    }
}

/// The rights of a new file are what the umask leaves of the usual ones, for every way of writing.
#[cfg(unix)]
#[test]
fn files_and_folders_have_the_rights_of_any_other() {
    use std::os::unix::fs::PermissionsExt as _;
    let parent = tempfile::tempdir().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (file, folder) = (parent.path().join("plain"), parent.path().join("folder"));
    fs::write(&file, "x").unwrap();
    fs::create_dir(&folder).unwrap();
    let commit = committed(parent.path());
    write_whole(&parent.path().join("config.json"), b"x").unwrap();
    assert_eq!(mode(commit.path()), mode(&folder));
    for name in ["00000007/a.bin", "00000007/COMMIT.json", "config.json"] {
        assert_eq!(mode(&parent.path().join(name)), mode(&file), "{name}");
    }
}

#[test]
fn files_may_lie_in_folders_inside() {
    let parent = tempfile::tempdir().unwrap();
    let make = |content: &[u8]| {
        let mut pending = Pending::new(parent.path()).unwrap();
        pending.write("a.bin", content).unwrap();
        pending.write("inner/deep/b.bin", content).unwrap();
        pending.write("inner/c.bin", content).unwrap();
        pending.commit("whole")
    };
    let commit = make(b"1").unwrap();
    assert_eq!(commit.read("inner/deep/b.bin").unwrap(), b"1");
    // Another one takes its place, folders and all.
    let commit = make(b"22").unwrap();
    assert_eq!(Commit::open(commit.path()).unwrap().read("inner/c.bin").unwrap(), b"22");
    // But not that of what no commit wrote, however deep.
    for foreign in ["inner/deep/mine", "inner/other/mine"] {
        let path = commit.path().join(foreign);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, b"x").unwrap();
        assert!(matches!(make(b"333"), Err(TrainError::RunDirectory { .. })), "{foreign}");
        assert_eq!(fs::read(&path).unwrap(), b"x");
        fs::remove_file(&path).unwrap();
    }
    fs::remove_dir(commit.path().join("inner/other")).unwrap();
    fs::write(commit.path().join("inner/c.bin"), b"23").unwrap();
    assert!(Commit::open(commit.path()).unwrap().verify().is_err());
}

#[test]
fn names_that_lead_elsewhere_are_no_manifest() {
    let digest = r#"{"length": 0, "sha256": ""}"#;
    for name in ["../a", "a/../../b", "/a", "a//b", "a/", "", ".", "./a"] {
        let parent = tempfile::tempdir().unwrap();
        let text = format!(r#"{{"format": 1, "files": {{"{name}": {digest}}}}}"#);
        fs::write(parent.path().join(COMMIT), text).unwrap();
        let error = Commit::open(parent.path()).unwrap_err();
        assert!(error.to_string().contains("the file name"), "{name}: {error}");
    }
}

#[test]
fn names_that_lead_elsewhere_are_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let absolute = folder.path().join("a").display().to_string();
    for name in ["../a", "a/../../b", absolute.as_str(), "a//b", "./a", ".", "..", ""] {
        let mut pending = Pending::new(folder.path()).unwrap();
        let error = pending.write(name, b"x").unwrap_err();
        assert!(matches!(error, TrainError::RunDirectory { .. }), "{name}: {error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
