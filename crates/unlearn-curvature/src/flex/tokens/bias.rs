//! The gradient of a bias that is added to rows: the sum of their gradients.

use pulp::Arch;
use rayon::prelude::*;

use super::sums::total;

/// Rows that a thread takes at once. What is summed in which order follows from it, and never from the number of
/// threads.
const TOGETHER: usize = 64;

/// The sum of the rows of `g` `[rows, d]`: `[d]`.
pub(super) fn sum(g: &[f32], d: usize) -> Vec<f32> {
    let arch = Arch::new();
    let pieces = g.par_chunks(TOGETHER * d).map(|g| {
        let mut sums = vec![0.0f32; d];
        arch.dispatch(|| {
            for row in g.chunks_exact(d) {
                for (sum, &g) in sums.iter_mut().zip(row) {
                    *sum += g;
                }
            }
        });
        sums
    });
    let pieces: Vec<Vec<f32>> = pieces.collect();
    total(&pieces, d)
}
