//! What is done to every entry of large tensors, in one pass over memory.

use pulp::Arch;
use rayon::prelude::*;

use super::norm::sum;

/// Entries that a thread takes at once. What is summed in which order follows from it, and never from the
/// number of threads.
const TOGETHER: usize = 1 << 14;

/// Constants of a step of gradient descent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Descent {
    pub(crate) rate: f32,
    pub(crate) momentum: f32,
    pub(crate) nesterov: bool,
    pub(crate) decay: f32,
}

/// Moves `value` along `gradient`, and with it `velocity`. `first`: there was no velocity before.
pub(super) fn descend(
    by: Descent,
    value: &mut [f32],
    gradient: &[f32],
    velocity: Option<(&mut [f32], bool)>,
) {
    let arch = Arch::new();
    let Descent { rate, momentum, nesterov, decay } = by;
    let pieces = value.par_chunks_mut(TOGETHER).zip(gradient.par_chunks(TOGETHER));
    match velocity {
        None => pieces.for_each(|(value, gradient)| {
            arch.dispatch(|| {
                for (value, &g) in value.iter_mut().zip(gradient) {
                    *value -= rate * (g + decay * *value);
                }
            });
        }),
        Some((velocity, first)) => {
            let before = if first { 0.0 } else { momentum };
            pieces.zip(velocity.par_chunks_mut(TOGETHER)).for_each(|((value, gradient), velocity)| {
                arch.dispatch(|| {
                    for ((value, &g), velocity) in value.iter_mut().zip(gradient).zip(velocity) {
                        let g = g + decay * *value;
                        let v = if first { g } else { g + before * *velocity };
                        *velocity = v;
                        *value -= rate * if nesterov { momentum * v + g } else { v };
                    }
                });
            });
        }
    }
}

/// Constants of a step of Adam; see [`crate::fused::Adam`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Adaptive {
    /// β₁ and β₂.
    pub(crate) keep: [f32; 2],
    /// 1 − β₁ and 1 − β₂.
    pub(crate) take: [f32; 2],
    /// 1 / √(1 − β₂ᵗ).
    pub(crate) spread: f32,
    pub(crate) epsilon: f32,
    /// η / (1 − β₁ᵗ).
    pub(crate) length: f32,
    /// 1 − ηλ.
    pub(crate) shrink: f32,
}

/// Moves `value` and its two moments.
pub(super) fn adapt(by: Adaptive, value: &mut [f32], gradient: &[f32], [first, second]: [&mut [f32]; 2]) {
    let arch = Arch::new();
    let pieces = value.par_chunks_mut(TOGETHER).zip(gradient.par_chunks(TOGETHER));
    let moments = first.par_chunks_mut(TOGETHER).zip(second.par_chunks_mut(TOGETHER));
    pieces.zip(moments).for_each(|((value, gradient), (first, second))| {
        arch.dispatch(|| {
            let Adaptive { keep, take, spread, epsilon, length, shrink } = by;
            for (((value, &g), m), v) in value.iter_mut().zip(gradient).zip(first).zip(second) {
                *m = keep[0] * *m + take[0] * g;
                *v = keep[1] * *v + take[1] * g * g;
                *value = shrink * *value - length * *m / (v.sqrt() * spread + epsilon);
            }
        });
    });
}

/// Σ x².
pub(super) fn sum_of_squares(x: &[f32]) -> f32 {
    let arch = Arch::new();
    let parts: Vec<f64> = x
        .par_chunks(TOGETHER)
        .map(|x| arch.dispatch(|| x.chunks(1024).map(|x| sum(x, x, |x, y| x * y)).sum()))
        .collect();
    parts.into_iter().sum::<f64>() as f32
}
