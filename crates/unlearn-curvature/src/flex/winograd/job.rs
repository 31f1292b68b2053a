//! Pictures and cotangents of some units, transformed and cut into blocks of tiles.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::tiles::{self, Grid, Piece, pieces};
use super::transform::{self, POINTS};
use crate::flex::panel::{Aligned, Panel, parts_mut, transpose, width};
use crate::flex::product::Cotangents;
use crate::flex::tile::Steps;

/// Tiles of one product: a panel's part for one point fits a first-level cache.
const BLOCK: usize = 64;

/// Rows of tiles that make one product, and where their transforms begin among those of a unit, in tiles.
pub(super) struct Block {
    pub(super) rows: Range<usize>,
    pub(super) tiles: usize,
    pub(super) before: usize,
}

/// What is worked on together.
pub(super) struct Job<'a> {
    pub(super) grid: &'a Grid,
    pub(super) inputs: &'a [Panel],
    pub(super) outputs: usize,
    /// Scalars between the tiles of a transformed picture.
    pub(super) stride: usize,
    /// Pictures of a unit.
    pub(super) group: usize,
    /// Number of the first picture.
    pub(super) first: usize,
    /// Columns of cotangents.
    pub(super) columns: Range<usize>,
    pub(super) blocks: &'a [Block],
    pub(super) steps: &'a [Steps],
}

impl Job<'_> {
    /// Tiles of a unit.
    pub(super) fn tiles(&self) -> usize {
        self.group * self.grid.len()
    }

    /// What has `apart` scalars a tile and point, cut into the blocks of unit after unit.
    fn cut<'b>(&self, mut all: &'b mut [f32], apart: usize) -> Vec<(usize, &Block, &'b mut [f32])> {
        let mut parts = Vec::new();
        for unit in 0.. {
            for block in self.blocks {
                if all.is_empty() {
                    return parts;
                }
                let (mine, rest) = all.split_at_mut(POINTS * block.tiles * apart);
                all = rest;
                parts.push((unit, block, mine));
            }
        }
        parts
    }
}

/// Blocks of the rows of a unit.
pub(super) fn blocks(rows: usize, columns: usize) -> Vec<Block> {
    let together = (BLOCK / columns).max(1);
    let blocks = (0..rows).step_by(together).map(|first| {
        let rows = first..(first + together).min(rows);
        Block { tiles: rows.len() * columns, before: first * columns, rows }
    });
    blocks.collect()
}

/// Pictures of the job: `[unit][block][point, tile, channel]`.
pub(super) fn transform_pictures(job: &Job, pictures: &[f32], to: &mut [f32]) {
    let (grid, size) = (job.grid, job.group * job.grid.size());
    let parts = job.cut(to, job.stride);
    parts.into_par_iter().for_each_init(Aligned::default, |lines, (unit, block, to)| {
        let unit = &pictures[unit * size..][..size];
        let mut before = 0;
        for Piece { picture, rows } in pieces(block.rows.clone(), grid.tiles[0]) {
            let picture = &unit[picture * grid.size()..][..grid.size()];
            let tiles = rows.len() * grid.tiles[1];
            let at = [block.tiles * job.stride, before, job.stride];
            tiles::gather(grid, job.inputs, picture, rows, lines, to, at);
            before += tiles;
        }
    });
}

/// Cotangents of its columns: `[panel][unit, column][block][point, tile, width]`.
pub(super) fn transform_cotangents(job: &Job, all: &Cotangents, cut: &[Panel], to: &mut [f32]) {
    let (c, across, positions) = (job.columns.len(), job.grid.tiles[1], 4 * job.grid.len());
    let rows = to.len() / width(cut);
    let mut blocks = Vec::new();
    for (panel, mine) in parts_mut(cut, rows, to) {
        let pieces = job.cut(mine, panel.width).into_iter();
        blocks.extend(
            pieces.map(|(piece, block, to)| (panel, piece / c, job.columns.start + piece % c, block, to)),
        );
    }
    blocks.into_par_iter().for_each_init(Aligned::default, |lines, (panel, unit, column, block, to)| {
        let factor = all.factors.map_or(1.0, |factors| factors[job.first / job.group + unit]);
        let lines = lines.reset(4 * block.tiles * panel.width);
        let mut rest = &mut *lines;
        for Piece { picture, rows } in pieces(block.rows.clone(), job.grid.tiles[0]) {
            let (start, len) = (4 * rows.start * across, 4 * rows.len() * across);
            let sample = (job.first + unit * job.group + picture) * all.columns + column;
            let (mine, others) = rest.split_at_mut(len * panel.width);
            rest = others;
            let line = |j: usize| (sample * job.outputs + panel.first + j) * positions + start;
            transpose(panel, len, mine, |j| &all.values[line(j)..][..len], factor);
        }
        Arch::new().dispatch(Spread { lines: &*lines, to, columns: across, vectors: panel.vectors });
    });
}

/// A y Aᵀ of every tile: lines `[position, width]` → `[point, tile, width]`.
struct Spread<'a> {
    lines: &'a [f32],
    to: &'a mut [f32],
    /// Tiles in a row.
    columns: usize,
    vectors: usize,
}

impl WithSimd for Spread<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { lines, to, columns, vectors } = self;
        let (lines, _) = S::as_simd_f32s(lines);
        let (to, _) = S::as_mut_simd_f32s(to);
        let tiles = lines.len() / (4 * vectors);
        for tile in 0..tiles {
            let corner = 4 * (tile / columns) * columns + 2 * (tile % columns);
            for v in 0..vectors {
                let line = |y: usize, x: usize| lines[(corner + 2 * y * columns + x) * vectors + v];
                let m = transform::output_back(simd, [[line(0, 0), line(0, 1)], [line(1, 0), line(1, 1)]]);
                for y in 0..4 {
                    for x in 0..4 {
                        to[((4 * y + x) * tiles + tile) * vectors + v] = m[y][x];
                    }
                }
            }
        }
    }
}
