//! Convolutions to few outputs, as branches of adapters have.
//!
//! Elsewhere vectors hold outputs; eight of them would leave half of a vector of 16 empty, and with one vector a step every
//! product has a scalar of its own to load. Here vectors hold positions of a line, straight from the framed picture:
//!
//! ```text
//! y[o][t] = Σ_i  w[o][i] · source[corner[t] + steps[i]]        rows: outputs, vectors: positions t, steps: taps
//! ```
//!
//! Every entry is the same chain of fused multiply-adds as elsewhere.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::fresh::filled_in;
use super::panel::{Aligned, lanes};
use super::shape::ConvShape;

/// Outputs that there are sums for.
const MOST: usize = 8;

/// Whether a convolution is for this: its outputs would fill half of a vector at most, and its positions fall into vectors
/// that lie side by side in the framed picture.
pub(super) fn suits(shape: &ConvShape) -> bool {
    let lanes = lanes();
    let whole = |line: &[u32]| line.windows(2).all(|pair| pair[1] == pair[0] + 1);
    (1..=MOST.min(lanes / 2)).contains(&shape.outputs)
        && shape.positions() > 0
        && shape.positions().is_multiple_of(lanes)
        && shape.corners().chunks_exact(lanes).all(whole)
}

/// x `[n, i, h, w]`, weight `[o, i, kh, kw]` → `[n, o, h', w']`.
pub(super) fn forward(shape: &ConvShape, x: &[f32], weight: &[f32]) -> Vec<f32> {
    let (frame, steps, patch) = (shape.frame(), shape.taps(), shape.patch());
    let starts: Vec<u32> = shape.corners().into_iter().step_by(lanes()).collect();
    // Of each tap the outputs' weights, zeros for missing ones.
    let rows = if shape.outputs > MOST / 2 { MOST } else { MOST / 2 };
    let mut weights = vec![0.0; patch * rows];
    for (output, from) in weight.chunks_exact(patch).enumerate() {
        weights[output..].iter_mut().step_by(rows).zip(from).for_each(|(to, &from)| *to = from);
    }
    let (inner, output, arch) = (frame.inner_size(), shape.output_size(), Arch::new());
    let one = |buffer: &mut Aligned, [to]: [&mut [f32]; 1], picture: &[f32]| {
        let source = if frame.size() == inner {
            picture
        } else {
            let framed = buffer.reset(frame.size());
            frame.fill(picture, framed);
            framed
        };
        arch.dispatch(Lines { source, starts: &starts, steps: &steps, weights: &weights, rows, to });
    };
    let pictures = x.par_chunks_exact(inner);
    let [y] = filled_in(pictures.len() * output, output, pictures, Aligned::default, one);
    y
}

/// One picture.
struct Lines<'a> {
    source: &'a [f32],
    /// Where each vector of positions begins.
    starts: &'a [u32],
    steps: &'a [u32],
    /// `[step, rows]`
    weights: &'a [f32],
    rows: usize,
    /// `[output, position]`
    to: &'a mut [f32],
}

impl WithSimd for Lines<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // 16 sums with 16 lanes, 8 with fewer: half of the registers.
        match (S::F32_LANES >= 16, self.rows == MOST) {
            (true, true) => fill::<S, MOST, 2>(simd, self),
            (true, false) => fill::<S, { MOST / 2 }, 4>(simd, self),
            (false, true) => fill::<S, MOST, 1>(simd, self),
            (false, false) => fill::<S, { MOST / 2 }, 2>(simd, self),
        }
    }
}

#[inline(always)]
fn fill<S: Simd, const R: usize, const V: usize>(simd: S, work: Lines) {
    let Lines { source, starts, steps, weights, to, .. } = work;
    let (weights, _) = weights.as_chunks::<R>();
    let positions = starts.len() * S::F32_LANES;
    for (block, mine) in starts.chunks(V).enumerate() {
        // Missing vectors repeat the last one and are not stored.
        let at: [usize; V] = std::array::from_fn(|v| mine[v.min(mine.len() - 1)] as usize);
        let sums = sums::<S, R, V>(simd, source, &at, steps, weights);
        for (to, sums) in to.chunks_exact_mut(positions).zip(&sums) {
            let to = &mut to[block * V * S::F32_LANES..][..mine.len() * S::F32_LANES];
            let (to, _) = S::as_mut_simd_f32s(to);
            to.copy_from_slice(&sums[..mine.len()]);
        }
    }
}

#[inline(always)]
fn sums<S: Simd, const R: usize, const V: usize>(
    simd: S,
    source: &[f32],
    at: &[usize; V],
    steps: &[u32],
    weights: &[[f32; R]],
) -> [[S::f32s; V]; R] {
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    for (&step, weights) in steps.iter().zip(weights) {
        let from = &source[step as usize..];
        let mut vectors = [simd.splat_f32s(0.0); V];
        for (vector, &at) in vectors.iter_mut().zip(at) {
            let (lines, _) = S::as_simd_f32s(&from[at..][..S::F32_LANES]);
            *vector = lines[0];
        }
        for (sums, &weight) in sums.iter_mut().zip(weights) {
            let weight = simd.splat_f32s(weight);
            for (sum, &vector) in sums.iter_mut().zip(&vectors) {
                *sum = simd.mul_add_f32s(weight, vector, *sum);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use burn::tensor::ops::ConvOptions;

    use super::*;
    use crate::flex::gather;

    #[test]
    fn bits_are_those_of_the_other_way() {
        let all = [(3, 2, [6, 32], [3, 3]), (5, 8, [4, 16], [1, 1]), (2, 1, [3, 48], [3, 5])];
        for (channels, outputs, [height, width], kernel) in all {
            let padding = kernel.map(|side| side / 2);
            let options = ConvOptions::new([1, 1], padding, [1, 1], 1);
            let weight = [outputs, channels, kernel[0], kernel[1]];
            let shape = ConvShape::new([2, channels, height, width], weight, &options).unwrap();
            let values = |n: usize, by: f32| (0..n).map(|i| (i as f32 * by).sin()).collect::<Vec<_>>();
            let x = values(2 * channels * height * width, 1.7);
            let weight = values(outputs * shape.patch(), 0.9);
            let lanes = lanes();
            assert_eq!(suits(&shape), outputs <= lanes / 2, "{shape:?} with {lanes} lanes");
            assert_eq!(forward(&shape, &x, &weight), gather::forward(&shape, &x, &weight), "{shape:?}");
        }
    }
}
