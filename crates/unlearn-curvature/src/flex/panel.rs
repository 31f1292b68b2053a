//! Matrices cut into panels of a few vectors, in the order in which the tiles read them.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

/// Bytes that a vector load should not straddle.
const LINE: usize = 64;

/// A buffer of float32 whose first element lies on a cache line.
#[derive(Debug, Default)]
pub(super) struct Aligned {
    memory: Vec<f32>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// Makes room for `len` scalars. What was there is gone; what is there now is anything.
    pub(super) fn reset(&mut self, len: usize) -> &mut [f32] {
        let room = len + LINE / size_of::<f32>();
        if self.memory.len() < room {
            self.memory = vec![0.0; room];
        }
        let start = self.memory.as_ptr().align_offset(LINE);
        self.start = if start < LINE { start } else { 0 };
        self.len = len;
        &mut self.memory[self.start..][..len]
    }

    pub(super) fn as_slice(&self) -> &[f32] {
        &self.memory[self.start..][..self.len]
    }
}

/// A range of a matrix's outputs that one family of tiles works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Panel {
    /// First output.
    pub(super) first: usize,
    /// Outputs that exist; the rest up to `width` are zeros.
    pub(super) live: usize,
    /// Vectors: 4, 2 or 1.
    pub(super) vectors: usize,
    /// Scalars a step: vectors · lanes.
    pub(super) width: usize,
}

impl Panel {
    pub(super) fn outputs(&self) -> Range<usize> {
        self.first..self.first + self.live
    }
}

/// Scalars in a vector of this machine.
pub(super) fn lanes() -> usize {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;
        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    Arch::new().dispatch(Lanes)
}

/// The panels of `outputs` outputs. Machines with 16 lanes have 32 registers, others are taken to have 16.
pub(super) fn panels(outputs: usize) -> Vec<Panel> {
    cut(outputs, lanes())
}

fn cut(outputs: usize, lanes: usize) -> Vec<Panel> {
    let most = if lanes >= 16 { 4 } else { 2 };
    let mut panels = Vec::new();
    let mut first = 0;
    while first < outputs {
        let left = (outputs - first).div_ceil(lanes);
        let vectors = [4, 2, 1].into_iter().find(|&v| v <= most.min(left)).unwrap_or(1);
        let width = vectors * lanes;
        panels.push(Panel { first, live: width.min(outputs - first), vectors, width });
        first += width;
    }
    panels
}

/// The parts of `all`, panel after panel `[rows, width]`, that belong to each panel.
pub(super) fn parts<'a>(
    cut: &'a [Panel],
    rows: usize,
    mut all: &'a [f32],
) -> impl Iterator<Item = (&'a Panel, &'a [f32])> {
    cut.iter().map(move |panel| {
        let (mine, rest) = all.split_at(rows * panel.width);
        all = rest;
        (panel, mine)
    })
}

/// The same, to be written to.
pub(super) fn parts_mut<'a>(
    cut: &'a [Panel],
    rows: usize,
    mut all: &'a mut [f32],
) -> impl Iterator<Item = (&'a Panel, &'a mut [f32])> {
    cut.iter().map(move |panel| {
        let (mine, rest) = std::mem::take(&mut all).split_at_mut(rows * panel.width);
        all = rest;
        (panel, mine)
    })
}

/// Scalars of a row of all panels.
pub(super) fn width(cut: &[Panel]) -> usize {
    cut.iter().map(|panel| panel.width).sum()
}

/// Copies rows of length `columns` into a panel: `to[k · width + j] = row(j)[k]`, zeros for missing rows.
pub(super) fn transpose<'a>(
    panel: &Panel,
    columns: usize,
    to: &mut [f32],
    row: impl Fn(usize) -> &'a [f32],
    scale: f32,
) {
    const BLOCK: usize = 16;
    if panel.live < panel.width {
        to.fill(0.0);
    }
    let width = panel.width;
    for j0 in (0..panel.live).step_by(BLOCK) {
        let count = BLOCK.min(panel.live - j0);
        let rows: [&[f32]; BLOCK] = std::array::from_fn(|j| &row(j0 + j.min(count - 1))[..columns]);
        let whole = if count == BLOCK { columns / BLOCK * BLOCK } else { 0 };
        for k0 in (0..whole).step_by(BLOCK) {
            let block: [[f32; BLOCK]; BLOCK] =
                std::array::from_fn(|j| std::array::from_fn(|k| rows[j][k0..k0 + BLOCK][k]));
            for k in 0..BLOCK {
                let line: [f32; BLOCK] = std::array::from_fn(|j| block[j][k] * scale);
                to[(k0 + k) * width + j0..][..BLOCK].copy_from_slice(&line);
            }
        }
        for k in whole..columns {
            for (j, row) in rows[..count].iter().enumerate() {
                to[k * width + j0 + j] = row[k] * scale;
            }
        }
    }
}

/// The way back: columns of a panel's rows to rows, `to[j · apart + start + k] = from[k · width + j]`.
pub(super) fn back(panel: &Panel, columns: usize, from: &[f32], to: &mut [f32], [apart, start]: [usize; 2]) {
    const BLOCK: usize = 16;
    let width = panel.width;
    for k0 in (0..columns).step_by(BLOCK) {
        let count = BLOCK.min(columns - k0);
        let whole = if count == BLOCK { panel.live / BLOCK * BLOCK } else { 0 };
        for j0 in (0..whole).step_by(BLOCK) {
            let block: [[f32; BLOCK]; BLOCK] =
                std::array::from_fn(|k| std::array::from_fn(|j| from[(k0 + k) * width + j0..][..BLOCK][j]));
            for j in 0..BLOCK {
                let line: [f32; BLOCK] = std::array::from_fn(|k| block[k][j]);
                to[(j0 + j) * apart + start + k0..][..BLOCK].copy_from_slice(&line);
            }
        }
        for j in whole..panel.live {
            let to = &mut to[j * apart + start + k0..][..count];
            for (k, to) in to.iter_mut().enumerate() {
                *to = from[(k0 + k) * width + j];
            }
        }
    }
}

/// Runs `$body` with the constants `R` and `V` that suit a panel of `$vectors` vectors.
macro_rules! for_panel {
    ($lanes:expr, $vectors:expr, $run:ident :: <S, R, V> ( $($argument:expr),* $(,)? )) => {
        match ($lanes >= 16, $vectors) {
            (true, 4) => $run::<S, 6, 4>($($argument),*),
            (true, 2) => $run::<S, 8, 2>($($argument),*),
            (true, _) => $run::<S, 16, 1>($($argument),*),
            (false, 2) => $run::<S, 6, 2>($($argument),*),
            (false, _) => $run::<S, 12, 1>($($argument),*),
        }
    };
}
pub(super) use for_panel;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_cover_all_outputs_once() {
        for lanes in [1, 4, 8, 16] {
            for outputs in [1, 3, 4, 10, 16, 17, 48, 64, 100, 512] {
                let panels = cut(outputs, lanes);
                let all: Vec<usize> = panels.iter().flat_map(Panel::outputs).collect();
                assert_eq!(all, (0..outputs).collect::<Vec<_>>(), "{lanes} {outputs}");
                assert!(panels.iter().all(|p| p.width == p.vectors * lanes && p.live <= p.width));
            }
        }
    }

    #[test]
    fn panels_hold_columns_of_the_rows() {
        let (rows, columns) = (21, 37);
        let matrix: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
        let panel = Panel { first: 0, live: rows, vectors: 2, width: 32 };
        let mut to = vec![7.0; columns * 32];
        transpose(&panel, columns, &mut to, |j| &matrix[j * columns..][..columns], 2.0);
        for k in 0..columns {
            for j in 0..32 {
                let expected = if j < rows { 2.0 * matrix[j * columns + k] } else { 0.0 };
                assert_eq!(to[k * 32 + j], expected, "{k} {j}");
            }
        }
    }

    #[test]
    fn the_way_back_undoes_it_at_any_place() {
        for (rows, columns) in [(21, 37), (32, 16), (3, 4), (17, 50)] {
            let matrix: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
            let panel = Panel { first: 0, live: rows, vectors: 2, width: 32 };
            let mut there = vec![7.0; columns * 32];
            transpose(&panel, columns, &mut there, |j| &matrix[j * columns..][..columns], 1.0);
            let (apart, start) = (columns + 5, 3);
            let mut back_again = vec![-1.0; rows * apart];
            back(&panel, columns, &there, &mut back_again, [apart, start]);
            for (j, row) in back_again.chunks(apart).enumerate() {
                assert_eq!(&row[start..start + columns], &matrix[j * columns..][..columns], "{j}");
                assert!(row[..start].iter().chain(&row[start + columns..]).all(|&v| v == -1.0), "{j}");
            }
        }
    }

    #[test]
    fn buffers_start_on_a_line_and_grow() {
        let mut buffer = Aligned::default();
        for len in [3, 1000, 5] {
            assert_eq!(buffer.reset(len).len(), len);
            assert!(buffer.as_slice().as_ptr().align_offset(LINE) == 0);
        }
    }
}
