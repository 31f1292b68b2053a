//! Products of row-major matrices, made of tiles: the left side is read where it lies, the right side in panels.

use pulp::Simd;

use crate::flex::panel::{Aligned, Panel, for_panel, parts, parts_mut, transpose, width};
use crate::flex::tile::{Steps, tile};

/// Rows of a matrix inside of a longer slice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) source: &'a [f32],
    /// From row to row.
    pub(super) step: usize,
    pub(super) count: usize,
}

/// A product's right side, cut into panels, `steps` rows each.
#[derive(Debug)]
pub(super) struct Right<'a> {
    pub(super) cut: &'a [Panel],
    pub(super) packed: &'a [f32],
}

/// Scalars of the panels of a right side of `steps` rows.
pub(super) fn room(cut: &[Panel], steps: usize) -> usize {
    width(cut) * steps
}

/// A panel of rows, `step` apart, as they are: one step a row.
pub(super) fn straight(panel: &Panel, (source, step): (&[f32], usize), to: &mut [f32]) {
    for (to, row) in to.chunks_exact_mut(panel.width).zip(source.chunks(step)) {
        to[..panel.live].copy_from_slice(&row[panel.outputs()]);
        to[panel.live..].fill(0.0);
    }
}

/// A panel of rows, `step` apart, turned, times `scale`: one step for each of their first `columns` entries.
pub(super) fn turned(
    panel: &Panel,
    (source, step): (&[f32], usize),
    columns: usize,
    scale: f32,
    to: &mut [f32],
) {
    transpose(panel, columns, to, |j| &source[(panel.first + j) * step..], scale);
}

/// All panels of `rows` as they are.
pub(super) fn all_straight<'a>(cut: &'a [Panel], rows: Rows, packed: &'a mut Aligned) -> Right<'a> {
    let to = packed.reset(room(cut, rows.count));
    parts_mut(cut, rows.count, to).for_each(|(panel, to)| straight(panel, (rows.source, rows.step), to));
    Right { cut, packed: packed.as_slice() }
}

/// All panels of `rows` turned, times `scale`.
pub(super) fn all_turned<'a>(
    cut: &'a [Panel],
    rows: Rows,
    columns: usize,
    scale: f32,
    packed: &'a mut Aligned,
) -> Right<'a> {
    let to = packed.reset(room(cut, columns));
    parts_mut(cut, columns, to).for_each(|(panel, to)| {
        turned(panel, (rows.source, rows.step), columns, scale, to);
    });
    Right { cut, packed: packed.as_slice() }
}

/// What a product is added to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Onto<'a> {
    /// Nothing: it takes the place of what was there.
    Nothing,
    /// One row, added to each of them.
    Row(&'a [f32]),
    /// What is there.
    Itself,
}

/// Where a product's rows go.
#[derive(Debug)]
pub(super) struct To<'a> {
    pub(super) rows: &'a mut [f32],
    /// From row to row.
    pub(super) step: usize,
    pub(super) onto: Onto<'a>,
}

/// `to` = left · right, summed over `steps` of the left side.
#[inline(always)]
pub(super) fn product<S: Simd>(simd: S, left: Rows, steps: &Steps, right: &Right, mut to: To) {
    for (panel, part) in parts(right.cut, steps.len(), right.packed) {
        panel_product(simd, left, steps, part, panel, &mut to);
    }
}

/// The outputs of one panel.
#[inline(always)]
pub(super) fn panel_product<S: Simd>(
    simd: S,
    left: Rows,
    steps: &Steps,
    part: &[f32],
    panel: &Panel,
    to: &mut To,
) {
    for_panel!(S::F32_LANES, panel.vectors, piece::<S, R, V>(simd, left, steps, part, panel, to));
}

#[inline(always)]
fn piece<S: Simd, const R: usize, const V: usize>(
    simd: S,
    left: Rows,
    steps: &Steps,
    part: &[f32],
    panel: &Panel,
    to: &mut To,
) {
    let (vectors, _) = S::as_simd_f32s(part);
    let (vectors, _) = vectors.as_chunks::<V>();
    let width = V * S::F32_LANES;
    for first in (0..left.count).step_by(R) {
        let last = R.min(left.count - first) - 1;
        // Missing rows repeat the last one and are not stored.
        let rows: [usize; R] = std::array::from_fn(|r| (first + r.min(last)) * left.step);
        let sums = tile::<S, R, V>(simd, left.source, &rows, steps, vectors);
        let flat: &[f32] = pulp::bytemuck::cast_slice(sums.as_flattened());
        for (r, row) in flat.chunks_exact(width).take(last + 1).enumerate() {
            let (row, place) = (&row[..panel.live], (first + r) * to.step + panel.first);
            let to_row = &mut to.rows[place..][..panel.live];
            match to.onto {
                Onto::Nothing => to_row.copy_from_slice(row),
                Onto::Row(onto) => {
                    for ((to, &sum), &onto) in to_row.iter_mut().zip(row).zip(&onto[panel.outputs()]) {
                        *to = sum + onto;
                    }
                }
                Onto::Itself => {
                    for (to, &sum) in to_row.iter_mut().zip(row) {
                        *to += sum;
                    }
                }
            }
        }
    }
}
