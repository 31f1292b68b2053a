//! x Φ(x) and its derivative Φ(x) + x φ(x) (Hendrycks and Gimpel 2016), with the error function itself.

use pulp::{Arch, Simd, WithSimd};
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
        arch.dispatch(Forward { y, x });
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
            arch.dispatch(Backward { back, x, g });
        });
        return back;
    }
    let samples = x.par_chunks_exact(size).zip(cotangents.par_chunks_exact(columns * size));
    back.par_chunks_exact_mut(columns * size).zip(samples).for_each_init(
        Vec::new,
        |slopes, (back, (x, g))| {
            slopes.resize(x.len(), 0.0);
            arch.dispatch(Slopes { slopes, x });
            arch.dispatch(|| {
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

// Structures and not closures: a closure as large as these loops is not inlined into the function that has the machine's
// vector instructions.

struct Forward<'a> {
    y: &'a mut [f32],
    x: &'a [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (y, &x) in self.y.iter_mut().zip(self.x) {
            *y = x * normal(x).0;
        }
    }
}

struct Backward<'a> {
    back: &'a mut [f32],
    x: &'a [f32],
    g: &'a [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for ((back, &x), &g) in self.back.iter_mut().zip(self.x).zip(self.g) {
            *back = g * derivative(x);
        }
    }
}

/// The derivatives themselves.
struct Slopes<'a> {
    slopes: &'a mut [f32],
    x: &'a [f32],
}

impl WithSimd for Slopes<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (slope, &x) in self.slopes.iter_mut().zip(self.x) {
            *slope = derivative(x);
        }
    }
}

#[inline(always)]
fn derivative(x: f32) -> f32 {
    let (below, density) = normal(x);
    below + x * (DENSITY * density)
}
