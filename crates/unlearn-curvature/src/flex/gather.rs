//! Convolutions and their input gradients: for each output position a sum over taps.
//!
//! The input gradient of a strided convolution falls apart into stride² convolutions of the output
//! gradient, one for each remainder of the input position, each with its own part of the kernel; no zero
//! is multiplied.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::fresh::filled_in;
use super::panel::{Aligned, Panel, for_panel, panels, parts_mut, transpose, width};
use super::shape::{ConvShape, Frame};
use super::tile::{Steps, tile};

/// Scalars of framed pictures that one task holds: half of a common second-level cache.
const CHUNK: usize = 96 << 10;

/// One family of output positions with a common set of taps.
struct Family {
    /// Offsets of the taps in the framed source.
    steps: Steps,
    /// Source offset and destination offset of each position of one picture.
    places: Vec<(u32, u32)>,
    /// The weights, panel after panel, `[taps, width]`.
    weights: Aligned,
}

/// x `[n, i, h, w]`, weight `[o, i, kh, kw]` → `[n, o, h', w']`.
pub(super) fn forward(shape: &ConvShape, x: &[f32], weight: &[f32]) -> Vec<f32> {
    let places = shape.corners().into_iter().zip(0u32..).collect();
    let patch = shape.patch();
    let cut = panels(shape.outputs);
    let mut weights = Aligned::default();
    pack(&cut, patch, &mut weights, |panel, to| {
        transpose(panel, patch, to, |j| &weight[(panel.first + j) * patch..], 1.0);
    });
    let family = Family { steps: Steps::new(shape.taps()), places, weights };
    run(&shape.frame(), x, &cut, &[family], shape.outputs, shape.positions())
}

/// gradient `[n, o, h', w']`, weight `[o, i, kh, kw]` → `[n, i, h, w]`.
pub(super) fn input_gradient(shape: &ConvShape, gradient: &[f32], weight: &[f32]) -> Vec<f32> {
    let [kernel_rows, kernel_columns] = shape.kernel;
    let area = kernel_rows * kernel_columns;
    let axes = [axis(shape, 0), axis(shape, 1)];
    let border = |a: usize| {
        let taps = || axes[a].iter().flat_map(|phase| phase.taps.iter().map(|&(_, shift)| shift));
        let before = taps().min().map_or(0, |least| (-least).max(0) as usize);
        let last =
            |phase: &Phase| phase.count as isize - 1 + phase.taps.iter().map(|t| t.1).max().unwrap_or(0);
        let after = axes[a].iter().map(last).max().unwrap_or(0) - (shape.output[a] as isize - 1);
        (before, after.max(0) as usize)
    };
    let frame = Frame { channels: shape.outputs, inner: shape.output, border: [border(0), border(1)] };
    let cut = panels(shape.channels);
    let mut families = Vec::new();
    for rows in &axes[0] {
        for columns in &axes[1] {
            let shift = |a: usize, shift: isize| (frame.border[a].0 as isize + shift) as usize;
            let (mut steps, mut kernel) = (Vec::new(), Vec::new());
            for &(y, dy) in &rows.taps {
                for &(x, dx) in &columns.taps {
                    kernel.push(y * kernel_columns + x);
                    steps.push(frame.at(0, shift(0, dy), shift(1, dx)));
                }
            }
            let taps = kernel.len();
            let mut all = Vec::with_capacity(shape.outputs * taps);
            for output in 0..shape.outputs {
                all.extend(steps.iter().map(|step| (frame.at(output, 0, 0) + step) as u32));
            }
            let mut places = Vec::with_capacity(rows.count * columns.count);
            for j in 0..rows.count {
                for i in 0..columns.count {
                    let to = (rows.first + j * shape.stride[0]) * shape.input[1]
                        + columns.first
                        + i * shape.stride[1];
                    places.push((frame.at(0, j, i) as u32, to as u32));
                }
            }
            let mut weights = Aligned::default();
            pack(&cut, shape.outputs * taps, &mut weights, |panel, to| {
                to.fill(0.0);
                let rows = to.chunks_exact_mut(panel.width);
                for (k, row) in rows.enumerate() {
                    let (output, tap) = (k / taps, kernel[k % taps]);
                    let from = &weight[(output * shape.channels + panel.first) * area + tap..];
                    for (to, from) in row[..panel.live].iter_mut().zip(from.iter().step_by(area)) {
                        *to = *from;
                    }
                }
            });
            families.push(Family { steps: Steps::new(all), places, weights });
        }
    }
    run(&frame, gradient, &cut, &families, shape.channels, shape.plane())
}

/// Input positions `first, first + stride, …` (`count` of them) of one axis, and the taps that reach
/// them: (kernel index, shift of the output position).
struct Phase {
    first: usize,
    count: usize,
    taps: Vec<(usize, isize)>,
}

fn axis(shape: &ConvShape, a: usize) -> Vec<Phase> {
    let (stride, size) = (shape.stride[a], shape.input[a]);
    let phases = 0..stride.min(size);
    phases
        .map(|first| {
            let taps = (0..shape.kernel[a]).filter_map(|k| {
                let shift = (first + shape.padding[a].0) as isize - (k * shape.dilation[a]) as isize;
                (shift % stride as isize == 0).then_some((k, shift / stride as isize))
            });
            Phase { first, count: (size - first).div_ceil(stride), taps: taps.collect() }
        })
        .collect()
}

/// Fills the panels of a weight matrix with `steps` rows, in parallel.
fn pack(cut: &[Panel], steps: usize, to: &mut Aligned, fill: impl Fn(&Panel, &mut [f32]) + Sync) {
    let parts: Vec<_> = parts_mut(cut, steps, to.reset(width(cut) * steps)).collect();
    parts.into_par_iter().for_each(|(panel, part)| fill(panel, part));
}

/// All families over all pictures: `[n, outputs, plane]`. Places that no family names are zero.
fn run(
    frame: &Frame,
    pictures: &[f32],
    cut: &[Panel],
    families: &[Family],
    outputs: usize,
    plane: usize,
) -> Vec<f32> {
    let (size, inner) = (frame.size(), frame.inner_size());
    let n = pictures.len() / inner.max(1);
    // So many at a time that every thread has some.
    let share = n.div_ceil(rayon::current_num_threads()).max(1);
    let chunk = (CHUNK / size).clamp(1, share).min(16);
    let expanded: Vec<Vec<(u32, u32)>> = families
        .iter()
        .map(|family| {
            let each = (0..chunk as u32).flat_map(|i| {
                family
                    .places
                    .iter()
                    .map(move |&(from, to)| (from + i * size as u32, to + i * (outputs * plane) as u32))
            });
            each.collect()
        })
        .collect();
    let arch = Arch::new();
    let some = |buffer: &mut Aligned, [result]: [&mut [f32]; 1], pictures: &[f32]| {
        let count = pictures.len() / inner;
        let source = buffer.reset(count * size);
        for (picture, to) in pictures.chunks_exact(inner).zip(source.chunks_exact_mut(size)) {
            frame.fill(picture, to);
        }
        for (family, places) in families.iter().zip(&expanded) {
            let places = &places[..count * family.places.len()];
            arch.dispatch(Gather { source: &*source, cut, family, places, plane, result: &mut *result });
        }
    };
    let each = pictures.par_chunks(chunk * inner);
    let [result] = filled_in(n * outputs * plane, chunk * outputs * plane, each, Aligned::default, some);
    result
}

struct Gather<'a> {
    source: &'a [f32],
    cut: &'a [Panel],
    family: &'a Family,
    places: &'a [(u32, u32)],
    plane: usize,
    result: &'a mut [f32],
}

impl WithSimd for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { source, cut, family, places, plane, result } = self;
        if family.steps.len() == 0 {
            return;
        }
        let mut weights = family.weights.as_slice();
        for panel in cut {
            let (part, rest) = weights.split_at(panel.width * family.steps.len());
            weights = rest;
            for_panel!(
                S::F32_LANES,
                panel.vectors,
                gather::<S, R, V>(simd, source, &family.steps, places, part, panel, plane, result)
            );
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "one call site")]
fn gather<S: Simd, const R: usize, const V: usize>(
    simd: S,
    source: &[f32],
    steps: &Steps,
    places: &[(u32, u32)],
    weights: &[f32],
    panel: &Panel,
    plane: usize,
    result: &mut [f32],
) {
    let (vectors, _) = S::as_simd_f32s(weights);
    let (vectors, _) = vectors.as_chunks::<V>();
    let width = V * S::F32_LANES;
    for places in places.chunks(R) {
        let last = places.len() - 1;
        // Missing rows repeat the last one and are not stored.
        let rows: [usize; R] = std::array::from_fn(|r| places[r.min(last)].0 as usize);
        let sums = tile::<S, R, V>(simd, source, &rows, steps, vectors);
        let flat: &[f32] = pulp::bytemuck::cast_slice(sums.as_flattened());
        let first = places[0].1 as usize;
        if last == R - 1 && places[last].1 as usize == first + R - 1 {
            for j in 0..panel.live {
                let line: [f32; R] = std::array::from_fn(|r| flat[r * width + j]);
                result[(panel.first + j) * plane + first..][..R].copy_from_slice(&line);
            }
        } else {
            for (row, place) in flat.chunks_exact(width).zip(places) {
                let to = &mut result[panel.first * plane + place.1 as usize..];
                for (value, to) in row[..panel.live].iter().zip(to.iter_mut().step_by(plane)) {
                    *to = *value;
                }
            }
        }
    }
}
