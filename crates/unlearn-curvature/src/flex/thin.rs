//! Weight gradients of convolutions with few outputs, as branches of adapters have.
//!
//! Elsewhere vectors hold outputs; eight of them would leave half of a vector empty. Here they hold channels of the input:
//!
//! ```text
//! ∂w[o][c][k] = Σ_t gradient[o][t] · x[t moved by k][c]        rows: outputs, steps: positions t, vectors: channels c
//! ```

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::panel::{Aligned, Panel, panels, parts, parts_mut, transpose, width};
use super::product::Within;
use super::shape::ConvShape;
use super::tile::tile_of;

/// Outputs up to which this is faster.
const MOST: usize = 8;
/// Scalars of pictures that are worked on together. What is summed in which order follows from it, and never from the
/// number of threads.
const TOGETHER: usize = if cfg!(test) { 8 << 10 } else { 512 << 10 };

/// Whether a weight gradient is for this.
pub(super) fn suits(shape: &ConvShape) -> bool {
    shape.outputs <= MOST && shape.channels >= 4 * MOST && shape.plane() > 0
}

/// x `[n, i, h, w]`, gradient `[n, o, h', w']` → `[o, i · kh · kw]`.
pub(super) fn weight_gradient(shape: &ConvShape, x: &[f32], gradient: &[f32]) -> Vec<f32> {
    let (plane, area) = (shape.plane(), shape.kernel[0] * shape.kernel[1]);
    let (size, output) = (shape.channels * plane, shape.output_size());
    let cut = panels(shape.channels);
    let width = width(&cut);
    let within: Vec<_> = (0..area).map(|k| Within::inputs(shape, k)).collect();
    let n = x.len() / size.max(1);
    let together = (TOGETHER / size).clamp(1, n.max(1));
    // Panel after panel `[k, output, width]`.
    let mut sums = vec![0.0; area * shape.outputs * width];
    let mut lines = Aligned::default();
    for first in (0..n).step_by(together) {
        let samples = together.min(n - first);
        let lines = lines.reset(samples * plane * width);
        let pictures: Vec<_> = parts_mut(&cut, samples * plane, lines)
            .flat_map(|(panel, to)| {
                to.chunks_exact_mut(plane * panel.width).enumerate().map(move |(i, to)| (panel, i, to))
            })
            .collect();
        pictures.into_par_iter().for_each(|(panel, i, to)| {
            let from = &x[(first + i) * size + panel.first * plane..];
            transpose(panel, plane, to, |j| &from[j * plane..][..plane], 1.0);
        });
        let mut works = Vec::new();
        let sums = parts_mut(&cut, area * shape.outputs, &mut sums);
        for ((panel, mine), (_, lines)) in sums.zip(parts(&cut, samples * plane, lines)) {
            let entries = mine.chunks_exact_mut(shape.outputs * panel.width).zip(&within);
            works.extend(entries.map(|(sums, within)| Work {
                gradients: &gradient[first * output..][..samples * output],
                lines,
                panel,
                positions: shape.positions(),
                within,
                sums,
            }));
        }
        works.into_par_iter().for_each(|work| Arch::new().dispatch(work));
    }
    let mut result = vec![0.0; shape.outputs * shape.patch()];
    for (panel, mine) in parts(&cut, area * shape.outputs, &sums) {
        for (k, entry) in mine.chunks_exact(shape.outputs * panel.width).enumerate() {
            for (o, row) in entry.chunks_exact(panel.width).enumerate() {
                let to = &mut result[(o * shape.channels + panel.first) * area + k..];
                to.iter_mut().step_by(area).zip(&row[..panel.live]).for_each(|(to, &from)| *to = from);
            }
        }
    }
    result
}

/// One task: an entry of the kernel for one panel of channels.
struct Work<'a> {
    /// `[sample, output, position]`
    gradients: &'a [f32],
    /// `[sample, position of the input, width]`
    lines: &'a [f32],
    panel: &'a Panel,
    positions: usize,
    within: &'a Within,
    /// `[output, width]`, added to.
    sums: &'a mut [f32],
}

impl WithSimd for Work<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Rows for the few outputs, so that accumulators fit the registers: 32 with 16 lanes, else 16.
        match (S::F32_LANES >= 16, self.panel.vectors) {
            (true, 4) => add::<S, 4, 4>(simd, self),
            (true, 2) => add::<S, 8, 2>(simd, self),
            (_, 2) => add::<S, 4, 2>(simd, self),
            _ => add::<S, 8, 1>(simd, self),
        }
    }
}

#[inline(always)]
fn add<S: Simd, const R: usize, const V: usize>(simd: S, work: Work) {
    let Work { gradients, lines, panel, positions, within, sums } = work;
    let outputs = sums.len() / panel.width;
    let samples = gradients.len() / (outputs * positions);
    let (lines, _) = S::as_simd_f32s(lines);
    let (lines, _) = lines.as_chunks::<V>();
    let (sums, _) = S::as_mut_simd_f32s(sums);
    let (sums, _) = sums.as_chunks_mut::<V>();
    let gradients = gradients.chunks_exact(outputs * positions);
    for (gradient, lines) in gradients.zip(lines.chunks_exact(lines.len() / samples)) {
        for (block, sums) in sums.chunks_mut(R).enumerate() {
            // Missing rows repeat the last one and are not stored.
            let rows: [usize; R] = std::array::from_fn(|r| (block * R + r.min(sums.len() - 1)) * positions);
            let part = tile_of::<S, R, V>(simd, gradient, &rows, (&within.steps, &within.places), lines);
            for (sum, part) in sums.iter_mut().zip(&part) {
                for (sum, &part) in sum.iter_mut().zip(part) {
                    *sum = simd.add_f32s(*sum, part);
                }
            }
        }
    }
}
