//! What a reverse sweep does between the convolutions, in one read of the cotangents each.
//! b samples, c columns; cotangents `[b·c, …]`, the columns of a sample together.

use pulp::Arch;
use rayon::prelude::*;

use super::norm::{Planes, sum};

/// Cotangents `[b·c, size]` become zero where the activation `y` `[b, size]` is not above zero; what is not a number lets
/// them through.
pub(super) fn relu(y: &[f32], cotangents: &mut [f32], size: usize, columns: usize) {
    let arch = Arch::new();
    cotangents.par_chunks_exact_mut(size).enumerate().for_each(|(row, g)| {
        let y = &y[row / columns * size..][..size];
        arch.dispatch(|| {
            for (g, &y) in g.iter_mut().zip(y) {
                // Not a product: an infinite cotangent does not make a closed unit undefined.
                *g = if y <= 0.0 { 0.0 } else { *g };
            }
        });
    });
}

/// Going back through a batch norm by running statistics.
#[derive(Debug, Clone, Copy)]
pub(super) struct Norm<'a> {
    /// The input, `[b, channels, plane]`, when the scale's gradient is wanted.
    pub(super) x: Option<&'a [f32]>,
    pub(super) mean: &'a [f32],
    pub(super) inverse_std: &'a [f32],
    pub(super) gamma: &'a [f32],
    pub(super) columns: usize,
}

/// The cotangents times γ r; Σ over positions of cotangents and of cotangents times (x − μ) r, both `[b·c, channels]`
/// (the latter zero without an input).
pub(super) fn batch_norm(planes: Planes, g: &[f32], norm: &Norm) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let (size, channels) = (planes.channels * planes.plane, planes.channels);
    let rows = g.len() / size;
    let mut back = vec![0.0; g.len()];
    let (mut shift, mut scale) = (vec![0.0; rows * channels], vec![0.0; rows * channels]);
    let arch = Arch::new();
    back.par_chunks_exact_mut(size)
        .zip(g.par_chunks_exact(size))
        .zip(shift.par_chunks_exact_mut(channels).zip(scale.par_chunks_exact_mut(channels)))
        .enumerate()
        .for_each(|(row, ((back, g), (shift, scale)))| {
            let x = norm.x.map(|x| &x[row / norm.columns * size..][..size]);
            arch.dispatch(|| {
                for channel in 0..channels {
                    let plane = channel * planes.plane..(channel + 1) * planes.plane;
                    let g = &g[plane.clone()];
                    let (mean, r) = (norm.mean[channel], norm.inverse_std[channel]);
                    let factor = norm.gamma[channel] * r;
                    for (back, &g) in back[plane.clone()].iter_mut().zip(g) {
                        *back = g * factor;
                    }
                    shift[channel] = sum(g, g, |g, _| g) as f32;
                    if let Some(x) = x {
                        scale[channel] = sum(g, &x[plane], |g, x| g * ((x - mean) * r)) as f32;
                    }
                }
            });
        });
    (back, shift, scale)
}
