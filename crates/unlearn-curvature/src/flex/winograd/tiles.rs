//! Pictures in transformed 4 × 4 tiles: `[point, tile, channel]`.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::transform;
use crate::flex::panel::{Aligned, Panel, transpose};
use crate::flex::shape::ConvShape;

/// Where the tiles of a picture lie: each makes 2 × 2 outputs from 4 × 4 inputs, 2 apart.
#[derive(Debug, Clone)]
pub(super) struct Grid {
    pub(super) channels: usize,
    /// Rows and columns of a picture.
    pub(super) input: [usize; 2],
    /// Zeros above and left of it.
    pub(super) before: [usize; 2],
    /// Rows and columns of tiles.
    pub(super) tiles: [usize; 2],
}

impl Grid {
    /// Of the inputs of a convolution.
    pub(super) fn of(shape: &ConvShape) -> Self {
        Self {
            channels: shape.channels,
            input: shape.input,
            before: [shape.padding[0].0, shape.padding[1].0],
            tiles: shape.output.map(|side| side / 2),
        }
    }

    /// Tiles of a picture.
    pub(super) fn len(&self) -> usize {
        self.tiles[0] * self.tiles[1]
    }

    /// Scalars of a picture.
    pub(super) fn size(&self) -> usize {
        self.channels * self.input[0] * self.input[1]
    }

    /// Rows of the picture that the tiles of some rows read.
    fn band(&self, rows: &Range<usize>) -> Range<usize> {
        let end = (2 * rows.end + 2).saturating_sub(self.before[0]).min(self.input[0]);
        (2 * rows.start).saturating_sub(self.before[0]).min(end)..end
    }
}

/// Some rows of tiles of one picture.
pub(super) struct Piece {
    pub(super) picture: usize,
    pub(super) rows: Range<usize>,
}

/// Rows of tiles of a row of pictures of `each` rows, cut where a picture ends.
pub(super) fn pieces(rows: Range<usize>, each: usize) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut at = rows.start;
    while at < rows.end {
        let picture = at / each;
        let end = rows.end.min((picture + 1) * each);
        pieces.push(Piece { picture, rows: at - picture * each..end - picture * each });
        at = end;
    }
    pieces
}

/// Transforms the tiles in `rows` of a picture `[channels, h, w]`. Tile `t` of those (from `first` on) goes to
/// `to[point · points + (first + t) · stride + channel]`.
pub(super) fn gather(
    grid: &Grid,
    cut: &[Panel],
    picture: &[f32],
    rows: Range<usize>,
    lines: &mut Aligned,
    to: &mut [f32],
    [points, first, stride]: [usize; 3],
) {
    let [height, width] = grid.input;
    let band = grid.band(&rows);
    let positions = band.len() * width;
    for panel in cut {
        // Before all positions a line of zeros, for what lies outside of the picture.
        let lines = lines.reset((1 + positions) * panel.width);
        let (zeros, inside) = lines.split_at_mut(panel.width);
        zeros.fill(0.0);
        let from = |j: usize| &picture[((panel.first + j) * height + band.start) * width..][..positions];
        transpose(panel, positions, inside, from, 1.0);
        let work = Transform {
            grid,
            rows: rows.clone(),
            band: band.clone(),
            lines: &*lines,
            panel,
            to: &mut to[first * stride + panel.first..],
            points,
            stride,
        };
        Arch::new().dispatch(work);
    }
}

struct Transform<'a> {
    grid: &'a Grid,
    rows: Range<usize>,
    band: Range<usize>,
    lines: &'a [f32],
    panel: &'a Panel,
    to: &'a mut [f32],
    points: usize,
    stride: usize,
}

impl WithSimd for Transform<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { grid, rows, band, lines, panel, to, points, stride } = self;
        let (lines, _) = S::as_simd_f32s(lines);
        let vectors = panel.vectors;
        let width = grid.input[1];
        let mut tile = 0;
        for row in rows {
            for column in 0..grid.tiles[1] {
                let mut places = [[0; 4]; 4];
                for (y, places) in places.iter_mut().enumerate() {
                    let line = (2 * row + y).wrapping_sub(grid.before[0]);
                    for (x, place) in places.iter_mut().enumerate() {
                        let at = (2 * column + x).wrapping_sub(grid.before[1]);
                        if band.contains(&line) && at < width {
                            *place = (1 + (line - band.start) * width + at) * vectors;
                        }
                    }
                }
                for v in 0..vectors {
                    let mut d = [[simd.splat_f32s(0.0); 4]; 4];
                    for y in 0..4 {
                        for x in 0..4 {
                            d[y][x] = lines[places[y][x] + v];
                        }
                    }
                    let d = transform::input(simd, d);
                    let at = tile * stride + v * S::F32_LANES;
                    for y in 0..4 {
                        for x in 0..4 {
                            let to = &mut to[(4 * y + x) * points + at..][..S::F32_LANES];
                            S::as_mut_simd_f32s(to).0[0] = d[y][x];
                        }
                    }
                }
                tile += 1;
            }
        }
    }
}
