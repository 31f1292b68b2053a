//! Randomness as a pure function: there is no generator whose state could be lost or shared.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

/// What a random draw is for. Each purpose has its own stream, so that adding a draw to one never
/// shifts another. The numbers are part of the results: never reuse or renumber one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u64)]
pub enum Stream {
    /// Which samples validate.
    Split = 1,
    /// Which samples are forgotten.
    ForgetSet = 2,
    /// Initial weights.
    Init = 3,
    /// The order of samples in an epoch.
    Shuffle = 4,
    /// Crops and flips.
    Augment = 5,
    /// The synthetic data set.
    Synthetic = 6,
    /// Randomness drawn on the device (dropout).
    Device = 7,
    /// Random pruning scores.
    Prune = 8,
    /// Noise added by a method.
    Noise = 9,
    /// Sampled curvature estimates.
    Estimate = 10,
    /// Random labels.
    Labels = 11,
    /// First weights of adapters.
    Adapters = 12,
}

/// A seed of one kind of randomness. Split, initialisation, forget set and training each have
/// their own. Zero is a seed like any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(pub u64);

impl Seed {
    /// The generator for one draw: `epoch` and `index` (step or sample) say which.
    ///
    /// The four numbers are the 256-bit key of a ChaCha8 generator, so that equal arguments give
    /// equal draws on every machine and different arguments give unrelated ones.
    pub fn rng(self, stream: Stream, epoch: u64, index: u64) -> ChaCha8Rng {
        let mut key = [0_u8; 32];
        for (chunk, word) in key.chunks_exact_mut(8).zip([self.0, stream as u64, epoch, index]) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        ChaCha8Rng::from_seed(key)
    }
}

#[cfg(test)]
mod tests;
