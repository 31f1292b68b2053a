//! Batch normalisation, alone or with a ReLU behind it: moments, forward and gradients in two reads of the picture each.
//!
//! Formulas: Ioffe & Szegedy 2015, algorithm 1 and the derivatives of §3, with m = n·h·w values a channel:
//!
//! ```text
//! y  = γ (x − μ) r + β                     r = (σ² + ε)^(−1/2)
//! γ' = Σ g x̂,  β' = Σ g                    x̂ = (x − μ) r
//! x' = γ r (g − β'/m − x̂ γ'/m)
//! ```
//!
//! Behind a ReLU g counts where the result is above zero. Sums of a plane are formed in float32 on sixteen lanes and
//! added up in float64. A gradient is worked on where it lies, so that nothing of its size is allocated.

mod extension;
#[cfg(test)]
mod tests;

pub(super) use extension::{DirectNorm, FixedNorm, NormKernels};

use pulp::Arch;
use rayon::prelude::*;

use super::fresh::filled;

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

/// The sum of partial sums, in pairs and not in one chain.
#[inline(always)]
fn total(sums: [f32; LANES]) -> f64 {
    let mut sums = sums.map(f64::from);
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    sums[0]
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
    total(sums)
}

/// The same of three.
#[inline(always)]
fn sum_of_three(a: &[f32], b: &[f32], c: &[f32], term: impl Fn(f32, f32, f32) -> f32) -> f64 {
    let mut sums = [0.0f32; LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let (c, c_rest) = c.as_chunks::<LANES>();
    for ((a, b), c) in a.iter().zip(b).zip(c) {
        for (((sum, &a), &b), &c) in sums.iter_mut().zip(a).zip(b).zip(c) {
            *sum += term(a, b, c);
        }
    }
    for (((sum, &a), &b), &c) in sums.iter_mut().zip(a_rest).zip(b_rest).zip(c_rest) {
        *sum += term(a, b, c);
    }
    total(sums)
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

/// What follows a norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behind {
    /// Nothing.
    Nothing,
    /// max(y, 0).
    Relu,
}

impl Behind {
    /// Below it a result is set to it. Not so what is not a number.
    fn floor(self) -> f32 {
        if self == Self::Relu { 0.0 } else { f32::NEG_INFINITY }
    }
}

/// μ, γ r and β of each channel.
fn lines(planes: Planes, moments: &[f32], (gamma, beta): (&[f32], &[f32]), epsilon: f64) -> Vec<[f32; 3]> {
    let r = inverse_std(moments, planes.channels, epsilon);
    (0..planes.channels).map(|c| [moments[c], (f64::from(gamma[c]) * r(c)) as f32, beta[c]]).collect()
}

#[inline(always)]
fn normal(x: f32, [mean, scale, shift]: [f32; 3], floor: f32) -> f32 {
    let y = (x - mean) * scale + shift;
    if y < floor { floor } else { y }
}

/// y.
pub(super) fn forward(
    planes: Planes,
    x: &[f32],
    moments: &[f32],
    affine: (&[f32], &[f32]),
    epsilon: f64,
    behind: Behind,
) -> Vec<f32> {
    let (lines, floor) = (lines(planes, moments, affine, epsilon), behind.floor());
    let arch = Arch::new();
    filled(x.len(), planes.sample(), x.par_chunks(planes.sample()), |y, x| {
        arch.dispatch(|| {
            let all = y.chunks_exact_mut(planes.plane).zip(x.chunks_exact(planes.plane)).zip(&lines);
            for ((y, x), &line) in all {
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = normal(x, line, floor);
                }
            }
        });
    })
}

/// y in the place of x.
pub(super) fn forward_in_place(
    planes: Planes,
    x: &mut [f32],
    moments: &[f32],
    affine: (&[f32], &[f32]),
    epsilon: f64,
    behind: Behind,
) {
    let (lines, floor) = (lines(planes, moments, affine, epsilon), behind.floor());
    let arch = Arch::new();
    x.par_chunks_mut(planes.sample()).for_each(|x| {
        arch.dispatch(|| {
            for (x, &line) in x.chunks_exact_mut(planes.plane).zip(&lines) {
                for x in x {
                    *x = normal(*x, line, floor);
                }
            }
        });
    });
}

/// g where the result y of a ReLU is above zero (or not a number); all of it where there is no ReLU.
#[inline(always)]
fn open<const RELU: bool>(g: f32, y: f32) -> f32 {
    if RELU && y <= 0.0 { 0.0 } else { g }
}

/// g becomes g γ r: x' of a norm whose moments are constants. `y` is the result of the ReLU behind it, if there is one.
pub(super) fn scale_back(
    planes: Planes,
    g: &mut [f32],
    y: Option<&[f32]>,
    moments: &[f32],
    gamma: &[f32],
    epsilon: f64,
) {
    let r = inverse_std(moments, planes.channels, epsilon);
    let scales: Vec<f32> = (0..planes.channels).map(|c| (f64::from(gamma[c]) * r(c)) as f32).collect();
    let (arch, size) = (Arch::new(), planes.sample());
    match y {
        None => g.par_chunks_mut(size).for_each(|g| {
            arch.dispatch(|| {
                for (g, &scale) in g.chunks_exact_mut(planes.plane).zip(&scales) {
                    for g in g {
                        *g *= scale;
                    }
                }
            });
        }),
        Some(y) => g.par_chunks_mut(size).zip(y.par_chunks(size)).for_each(|(g, y)| {
            arch.dispatch(|| {
                let all = g.chunks_exact_mut(planes.plane).zip(y.chunks_exact(planes.plane)).zip(&scales);
                for ((g, y), &scale) in all {
                    for (g, &y) in g.iter_mut().zip(y) {
                        *g = open::<true>(*g * scale, y);
                    }
                }
            });
        }),
    }
}

/// What a norm saw and made: x and y, both `[n, c, h, w]`.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) x: &'a [f32],
    /// Looked at behind a ReLU only.
    pub(super) y: &'a [f32],
}

/// g becomes x'; γ' and β'.
pub(super) fn backward(
    planes: Planes,
    seen: Seen,
    g: &mut [f32],
    moments: &[f32],
    gamma: &[f32],
    epsilon: f64,
    behind: Behind,
) -> (Vec<f32>, Vec<f32>) {
    match behind {
        Behind::Nothing => back::<false>(planes, seen, g, moments, gamma, epsilon),
        Behind::Relu => back::<true>(planes, seen, g, moments, gamma, epsilon),
    }
}

fn back<const RELU: bool>(
    planes: Planes,
    Seen { x, y }: Seen,
    g: &mut [f32],
    moments: &[f32],
    gamma: &[f32],
    epsilon: f64,
) -> (Vec<f32>, Vec<f32>) {
    let (arch, m) = (Arch::new(), planes.count(x));
    let r = inverse_std(moments, planes.channels, epsilon);
    let gradient = &*g;
    let sums = (0..planes.channels).into_par_iter().map(|channel| {
        arch.dispatch(|| {
            let mean = moments[channel];
            let triples = planes.of(gradient, channel).zip(planes.of(x, channel)).zip(planes.of(y, channel));
            triples.fold((0.0, 0.0), |(all, along), ((g, x), y)| {
                let open = |g, y| open::<RELU>(g, y);
                (all + sum(g, y, open), along + sum_of_three(g, x, y, |g, x, y| open(g, y) * (x - mean)))
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
    let size = planes.sample();
    g.par_chunks_mut(size).zip(x.par_chunks(size).zip(y.par_chunks(size))).for_each(|(g, (x, y))| {
        arch.dispatch(|| {
            let inputs = x.chunks_exact(planes.plane).zip(y.chunks_exact(planes.plane));
            let all = g.chunks_exact_mut(planes.plane).zip(inputs).zip(&lines);
            for ((g, (x, y)), &[mean, scale, level, slope]) in all {
                for ((g, &x), &y) in g.iter_mut().zip(x).zip(y) {
                    *g = scale * (open::<RELU>(*g, y) - level - (x - mean) * slope);
                }
            }
        });
    });
    let for_gamma = sums.iter().enumerate().map(|(c, &(_, along))| (along * r(c)) as f32).collect();
    let for_beta = sums.iter().map(|&(all, _)| all as f32).collect();
    (for_gamma, for_beta)
}
