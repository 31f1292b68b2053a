//! Random columns. A draw is a pure function of (seed, sample, draw).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::CurvatureError;
use crate::oracle::LogitRows;

/// Tells this use of a seed from others of the same seed.
const STREAM: u64 = 10;

fn generator((seed, sample): (u64, usize), draw: usize) -> ChaCha8Rng {
    let mut key = [0_u8; 32];
    for (chunk, word) in key.chunks_exact_mut(8).zip([seed, STREAM, draw as u64, sample as u64]) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// (p − e_ŷ) / √draws with ŷ drawn from p, `draws` times, for row `n`.
pub(super) fn labels(
    rows: &LogitRows,
    n: usize,
    draws: usize,
    key: (u64, usize),
    values: &mut Vec<f64>,
) -> Result<(), CurvatureError> {
    let p = rows.probabilities(n);
    let total: f64 = p.iter().sum();
    for draw in 0..draws {
        // 53 bits: uniform in [0, 1).
        let uniform = (generator(key, draw).next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        let mut left = uniform * total;
        let mut label = p.iter().rposition(|&p| p > 0.0).unwrap_or(0);
        for (class, &p) in p.iter().enumerate() {
            if left < p {
                label = class;
                break;
            }
            left -= p;
        }
        let weight = 1.0 / (draws as f64).sqrt();
        values.extend(rows.residual(n, label)?.0.into_iter().map(|r| weight * r));
    }
    Ok(())
}

/// Σ_j ε_j L_j / √draws with independent signs ε, `draws` times; `factor` `[j, k]`.
pub(super) fn signs(factor: &[f64], k: usize, draws: usize, key: (u64, usize), values: &mut Vec<f64>) {
    for draw in 0..draws {
        let mut generator = generator(key, draw);
        let mut column = vec![0.0; k];
        let mut bits = 0;
        for (j, part) in factor.chunks_exact(k).enumerate() {
            if j % 64 == 0 {
                bits = generator.next_u64();
            }
            let sign = if (bits >> (j % 64)) & 1 == 0 { 1.0 } else { -1.0 };
            column.iter_mut().zip(part).for_each(|(sum, part)| *sum += sign * part);
        }
        let weight = 1.0 / (draws as f64).sqrt();
        values.extend(column.into_iter().map(|v| weight * v));
    }
}
