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
    let mut pieces = vec![0.0; g.len().div_ceil(TOGETHER * d) * d];
    pieces.par_chunks_exact_mut(d).zip(g.par_chunks(TOGETHER * d)).for_each(|(sums, g)| {
        arch.dispatch(|| {
            for row in g.chunks_exact(d) {
                for (sum, &g) in sums.iter_mut().zip(row) {
                    *sum += g;
                }
            }
        });
    });
    total(&pieces, d)
}
