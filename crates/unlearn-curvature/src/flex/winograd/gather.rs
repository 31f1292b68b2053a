//! Convolutions and their input gradients.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::products::product;
use super::tiles::{self, Grid, Piece, pieces};
use super::transform::{self, POINTS};
use crate::flex::fresh::filled_in;
use crate::flex::panel::{Aligned, Panel, back, for_panel, panels, parts, parts_mut, transpose, width};
use crate::flex::shape::ConvShape;
use crate::flex::tile::Steps;

/// Tiles that are worked on together: a multiple of every tile's rows, of which input, weights and products of one
/// point fit a second-level cache.
const BLOCK: usize = 48;

/// x `[n, i, h, w]`, weight `[o, i, 3, 3]` → `[n, o, h', w']`.
pub(in crate::flex) fn forward(shape: &ConvShape, x: &[f32], weight: &[f32]) -> Vec<f32> {
    let grid = Grid::of(shape);
    let patch = shape.patch();
    let kernels = Kernels::new(shape.outputs, shape.channels, |panel, to| {
        transpose(panel, patch, to, |j| &weight[(panel.first + j) * patch..], 1.0);
    });
    run(&grid, x, &kernels, shape.outputs)
}

/// gradient `[n, o, h', w']`, weight `[o, i, 3, 3]` → `[n, i, h, w]`: the convolution with the kernel turned round.
pub(in crate::flex) fn input_gradient(shape: &ConvShape, gradient: &[f32], weight: &[f32]) -> Vec<f32> {
    let grid = Grid {
        channels: shape.outputs,
        input: shape.output,
        before: [2 - shape.padding[0].0, 2 - shape.padding[1].0],
        tiles: shape.input.map(|side| side / 2),
    };
    let channels = shape.channels;
    let kernels = Kernels::new(channels, shape.outputs, |panel, to| {
        to.fill(0.0);
        for (k, row) in to.chunks_exact_mut(panel.width).enumerate() {
            let from = &weight[(k / 9 * channels + panel.first) * 9 + 8 - k % 9..];
            for (to, from) in row[..panel.live].iter_mut().zip(from.iter().step_by(9)) {
                *to = *from;
            }
        }
    });
    run(&grid, gradient, &kernels, channels)
}

/// Transformed weights.
struct Kernels {
    cut: Vec<Panel>,
    /// Panel after panel `[point, channel, width]`.
    values: Aligned,
}

impl Kernels {
    /// `fill` writes the weights of a panel as `[channel, 9, width]`.
    fn new(outputs: usize, channels: usize, fill: impl Fn(&Panel, &mut [f32]) + Sync) -> Self {
        let cut = panels(outputs);
        let mut values = Aligned::default();
        let rows = channels * POINTS;
        let parts: Vec<_> = parts_mut(&cut, rows, values.reset(width(&cut) * rows)).collect();
        parts.into_par_iter().for_each_init(Aligned::default, |plain, (panel, to)| {
            let plain = plain.reset(panel.width * channels * 9);
            fill(panel, plain);
            Arch::new().dispatch(Transform { plain, panel, channels, to });
        });
        Self { cut, values }
    }
}

struct Transform<'a> {
    plain: &'a [f32],
    panel: &'a Panel,
    channels: usize,
    to: &'a mut [f32],
}

impl WithSimd for Transform<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { plain, panel, channels, to } = self;
        let (plain, _) = S::as_simd_f32s(plain);
        let (to, _) = S::as_mut_simd_f32s(to);
        let vectors = panel.vectors;
        for channel in 0..channels {
            for v in 0..vectors {
                let mut g = [[simd.splat_f32s(0.0); 3]; 3];
                for y in 0..3 {
                    for x in 0..3 {
                        g[y][x] = plain[(channel * 9 + 3 * y + x) * vectors + v];
                    }
                }
                let u = transform::kernel(simd, g);
                for y in 0..4 {
                    for x in 0..4 {
                        to[((4 * y + x) * channels + channel) * vectors + v] = u[y][x];
                    }
                }
            }
        }
    }
}

/// What one thread works in.
#[derive(Default)]
struct Room {
    /// Lines of a picture, `[position, width]`.
    lines: Aligned,
    /// Transformed inputs, `[point, tile, channel]`.
    tiles: Aligned,
    /// Their products with a panel of weights, `[point, tile, width]`.
    products: Aligned,
    /// Outputs, `[position, width]`.
    outputs: Aligned,
}

fn run(grid: &Grid, pictures: &[f32], kernels: &Kernels, outputs: usize) -> Vec<f32> {
    let (size, plane) = (grid.size(), 4 * grid.len());
    let n = pictures.len() / size.max(1);
    // As many tasks for every thread; how pictures are put together changes no sum.
    let tasks = n.div_ceil((BLOCK / grid.len()).max(1)).next_multiple_of(rayon::current_num_threads());
    let chunk = n.div_ceil(tasks.max(1)).max(1);
    let inputs = panels(grid.channels);
    let stride = width(&inputs);
    let steps = Steps::new((0..grid.channels as u32).collect());
    let some = |room: &mut Room, [result]: [&mut [f32]; 1], pictures: &[f32]| {
        let count = pictures.len() / size;
        let (all, together) = (count * grid.tiles[0], (BLOCK / grid.tiles[1]).max(1));
        for first in (0..all).step_by(together) {
            let pieces = pieces(first..(first + together).min(all), grid.tiles[0]);
            let tiles: usize = pieces.iter().map(|piece| piece.rows.len() * grid.tiles[1]).sum();
            let points = tiles * stride;
            let source = room.tiles.reset(POINTS * points);
            let mut before = 0;
            for piece in &pieces {
                let picture = &pictures[piece.picture * size..][..size];
                let at = [points, before, stride];
                tiles::gather(grid, &inputs, picture, piece.rows.clone(), &mut room.lines, source, at);
                before += piece.rows.len() * grid.tiles[1];
            }
            let values = kernels.values.as_slice();
            for (panel, kernels) in parts(&kernels.cut, grid.channels * POINTS, values) {
                let made = room.outputs.reset(4 * tiles * panel.width);
                Arch::new().dispatch(Convolve {
                    source: &*source,
                    steps: &steps,
                    kernels,
                    panel,
                    products: room.products.reset(POINTS * tiles * panel.width),
                    outputs: &mut *made,
                    columns: grid.tiles[1],
                    stride,
                });
                let mut made = &*made;
                for Piece { picture, rows } in &pieces {
                    let (start, positions) = (4 * rows.start * grid.tiles[1], 4 * rows.len() * grid.tiles[1]);
                    let (mine, others) = made.split_at(positions * panel.width);
                    made = others;
                    let to = &mut result[(picture * outputs + panel.first) * plane..];
                    back(panel, positions, mine, to, [plane, start]);
                }
            }
        }
    };
    let each = pictures.par_chunks(chunk * size);
    let [result] = filled_in(n * outputs * plane, chunk * outputs * plane, each, Room::default, some);
    result
}

struct Convolve<'a> {
    source: &'a [f32],
    steps: &'a Steps,
    kernels: &'a [f32],
    panel: &'a Panel,
    products: &'a mut [f32],
    outputs: &'a mut [f32],
    /// Tiles in a row.
    columns: usize,
    /// Between the tiles of the source.
    stride: usize,
}

impl WithSimd for Convolve<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for_panel!(S::F32_LANES, self.panel.vectors, convolve::<S, R, V>(simd, self));
    }
}

#[inline(always)]
fn convolve<S: Simd, const R: usize, const V: usize>(simd: S, work: Convolve) {
    let Convolve { source, steps, kernels, panel, products, outputs, columns, stride } = work;
    let tiles = products.len() / (POINTS * panel.width);
    let kernels = kernels.chunks_exact(steps.len() * panel.width);
    let points = source.chunks_exact(tiles * stride).zip(kernels);
    for ((source, kernels), to) in points.zip(products.chunks_exact_mut(tiles * panel.width)) {
        product::<S, R, V>(simd, source, (tiles, stride), steps, kernels, to, true);
    }
    let (products, _) = S::as_simd_f32s(products);
    let (products, _) = products.as_chunks::<V>();
    let (outputs, _) = S::as_mut_simd_f32s(outputs);
    let (outputs, _) = outputs.as_chunks_mut::<V>();
    for tile in 0..tiles {
        let (row, column) = (tile / columns, tile % columns);
        for v in 0..V {
            let mut m = [[simd.splat_f32s(0.0); 4]; 4];
            for y in 0..4 {
                for x in 0..4 {
                    m[y][x] = products[(4 * y + x) * tiles + tile][v];
                }
            }
            let made = transform::output(simd, m);
            for y in 0..2 {
                for x in 0..2 {
                    outputs[(2 * row + y) * 2 * columns + 2 * column + x][v] = made[y][x];
                }
            }
        }
    }
}
