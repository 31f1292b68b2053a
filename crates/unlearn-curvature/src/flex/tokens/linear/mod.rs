//! Linear layers over rows, with their bias, and back. Of a layer with i inputs and o outputs:
//!
//! ```text
//! y  = x W + b        x [n, i], W [i, o], b [o]
//! x' = g Wᵀ,  W' = xᵀ g                          g [n, o]
//! ```
//!
//! The left side is read where it lies. Burn's product packs both sides, and for each sample of a batch again that it does
//! not fold into one (65 tokens of width 128, say).

pub(in crate::flex) mod extension;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::product::{Onto, Right, Rows, To, panel_product, product, room, straight, turned};
use crate::flex::fresh::filled;
use crate::flex::panel::{Aligned, Panel, panels, parts, parts_mut};
use crate::flex::tile::Steps;

/// Rows of a result that a thread takes at once: whole tiles of every height.
const TOGETHER: usize = 48;
/// Rows of W' that a thread takes at once.
const INPUTS: usize = 24;
/// Scalars of a weight up to which one thread packs it, rather than wake another for it (no finely measured limit).
const ALONE: usize = 1 << 16;
/// Samples that are summed before the sum goes to memory. What is summed in which order follows from it, and never from
/// the number of threads.
const STEPS: usize = 256;

/// y; `bias` is `[o]` or empty.
pub(super) fn forward(x: &[f32], weight: &[f32], bias: &[f32], [inputs, outputs]: [usize; 2]) -> Vec<f32> {
    let cut = panels(outputs);
    let mut packed = Aligned::default();
    let right = pack(&cut, inputs, &mut packed, |panel, to| straight(panel, (weight, outputs), to));
    let onto = if bias.is_empty() { Onto::Nothing } else { Onto::Row(bias) };
    times(x, inputs, &right, onto, outputs)
}

/// x'.
pub(super) fn input_gradient(g: &[f32], weight: &[f32], [inputs, outputs]: [usize; 2]) -> Vec<f32> {
    let cut = panels(inputs);
    let mut packed = Aligned::default();
    let turn = |panel: &Panel, to: &mut [f32]| turned(panel, (weight, outputs), outputs, 1.0, to);
    let right = pack(&cut, outputs, &mut packed, turn);
    times(g, outputs, &right, Onto::Nothing, inputs)
}

fn pack<'a>(
    cut: &'a [Panel],
    steps: usize,
    packed: &'a mut Aligned,
    one: impl Fn(&Panel, &mut [f32]) + Sync,
) -> Right<'a> {
    let to = parts_mut(cut, steps, packed.reset(room(cut, steps)));
    if room(cut, steps) <= ALONE {
        to.for_each(|(panel, to)| one(panel, to));
    } else {
        to.collect::<Vec<_>>().into_par_iter().for_each(|(panel, to)| one(panel, to));
    }
    Right { cut, packed: packed.as_slice() }
}

/// left `[n, columns]` times right `[columns, width]`.
fn times(left: &[f32], columns: usize, right: &Right, onto: Onto, width: usize) -> Vec<f32> {
    let (arch, steps) = (Arch::new(), Steps::new((0..columns as u32).collect()));
    let pieces = left.par_chunks(TOGETHER * columns);
    filled(left.len() / columns * width, TOGETHER * width, pieces, |y, left| {
        let left = Rows { source: left, step: columns, count: left.len() / columns };
        arch.dispatch(Times { left, steps: &steps, right, to: To { rows: y, step: width, onto } });
    })
}

struct Times<'a> {
    left: Rows<'a>,
    steps: &'a Steps,
    right: &'a Right<'a>,
    to: To<'a>,
}

impl WithSimd for Times<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        product(simd, self.left, self.steps, self.right, self.to);
    }
}

/// W', `[i, o]`.
pub(super) fn weight_gradient(x: &[f32], g: &[f32], [inputs, outputs]: [usize; 2]) -> Vec<f32> {
    let (arch, cut, n) = (Arch::new(), panels(outputs), x.len() / inputs);
    let mut packed = Aligned::default();
    let to = packed.reset(room(&cut, n));
    let blocks: Vec<_> = parts_mut(&cut, n, to)
        .flat_map(|(panel, to)| {
            to.chunks_mut(STEPS * panel.width).enumerate().map(move |(block, to)| (panel, block, to))
        })
        .collect();
    blocks.into_par_iter().for_each(|(panel, block, to)| {
        straight(panel, (&g[block * STEPS * outputs..], outputs), to);
    });
    let right = Right { cut: &cut, packed: packed.as_slice() };
    let steps = |count: usize| Steps::new((0..count).map(|k| (k * inputs) as u32).collect());
    let work = Sums { x, inputs, n, right: &right, whole: steps(STEPS.min(n)), last: steps(n % STEPS) };
    let mut sums = vec![0.0; inputs * outputs];
    sums.par_chunks_mut(INPUTS * outputs).enumerate().for_each(|(part, rows)| {
        let to = To { rows, step: outputs, onto: Onto::Itself };
        arch.dispatch(SomeInputs { work: &work, first: part * INPUTS, to });
    });
    sums
}

/// The sums over samples that W' is.
struct Sums<'a> {
    x: &'a [f32],
    inputs: usize,
    n: usize,
    right: &'a Right<'a>,
    /// Samples of a block, and of the last one.
    whole: Steps,
    last: Steps,
}

/// Rows of W' from `first` on.
struct SomeInputs<'a> {
    work: &'a Sums<'a>,
    first: usize,
    to: To<'a>,
}

impl WithSimd for SomeInputs<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { work, first, mut to } = self;
        let Sums { x, inputs, n, right, whole, last } = work;
        let count = to.rows.len() / to.step;
        for (panel, part) in parts(right.cut, *n, right.packed) {
            for (block, part) in part.chunks(STEPS * panel.width).enumerate() {
                let steps = if part.len() == whole.len() * panel.width { whole } else { last };
                let left = Rows { source: &x[block * STEPS * inputs + first..], step: 1, count };
                panel_product(simd, left, steps, part, panel, &mut to);
            }
        }
    }
}
