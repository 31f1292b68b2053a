//! Weight gradients of single units, written to memory: what inner products between samples are made of.
//! o outputs, d entries of a patch, t positions, c columns.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::panel::{Aligned, Panel, back, for_panel, panels, transpose};
use super::product::{Cotangents, rows};
use super::shape::ConvShape;
use super::tile::{Steps, tile};

/// In which order a gradient's entries are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// `[o, d]`, as the weight has them.
    Weight,
    /// As the tiles produce them, with zeros between; the same for every unit. Inner products do not care, and
    /// nothing is moved about.
    Tile,
}

impl Order {
    /// Scalars of one gradient.
    pub(super) fn size(self, shape: &ConvShape) -> usize {
        match self {
            Self::Weight => shape.outputs * shape.patch(),
            Self::Tile => {
                panels(shape.outputs).iter().map(|panel| panel.width).sum::<usize>() * shape.patch()
            }
        }
    }
}

/// What one thread works in.
#[derive(Default)]
struct Room {
    /// The framed pictures of a unit.
    source: Aligned,
    /// One panel of its cotangents, `[position, width]`.
    cotangents: Aligned,
    /// One panel of its gradient, `[d, width]`.
    gradient: Aligned,
}

/// The gradient of every unit and column, `[units · c, size]`, from x `[n, i, h, w]` and cotangents `[n · c, o, t]`.
pub(super) fn gradients(shape: &ConvShape, x: &[f32], all: &Cotangents, order: Order) -> Vec<f32> {
    let frame = shape.frame();
    let (size, inner, output) = (frame.size(), frame.inner_size(), shape.output_size());
    let (patch, positions) = (shape.patch(), shape.positions());
    let (c, m) = (all.columns, all.group);
    let (cut, taps) = (panels(shape.outputs), shape.taps());
    let corners = shape.corners();
    let each = (0..m).flat_map(|i| corners.iter().map(move |&at| at + (i * size) as u32));
    let steps = Steps::new(each.collect());
    let units = x.len() / (inner * m).max(1);
    let entries = order.size(shape);
    let mut result = vec![0.0; units * c * entries];
    result.par_chunks_exact_mut(entries).enumerate().for_each_init(Room::default, |room, (piece, to)| {
        let (unit, column) = (piece / c, piece % c);
        let source = room.source.reset(m * size);
        let pictures = x[unit * m * inner..].chunks_exact(inner);
        source.chunks_exact_mut(size).zip(pictures).for_each(|(to, picture)| frame.fill(picture, to));
        let factor = all.factors.map_or(1.0, |factors| factors[unit]);
        let mut rest = to;
        for panel in &cut {
            let packed = room.cotangents.reset(m * positions * panel.width);
            for (i, to) in packed.chunks_exact_mut(positions * panel.width).enumerate() {
                let from = &all.values[((unit * m + i) * c + column) * output..][..output];
                transpose(panel, positions, to, |j| &from[(panel.first + j) * positions..], factor);
            }
            let written = match order {
                Order::Weight => panel.live * patch,
                Order::Tile => panel.width * patch,
            };
            let (mine, others) = std::mem::take(&mut rest).split_at_mut(written);
            rest = others;
            let gradient = match order {
                Order::Weight => room.gradient.reset(panel.width * patch),
                Order::Tile => &mut *mine,
            };
            let (source, cotangents) = (room.source.as_slice(), room.cotangents.as_slice());
            Arch::new().dispatch(Dispatch {
                panel,
                source,
                cotangents,
                taps: &taps,
                steps: &steps,
                gradient,
            });
            if order == Order::Weight {
                back(panel, patch, room.gradient.as_slice(), mine, [patch, 0]);
            }
        }
    });
    result
}

struct Dispatch<'a> {
    panel: &'a Panel,
    source: &'a [f32],
    cotangents: &'a [f32],
    taps: &'a [u32],
    steps: &'a Steps,
    /// `[d, width]`.
    gradient: &'a mut [f32],
}

impl WithSimd for Dispatch<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for_panel!(S::F32_LANES, self.panel.vectors, form::<S, R, V>(simd, self));
    }
}

#[inline(always)]
fn form<S: Simd, const R: usize, const V: usize>(simd: S, work: Dispatch) {
    let (cotangents, _) = S::as_simd_f32s(work.cotangents);
    let (cotangents, _) = cotangents.as_chunks::<V>();
    let (gradient, _) = S::as_mut_simd_f32s(work.gradient);
    let (gradient, _) = gradient.as_chunks_mut::<V>();
    for first in (0..work.taps.len()).step_by(R) {
        let rows = rows::<R>(work.taps, first);
        let part = tile::<S, R, V>(simd, work.source, &rows, work.steps, cotangents);
        for (to, part) in gradient[first..].iter_mut().zip(part) {
            *to = part;
        }
    }
}
