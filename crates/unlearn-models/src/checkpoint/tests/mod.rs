//! Good files and bad ones. Every bad one gives its own error, at once, and changes nothing.

mod files;
mod forge;
mod random;
mod safetensors;
mod state;
mod torch;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use burn::tensor::Device;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::*;
use crate::{ResNet, ResNetConfig, Stem};

/// A small network that a seed decides.
fn net(seed: u64) -> ResNet {
    let config = ResNetConfig { width: 2, blocks: [1, 1, 1, 1], classes: 3, stem: Stem::Cifar };
    config.init(&[0.5; 3], &[0.25; 3], &Device::flex(), &mut ChaCha8Rng::seed_from_u64(seed)).unwrap()
}

/// A folder with one file of these bytes.
fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.bin");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

/// Reads what must not be readable, and at once; the file stays as it was.
#[track_caller]
fn refused(path: &Path) -> CheckpointError {
    let before = std::fs::read(path).ok();
    let clock = Instant::now();
    let error = read(path).expect_err("a bad file was read");
    assert!(clock.elapsed() < Duration::from_secs(2), "took {:?}", clock.elapsed());
    assert_eq!(std::fs::read(path).ok(), before);
    let text = error.to_string();
    assert!(text.len() < 2000 && !text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    error
}

#[track_caller]
fn refused_bytes(bytes: &[u8]) -> CheckpointError {
    let (_folder, path) = file(bytes);
    refused(&path)
}
