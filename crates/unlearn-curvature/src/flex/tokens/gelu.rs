//! x Φ(x) and its derivative Φ(x) + x φ(x) (Hendrycks and Gimpel 2016), with the error function itself.

use pulp::Arch;
use rayon::prelude::*;

use super::math::normal;

/// Entries that a thread takes at once.
const TOGETHER: usize = 1 << 13;

/// 1 / √(2π).
const DENSITY: f32 = 0.398_942_3;

/// x Φ(x).
pub(super) fn forward(x: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    let arch = Arch::new();
    y.par_chunks_mut(TOGETHER).zip(x.par_chunks(TOGETHER)).for_each(|(y, x)| {
        arch.dispatch(|| {
            for (y, &x) in y.iter_mut().zip(x) {
                *y = x * normal(x).0;
            }
        });
    });
    y
}

/// Cotangents `[b·c, size]` times the derivative at x `[b, size]`, the columns of a sample together.
pub(super) fn backward(x: &[f32], cotangents: &[f32], size: usize, columns: usize) -> Vec<f32> {
    let mut back = vec![0.0; cotangents.len()];
    let arch = Arch::new();
    // What is done once serves all columns, and pieces of a sample can be had by several threads.
    if columns == 1 {
        let pieces = x.par_chunks(TOGETHER).zip(cotangents.par_chunks(TOGETHER));
        back.par_chunks_mut(TOGETHER).zip(pieces).for_each(|(back, (x, g))| {
            arch.dispatch(|| {
                for ((back, &x), &g) in back.iter_mut().zip(x).zip(g) {
                    *back = g * derivative(x);
                }
            });
        });
        return back;
    }
    let samples = x.par_chunks_exact(size).zip(cotangents.par_chunks_exact(columns * size));
    back.par_chunks_exact_mut(columns * size).zip(samples).for_each_init(
        Vec::new,
        |slopes, (back, (x, g))| {
            arch.dispatch(|| {
                slopes.clear();
                slopes.extend(x.iter().map(|&x| derivative(x)));
                for (back, g) in back.chunks_exact_mut(size).zip(g.chunks_exact(size)) {
                    for ((back, &slope), &g) in back.iter_mut().zip(&*slopes).zip(g) {
                        *back = g * slope;
                    }
                }
            });
        },
    );
    back
}

#[inline(always)]
fn derivative(x: f32) -> f32 {
    let (below, density) = normal(x);
    below + x * (DENSITY * density)
}
