//! x Φ(x) and its derivative Φ(x) + x φ(x) (Hendrycks and Gimpel 2016), with the error function itself.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::math::normal;
use crate::flex::fresh::{filled, filled_in};

/// Entries that a thread takes at once.
const TOGETHER: usize = 1 << 13;

/// 1 / √(2π).
const DENSITY: f32 = 0.398_942_3;

/// x Φ(x).
pub(super) fn forward(x: &[f32]) -> Vec<f32> {
    let arch = Arch::new();
    filled(x.len(), TOGETHER, x.par_chunks(TOGETHER), |y, x| arch.dispatch(Forward { y, x }))
}

/// Cotangents `[b·c, size]` times the derivative at x `[b, size]`, the columns of a sample together.
pub(super) fn backward(x: &[f32], cotangents: &[f32], size: usize, columns: usize) -> Vec<f32> {
    let arch = Arch::new();
    // What is done once serves all columns, and pieces of a sample can be had by several threads.
    if columns == 1 {
        let pieces = x.par_chunks(TOGETHER).zip(cotangents.par_chunks(TOGETHER));
        return filled(x.len(), TOGETHER, pieces, |back, (x, g)| arch.dispatch(Backward { back, x, g }));
    }
    let samples = x.par_chunks_exact(size).zip(cotangents.par_chunks_exact(columns * size));
    let one = |slopes: &mut Vec<f32>, [back]: [&mut [f32]; 1], (x, g): (&[f32], &[f32])| {
        slopes.resize(x.len(), 0.0);
        arch.dispatch(Slopes { slopes, x });
        arch.dispatch(|| {
            for (back, g) in back.chunks_exact_mut(size).zip(g.chunks_exact(size)) {
                for ((back, &slope), &g) in back.iter_mut().zip(&*slopes).zip(g) {
                    *back = g * slope;
                }
            }
        });
    };
    let [back] = filled_in(cotangents.len(), columns * size, samples, Vec::new, one);
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
