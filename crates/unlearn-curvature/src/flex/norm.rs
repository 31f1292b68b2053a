//! Batch normalisation of a training step: moments, forward and gradients in two reads of the picture each.
//!
//! Formulas: Ioffe & Szegedy 2015, algorithm 1 and the derivatives of §3, with m = n·h·w values a channel:
//!
//! ```text
//! y  = γ (x − μ) r + β                     r = (σ² + ε)^(−1/2)
//! γ' = Σ g x̂,  β' = Σ g                    x̂ = (x − μ) r
//! x' = γ r (g − β'/m − x̂ γ'/m)
//! ```
//!
//! Sums of a plane are formed in float32 on sixteen lanes and added up in float64.

use pulp::Arch;
use rayon::prelude::*;

const LANES: usize = 16;

/// n samples of c channels of planes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Planes {
    pub(super) channels: usize,
    pub(super) plane: usize,
}

impl Planes {
    fn sample(self) -> usize {
        self.channels * self.plane
    }

    /// The planes of one channel.
    fn of(self, x: &[f32], channel: usize) -> impl Iterator<Item = &[f32]> {
        x.chunks_exact(self.sample()).map(move |sample| &sample[channel * self.plane..][..self.plane])
    }

    fn count(self, x: &[f32]) -> f64 {
        (x.len() / self.channels) as f64
    }
}

/// Sixteen partial sums of `term(a, b)`.
#[inline(always)]
pub(super) fn sum(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f64 {
    let mut sums = [0.0f32; LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            *sum += term(a, b);
        }
    }
    for ((sum, &a), &b) in sums.iter_mut().zip(a_rest).zip(b_rest) {
        *sum += term(a, b);
    }
    sums.iter().map(|&sum| f64::from(sum)).sum()
}

/// Mean and (biased) variance of each channel: `[2, c]`.
pub(super) fn moments(planes: Planes, x: &[f32]) -> Vec<f32> {
    let (arch, m) = (Arch::new(), planes.count(x));
    let each = (0..planes.channels).into_par_iter().map(|channel| {
        arch.dispatch(|| {
            let total: f64 = planes.of(x, channel).map(|x| sum(x, x, |x, _| x)).sum();
            let mean = (total / m) as f32;
            let squares: f64 = planes.of(x, channel).map(|x| sum(x, x, |x, _| (x - mean) * (x - mean))).sum();
            (mean, (squares / m) as f32)
        })
    });
    let each: Vec<(f32, f32)> = each.collect();
    each.iter().map(|m| m.0).chain(each.iter().map(|m| m.1)).collect()
}

/// r of each channel.
fn inverse_std(moments: &[f32], channels: usize, epsilon: f64) -> impl Fn(usize) -> f64 {
    move |channel| 1.0 / (f64::from(moments[channels + channel]) + epsilon).sqrt()
}

/// y.
pub(super) fn forward(
    planes: Planes,
    x: &[f32],
    moments: &[f32],
    (gamma, beta): (&[f32], &[f32]),
    epsilon: f64,
) -> Vec<f32> {
    let r = inverse_std(moments, planes.channels, epsilon);
    let lines: Vec<[f32; 3]> =
        (0..planes.channels).map(|c| [moments[c], (f64::from(gamma[c]) * r(c)) as f32, beta[c]]).collect();
    let mut y = vec![0.0; x.len()];
    let arch = Arch::new();
    y.par_chunks_mut(planes.sample()).zip(x.par_chunks(planes.sample())).for_each(|(y, x)| {
        arch.dispatch(|| {
            let all = y.chunks_exact_mut(planes.plane).zip(x.chunks_exact(planes.plane)).zip(&lines);
            for ((y, x), &[mean, scale, shift]) in all {
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = (x - mean) * scale + shift;
                }
            }
        });
    });
    y
}

/// g · γ r: x' of a norm whose moments are constants.
pub(super) fn scaled(planes: Planes, g: &[f32], moments: &[f32], gamma: &[f32], epsilon: f64) -> Vec<f32> {
    let r = inverse_std(moments, planes.channels, epsilon);
    let scales: Vec<f32> = (0..planes.channels).map(|c| (f64::from(gamma[c]) * r(c)) as f32).collect();
    let mut back = vec![0.0; g.len()];
    let arch = Arch::new();
    back.par_chunks_mut(planes.sample()).zip(g.par_chunks(planes.sample())).for_each(|(back, g)| {
        arch.dispatch(|| {
            let all = back.chunks_exact_mut(planes.plane).zip(g.chunks_exact(planes.plane)).zip(&scales);
            for ((back, g), &scale) in all {
                for (back, &g) in back.iter_mut().zip(g) {
                    *back = g * scale;
                }
            }
        });
    });
    back
}

/// x', γ' and β'.
pub(super) fn backward(
    planes: Planes,
    x: &[f32],
    g: &[f32],
    moments: &[f32],
    gamma: &[f32],
    epsilon: f64,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let (arch, m) = (Arch::new(), planes.count(x));
    let r = inverse_std(moments, planes.channels, epsilon);
    let sums = (0..planes.channels).into_par_iter().map(|channel| {
        arch.dispatch(|| {
            let mean = moments[channel];
            let pairs = planes.of(g, channel).zip(planes.of(x, channel));
            pairs.fold((0.0, 0.0), |(all, along), (g, x)| {
                (all + sum(g, x, |g, _| g), along + sum(g, x, |g, x| g * (x - mean)))
            })
        })
    });
    let sums: Vec<(f64, f64)> = sums.collect();
    // x' = scale · (g − level − (x − μ) · slope)
    let lines: Vec<[f32; 4]> = sums
        .iter()
        .enumerate()
        .map(|(c, &(all, along))| {
            let (r, mean) = (r(c), moments[c]);
            [mean, (f64::from(gamma[c]) * r) as f32, (all / m) as f32, (along * r * r / m) as f32]
        })
        .collect();
    let mut back = vec![0.0; x.len()];
    let size = planes.sample();
    back.par_chunks_mut(size).zip(x.par_chunks(size).zip(g.par_chunks(size))).for_each(|(back, (x, g))| {
        arch.dispatch(|| {
            let inputs = x.chunks_exact(planes.plane).zip(g.chunks_exact(planes.plane));
            let all = back.chunks_exact_mut(planes.plane).zip(inputs).zip(&lines);
            for ((back, (x, g)), &[mean, scale, level, slope]) in all {
                for ((back, &x), &g) in back.iter_mut().zip(x).zip(g) {
                    *back = scale * (g - level - (x - mean) * slope);
                }
            }
        });
    });
    let for_gamma = sums.iter().enumerate().map(|(c, &(_, along))| (along * r(c)) as f32).collect();
    let for_beta = sums.iter().map(|&(all, _)| all as f32).collect();
    (back, for_gamma, for_beta)
}
