//! A child process is killed for good at random moments; what it was doing is gone on with.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use rand::RngExt;
use unlearn_data::{Seed, Stream};
use unlearn_models::StateDict;

use super::{PLAIN, contents};
use crate::testing::{TinyNet, loader};
use crate::{
    CheckpointConfig, FitConfig, OptimizerConfig, Schedule, Silent, TrainError, Unconstrained, fit_in,
};

/// Where the child works; it is not a child when this is not set.
const DIRECTORY: &str = "UNLEARN_TRAIN_TEST_DIRECTORY";

/// Half a second of work with a checkpoint every few steps, so that most kills hit one being
/// written.
fn run(directory: &Path) -> Result<String, TrainError> {
    let config = FitConfig {
        schedule: Schedule::Cosine,
        snapshot_epochs: vec![0, 4, 13],
        checkpoint: CheckpointConfig { every_steps: Some(3), keep: 2 },
        ..FitConfig::new(16, 0.05, OptimizerConfig::sgd(0.9, 5e-4))
    };
    let done =
        fit_in(directory, TinyNet::new(6, 1), &loader(44, 8), &PLAIN, &Unconstrained, &config, &mut Silent)?;
    Ok(StateDict::of(&done.model)?.fingerprint())
}

/// This test binary again, as a child that does [`run`] and nothing else.
fn child(test: &str, directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([test, "--exact", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn stored(directory: &Path) -> String {
    StateDict::read_safetensors(directory.join("final/model.safetensors")).unwrap().fingerprint()
}

#[cfg(unix)]
#[test]
fn twenty_kills_at_random_moments_change_no_bit() {
    if let Ok(directory) = std::env::var(DIRECTORY) {
        run(directory.as_ref()).unwrap();
        return;
    }
    let this = "fit_in::tests::kill::twenty_kills_at_random_moments_change_no_bit";
    let home = tempfile::tempdir().unwrap();
    let never = home.path().join("never-killed");
    let began = Instant::now();
    assert!(child(this, &never).status().unwrap().success());
    let mut length = began.elapsed();
    let expected = stored(&never);
    assert_eq!(run(&home.path().join("in-process")).unwrap(), expected);

    let mut rng = Seed(20).rng(Stream::Estimate, 0, 0);
    let (mut kills, mut runs, mut resumed, mut unfinished) = (0, 0, 0, 0);
    while kills < 20 {
        let directory = home.path().join(format!("run-{runs}"));
        runs += 1;
        assert!(runs <= 60, "{kills} of 20 kills hit a run under way");
        // A third of the runs is killed a second time, while it goes on after the first.
        for share in [1.0, 0.6].iter().take(1 + usize::from(runs % 3 == 0)) {
            let mut process = child(this, &directory).spawn().unwrap();
            std::thread::sleep(length.mul_f64(rng.random_range(0.05_f64..0.95) * share));
            // SIGKILL on Unix: no handler, no destructor, no flush.
            process.kill().unwrap();
            let status = process.wait().unwrap();
            // A child that came to its end before has succeeded; it never fails by itself.
            assert!(status.success() || status.code().is_none(), "{status}");
            kills += usize::from(status.code().is_none());
            if status.success() {
                // The machine was busier when the length was taken: aim earlier.
                length = length.mul_f64(0.9);
            }
            let there = if directory.exists() { contents(&directory) } else { BTreeMap::new() };
            unfinished += usize::from(there.keys().any(|name| name.contains(".unlearn-tmp-")));
        }
        assert_eq!(run(&directory).unwrap(), expected, "run {runs}, after {kills} kills");
        assert_eq!(stored(&directory), expected);
        let log = fs::read_to_string(directory.join("log.jsonl")).unwrap();
        resumed += usize::from(log.contains("\"resumed\""));
        assert!(contents(&directory).keys().all(|name| !name.contains(".unlearn-tmp-")));
        fs::remove_dir_all(&directory).unwrap();
    }
    println!(
        "{kills} kills in {runs} runs of {length:?}: {resumed} runs resumed, {unfinished} kills while writing, {:?}",
        began.elapsed()
    );
    // A run that ended before its kill has nothing to resume.
    assert!(resumed * 2 >= kills, "{resumed} runs resumed from a checkpoint after {kills} kills");
}

/// A file system that takes no more bytes: the error names the file, what was committed stays, and
/// the run goes on once there is room.
#[cfg(unix)]
#[test]
fn a_full_disk_is_an_error_and_loses_nothing() {
    if let Ok(directory) = std::env::var(DIRECTORY) {
        let directory: &Path = directory.as_ref();
        let TrainError::Io { path, .. } = run(directory).unwrap_err() else { panic!("not an I/O error") };
        assert!(path.starts_with(directory));
        return;
    }
    let this = "fit_in::tests::kill::a_full_disk_is_an_error_and_loses_nothing";
    let home = tempfile::tempdir().unwrap();
    let expected = run(&home.path().join("never")).unwrap();
    // Files end at so many blocks of 512 bytes, as `ulimit` counts them: too little for the log, the
    // snapshots, the optimizer's state.
    for blocks in [1, 2, 3, 5] {
        let directory = home.path().join(format!("run-{blocks}"));
        let plain = child(this, &directory);
        let status = Command::new("sh")
            // An ignored signal turns the limit into an error of `write`.
            .args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"")])
            .arg(plain.get_program())
            .args(plain.get_args())
            .env(DIRECTORY, &directory)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{blocks} blocks: {status}");
        assert!(!directory.join("final").exists());
        assert_eq!(run(&directory).unwrap(), expected, "{blocks} blocks");
    }
}
