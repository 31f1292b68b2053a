//! Weight gradients, and sums of squares of those of single units, that are formed in registers and never written.
//! o outputs, i channels, c columns.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::job::{Block, Job, blocks, transform_cotangents, transform_pictures};
use super::products::product;
use super::tiles::Grid;
use super::transform::{self, POINTS};
use crate::flex::panel::{Aligned, Panel, back, for_panel, panels, parts, parts_mut, width};
use crate::flex::product::Cotangents;
use crate::flex::shape::ConvShape;
use crate::flex::tile::Steps;

/// Scalars of transformed pictures and cotangents that are worked on together. What is summed in which order follows
/// from it, and never from the number of threads.
const TOGETHER: usize = if cfg!(test) { 8 << 10 } else { 2 << 20 };
/// Channels whose products stay in a second-level cache: a multiple of every tile's rows.
const INNER: usize = 48;
/// Tasks to aim for: enough for a few threads to share evenly.
const TASKS: usize = 16;

/// Σ over samples and positions of cotangent · patch: `[o, i · 9]`, from x `[n, i, h, w]` and gradient `[n, o, h', w']`.
pub(in crate::flex) fn weight_gradient(shape: &ConvShape, x: &[f32], gradient: &[f32]) -> Vec<f32> {
    let all = Cotangents { values: gradient, columns: 1, group: 1, factors: None };
    sums(shape, x, &all, Kind::Sum)
}

/// Σ over units and columns of the squares of the gradients of single units: `[o, i · 9]`.
pub(in crate::flex) fn squares(shape: &ConvShape, x: &[f32], cotangents: &Cotangents) -> Vec<f32> {
    sums(shape, x, cotangents, Kind::Squares)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Everything in one sum, of transformed weights to the end: `[point, channel, width]`.
    Sum,
    /// Each unit and column by itself, squared: `[channel, 9, width]`.
    Squares,
}

impl Kind {
    fn entries(self) -> usize {
        match self {
            Self::Sum => POINTS,
            Self::Squares => 9,
        }
    }
}

/// How many units and how many of their columns go together.
fn together(kind: Kind, n: usize, all: &Cotangents, [picture, column]: [usize; 2]) -> (usize, usize) {
    if kind == Kind::Sum {
        return ((TOGETHER / (picture + column)).clamp(1, n.max(1)), 1);
    }
    let (picture, column) = (picture * all.group, column * all.group);
    let most = (TOGETHER.saturating_sub(picture) / column).clamp(1, all.columns);
    // Parts of equal size rather than a full one and a remainder.
    let columns = all.columns.div_ceil(all.columns.div_ceil(most));
    ((TOGETHER / (picture + columns * column)).max(1) * all.group, columns)
}

fn sums(shape: &ConvShape, x: &[f32], all: &Cotangents, kind: Kind) -> Vec<f32> {
    let grid = Grid::of(shape);
    let (size, channels) = (grid.size(), shape.channels);
    let n = x.len() / size.max(1);
    let (inputs, cut) = (panels(channels), panels(shape.outputs));
    let (stride, width) = (width(&inputs), width(&cut));
    let points = POINTS * grid.len();
    let (samples, columns) = together(kind, n, all, [points * stride, points * width]);
    let mut sums = vec![0.0; width * channels * kind.entries()];
    let (mut source, mut cotangents) = (Aligned::default(), Aligned::default());
    for first in (0..n).step_by(samples) {
        let samples = samples.min(n - first);
        let group = if kind == Kind::Sum { samples } else { all.group };
        let blocks = blocks(group * grid.tiles[0], grid.tiles[1]);
        let steps = |block: &Block| Steps::new((0..block.tiles).map(|t| (t * stride) as u32).collect());
        let steps: Vec<_> = blocks.iter().map(steps).collect();
        let source = source.reset(samples * points * stride);
        let mut job = Job {
            grid: &grid,
            inputs: &inputs,
            outputs: shape.outputs,
            stride,
            group,
            first,
            columns: 0..0,
            blocks: &blocks,
            steps: &steps,
        };
        transform_pictures(&job, &x[first * size..][..samples * size], source);
        for column in (0..all.columns).step_by(columns) {
            job.columns = column..(column + columns).min(all.columns);
            let c = job.columns.len();
            let cotangents = cotangents.reset(samples * c * points * width);
            transform_cotangents(&job, all, &cut, cotangents);
            let mut works = Vec::new();
            let sums = parts_mut(&cut, channels * kind.entries(), &mut sums);
            let cotangents = parts(&cut, samples * c * points, cotangents);
            for ((panel, mut mine), (_, cotangents)) in sums.zip(cotangents) {
                for channels in tasks(channels, panel, cut.len()) {
                    let (sums, others) = mine.split_at_mut(channels.len() * kind.entries() * panel.width);
                    mine = others;
                    works.push(Work { job: &job, kind, source: &*source, cotangents, panel, channels, sums });
                }
            }
            works.into_par_iter().for_each_init(Aligned::default, |products, work| {
                Arch::new().dispatch(Dispatch { work, products });
            });
        }
    }
    finish(shape, kind, &cut, sums)
}

/// The channels of the tasks of one panel, so that tiles are full but for the last one's.
fn tasks(channels: usize, panel: &Panel, panels: usize) -> Vec<Range<usize>> {
    // 6 or 12 rows a tile, or 8 or 16.
    let rows = if panel.vectors < 4 && panel.width / panel.vectors >= 16 { 16 } else { 12 };
    let each = rows * channels.div_ceil(rows).div_ceil(TASKS.div_ceil(panels));
    (0..channels).step_by(each).map(|first| first..(first + each).min(channels)).collect()
}

/// One task: some channels for one panel of outputs.
struct Work<'a> {
    job: &'a Job<'a>,
    kind: Kind,
    source: &'a [f32],
    cotangents: &'a [f32],
    panel: &'a Panel,
    channels: Range<usize>,
    /// Added to.
    sums: &'a mut [f32],
}

struct Dispatch<'a> {
    work: Work<'a>,
    products: &'a mut Aligned,
}

impl WithSimd for Dispatch<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { work, products } = self;
        match work.kind {
            Kind::Sum => for_panel!(S::F32_LANES, work.panel.vectors, add::<S, R, V>(simd, work)),
            Kind::Squares => {
                for_panel!(S::F32_LANES, work.panel.vectors, square::<S, R, V>(simd, work, products));
            }
        }
    }
}

/// Adds the products of all blocks of a unit and column for some channels to `to`, `[point, channel, width]`.
#[inline(always)]
fn unit<S: Simd, const R: usize, const V: usize>(
    simd: S,
    job: &Job,
    [source, cotangents]: [&[f32]; 2],
    channels: &Range<usize>,
    width: usize,
    to: &mut [f32],
    mut fresh: bool,
) {
    for (block, steps) in job.blocks.iter().zip(job.steps) {
        let source = &source[POINTS * block.before * job.stride..][..POINTS * block.tiles * job.stride];
        let cotangents = &cotangents[POINTS * block.before * width..][..POINTS * block.tiles * width];
        let points = source.chunks_exact(block.tiles * job.stride);
        let points = points.zip(cotangents.chunks_exact(block.tiles * width));
        for ((source, panel), to) in points.zip(to.chunks_exact_mut(channels.len() * width)) {
            let rows = (channels.len(), 1);
            product::<S, R, V>(simd, &source[channels.start..], rows, steps, panel, to, fresh);
        }
        fresh = false;
    }
}

#[inline(always)]
fn add<S: Simd, const R: usize, const V: usize>(simd: S, work: Work) {
    let Work { job, source, cotangents, panel, channels, sums, .. } = work;
    unit::<S, R, V>(simd, job, [source, cotangents], &channels, panel.width, sums, false);
}

#[inline(always)]
fn square<S: Simd, const R: usize, const V: usize>(simd: S, work: Work, products: &mut Aligned) {
    let Work { job, source, cotangents, panel, channels, sums, .. } = work;
    let width = panel.width;
    let sources = source.chunks_exact(POINTS * job.tiles() * job.stride);
    let cotangents = cotangents.chunks_exact(job.columns.len() * POINTS * job.tiles() * width);
    let units = sources.zip(cotangents);
    for first in channels.clone().step_by(INNER) {
        let inner = first..(first + INNER).min(channels.end);
        let sums = &mut sums[(first - channels.start) * 9 * width..][..inner.len() * 9 * width];
        let (sums, _) = S::as_mut_simd_f32s(sums);
        for (source, cotangents) in units.clone() {
            for cotangents in cotangents.chunks_exact(POINTS * job.tiles() * width) {
                let products = products.reset(POINTS * inner.len() * width);
                unit::<S, R, V>(simd, job, [source, cotangents], &inner, width, products, true);
                let (products, _) = S::as_simd_f32s(products);
                let points = inner.len() * V;
                for (at, sums) in sums.chunks_exact_mut(9 * V).enumerate() {
                    for v in 0..V {
                        let g = weights(simd, products, points, at * V + v);
                        for y in 0..3 {
                            for x in 0..3 {
                                let sum = &mut sums[(3 * y + x) * V + v];
                                *sum = simd.mul_add_f32s(g[y][x], g[y][x], *sum);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Gᵀ u G of the entries at `at` of each point.
#[inline(always)]
fn weights<S: Simd>(simd: S, products: &[S::f32s], points: usize, at: usize) -> [[S::f32s; 3]; 3] {
    let mut u = [[simd.splat_f32s(0.0); 4]; 4];
    for y in 0..4 {
        for x in 0..4 {
            u[y][x] = products[(4 * y + x) * points + at];
        }
    }
    transform::kernel_back(simd, u)
}

/// Brings sums into the weight's order `[o, i · 9]`.
fn finish(shape: &ConvShape, kind: Kind, cut: &[Panel], sums: Vec<f32>) -> Vec<f32> {
    let (channels, patch) = (shape.channels, shape.patch());
    let mut result = vec![0.0; shape.outputs * patch];
    let mut to_rest = result.as_mut_slice();
    let mut pieces = Vec::new();
    for (panel, sums) in parts(cut, channels * kind.entries(), &sums) {
        let (to, others) = to_rest.split_at_mut(panel.live * patch);
        to_rest = others;
        pieces.push((panel, sums, to));
    }
    pieces.into_par_iter().for_each_init(Aligned::default, |plain, (panel, sums, to)| match kind {
        Kind::Squares => back(panel, patch, sums, to, [patch, 0]),
        Kind::Sum => {
            let plain = plain.reset(patch * panel.width);
            let mut offset = 0;
            for channels in tasks(channels, panel, cut.len()) {
                let len = channels.len() * POINTS * panel.width;
                let to = &mut plain[channels.start * 9 * panel.width..][..channels.len() * 9 * panel.width];
                Arch::new().dispatch(Untransform {
                    sums: &sums[offset..][..len],
                    vectors: panel.vectors,
                    to,
                });
                offset += len;
            }
            back(panel, patch, plain, to, [patch, 0]);
        }
    });
    result
}

/// `[point, channel, width]` → `[channel, 9, width]`.
struct Untransform<'a> {
    sums: &'a [f32],
    vectors: usize,
    to: &'a mut [f32],
}

impl WithSimd for Untransform<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { sums, vectors, to } = self;
        let (sums, _) = S::as_simd_f32s(sums);
        let (to, _) = S::as_mut_simd_f32s(to);
        let points = sums.len() / POINTS;
        for (channel, to) in to.chunks_exact_mut(9 * vectors).enumerate() {
            for v in 0..vectors {
                let g = weights(simd, sums, points, channel * vectors + v);
                for y in 0..3 {
                    for x in 0..3 {
                        to[(3 * y + x) * vectors + v] = g[y][x];
                    }
                }
            }
        }
    }
}
