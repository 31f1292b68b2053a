//! Layer normalisation of rows of d entries, and its gradients (Ba et al. 2016, eq. 3 and its derivative):
//!
//! ```text
//! y  = γ x̂ + β                           x̂ = (x − μ) r,  r = (σ² + ε)^(−1/2), of each row
//! x' = r (ĝ − mean(ĝ) − x̂ mean(ĝ x̂))     ĝ = g γ
//! γ' = Σ g x̂,  β' = Σ g                   over rows
//! ```

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::sums::total;
use crate::flex::fresh::filled;
use crate::flex::norm::sum;

/// Rows that a thread takes at once. What is summed in which order follows from it, and never from the number of
/// threads.
const TOGETHER: usize = 64;

/// A row's μ and r.
#[inline(always)]
fn moments(x: &[f32], epsilon: f64) -> (f32, f32) {
    let d = x.len() as f64;
    let mean = (sum(x, x, |x, _| x) / d) as f32;
    let variance = sum(x, x, |x, _| (x - mean) * (x - mean)) / d;
    (mean, (1.0 / (variance + epsilon).sqrt()) as f32)
}

/// y.
pub(super) fn forward(x: &[f32], gamma: &[f32], beta: &[f32], epsilon: f64) -> Vec<f32> {
    let d = gamma.len();
    let arch = Arch::new();
    filled(x.len(), TOGETHER * d, x.par_chunks(TOGETHER * d), |y, x| {
        arch.dispatch(Forward { y, x, gamma, beta, epsilon });
    })
}

// Structures and not closures: a closure as large as these loops is not inlined into the function that has the machine's
// vector instructions.

struct Forward<'a> {
    y: &'a mut [f32],
    x: &'a [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
    epsilon: f64,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { y, x, gamma, beta, epsilon } = self;
        let d = gamma.len();
        for (y, x) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
            let (mean, r) = moments(x, epsilon);
            for (((y, &x), &gamma), &beta) in y.iter_mut().zip(x).zip(gamma).zip(beta) {
                *y = (x - mean) * r * gamma + beta;
            }
        }
    }
}

/// x', γ' and β'; of the last two nothing is computed, and zeros are given, unless they are `wanted`.
pub(super) fn backward(
    x: &[f32],
    g: &[f32],
    gamma: &[f32],
    epsilon: f64,
    wanted: bool,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let d = gamma.len();
    let arch = Arch::new();
    let pieces = x.len().div_ceil(TOGETHER * d);
    // Of each piece, in the order of the pieces.
    let (mut scales, mut shifts) = (vec![0.0; pieces * d], vec![0.0; pieces * d]);
    let sums = scales.par_chunks_exact_mut(d).zip(shifts.par_chunks_exact_mut(d));
    let inputs = x.par_chunks(TOGETHER * d).zip(g.par_chunks(TOGETHER * d)).zip(sums);
    let back = filled(x.len(), TOGETHER * d, inputs, |back, ((x, g), (scale, shift))| {
        let sums = wanted.then_some([scale, shift]);
        arch.dispatch(Backward { back, x, g, gamma, epsilon, sums });
    });
    (back, total(&scales, d), total(&shifts, d))
}

struct Backward<'a> {
    back: &'a mut [f32],
    x: &'a [f32],
    g: &'a [f32],
    gamma: &'a [f32],
    epsilon: f64,
    /// γ' and β', where they are wanted.
    sums: Option<[&'a mut [f32]; 2]>,
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { back, x, g, gamma, epsilon, mut sums } = self;
        let d = gamma.len();
        let mut hats = vec![0.0; d];
        let rows = back.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(g.chunks_exact(d));
        for ((back, x), g) in rows {
            let (mean, r) = moments(x, epsilon);
            for (((hat, back), (&x, &g)), &gamma) in
                hats.iter_mut().zip(&mut *back).zip(x.iter().zip(g)).zip(gamma)
            {
                *hat = (x - mean) * r;
                *back = g * gamma;
            }
            let level = (sum(back, back, |g, _| g) / d as f64) as f32;
            let slope = (sum(back, &hats, |g, hat| g * hat) / d as f64) as f32;
            for (back, &hat) in back.iter_mut().zip(&hats) {
                *back = r * (*back - level - hat * slope);
            }
            if let Some([scale, shift]) = &mut sums {
                for (((scale, shift), &hat), &g) in scale.iter_mut().zip(shift.iter_mut()).zip(&hats).zip(g) {
                    *scale += g * hat;
                    *shift += g;
                }
            }
        }
    }
}
