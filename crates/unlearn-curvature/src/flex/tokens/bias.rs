//! A bias added to rows, and its gradient: the sum of the rows' gradients.

use pulp::Arch;
use rayon::prelude::*;

use super::sums::total;

/// Rows that a thread takes at once. What is summed in which order follows from it, and never from the number of
/// threads.
const TOGETHER: usize = 64;

/// `bias` `[d]` onto each row of `y` `[rows, d]`.
pub(super) fn add(y: &mut [f32], bias: &[f32]) {
    let arch = Arch::new();
    y.par_chunks_mut(TOGETHER * bias.len()).for_each(|y| {
        arch.dispatch(|| {
            for row in y.chunks_exact_mut(bias.len()) {
                for (y, &bias) in row.iter_mut().zip(bias) {
                    *y += bias;
                }
            }
        });
    });
}

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
