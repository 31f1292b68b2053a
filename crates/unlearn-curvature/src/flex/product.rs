//! Products of cotangents with patches: weight gradients, and sums of squares of per-sample gradients
//! that are formed in registers only. o outputs, d entries of a patch, t positions, c columns.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::panel::{Aligned, Panel, for_panel, panels, transpose};
use super::shape::ConvShape;
use super::tile::{Steps, tile, tile_of};

/// Scalars of pictures and cotangents that are worked on together. What is summed in which order follows
/// from it, and never from the number of threads.
const TOGETHER: usize = if cfg!(test) { 8 << 10 } else { 512 << 10 };
/// Positions that a weight gradient's tile stays in registers for: a panel's part fits a first-level cache.
const BLOCK: usize = 128;
/// Up to so many positions the tiles of all units follow one another before the next rows of the patch:
/// the sums are then the larger stream.
const SHORT: usize = 64;
/// Channels and positions of a unit between which every entry of the kernel has its own positions.
const FEWEST_CHANNELS: usize = 16;
const MOST_POSITIONS: usize = 4 << 10;
/// A multiple of every tile's rows.
const ROWS: usize = 48;
/// Tasks to aim for: enough for a few threads to share evenly.
const TASKS: usize = 16;

/// Cotangents of a convolution's output, `[n · c, o, t]`, the columns of a sample together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cotangents<'a> {
    pub(crate) values: &'a [f32],
    /// c.
    pub(crate) columns: usize,
    /// Samples whose gradients are summed before squaring.
    pub(crate) group: usize,
    /// A factor for each unit of `group` samples.
    pub(crate) factors: Option<&'a [f32]>,
}

/// Σ over samples and positions of cotangent · patch: `[o, d]`, from x `[n, i, h, w]` and gradient
/// `[n, o, h', w']`.
pub(super) fn weight_gradient(shape: &ConvShape, x: &[f32], gradient: &[f32]) -> Vec<f32> {
    let all = Cotangents { values: gradient, columns: 1, group: 1, factors: None };
    let together = (TOGETHER / (shape.frame().size() + shape.output_size())).max(1);
    product(shape, x, &all, together, |job, simd_job| {
        let steps = job.positions(job.samples).blocks(BLOCK);
        simd_job.run(Kind::Sum(&steps), 1);
    })
}

/// Σ over units and columns of the squares of the gradients of single units: `[o, d]`.
pub(super) fn squares(shape: &ConvShape, x: &[f32], cotangents: &Cotangents) -> Vec<f32> {
    let unit = cotangents.group * (shape.frame().size() + cotangents.columns * shape.output_size());
    let together = (TOGETHER / unit).max(1) * cotangents.group;
    let group = cotangents.group;
    // With few channels a tile holds several entries of the kernel, and of large pictures the border is a small part.
    let by_entry = shape.channels >= FEWEST_CHANNELS && group * shape.positions() <= MOST_POSITIONS;
    let within: Vec<_> = match shape.kernel[0] * shape.kernel[1] {
        area if by_entry => (0..area).map(|k| Within::new(shape, k, group)).collect(),
        _ => vec![Within::all(shape, group)],
    };
    product(shape, x, cotangents, together, |job, simd_job| {
        simd_job.run(Kind::Squares(&within), job.samples / group);
    })
}

/// The positions at which an entry of the kernel lies within the picture: on small pictures a third of the products
/// would be with the border.
pub(super) struct Within {
    /// Corners of their patches.
    pub(super) steps: Steps,
    /// Their numbers.
    pub(super) places: Vec<u32>,
}

impl Within {
    /// For entry `k` of the kernel and units of `group` samples.
    fn new(shape: &ConvShape, k: usize, group: usize) -> Self {
        let size = shape.frame().size();
        let corners = shape.corners();
        let (mut steps, mut places) = (Vec::new(), Vec::new());
        for sample in 0..group {
            for (position, _) in inside(shape, k) {
                steps.push(corners[position] + (sample * size) as u32);
                places.push((sample * corners.len() + position) as u32);
            }
        }
        Self { steps: Steps::new(steps), places }
    }

    /// All positions, for any entry.
    fn all(shape: &ConvShape, group: usize) -> Self {
        let steps = Job { shape, samples: group }.positions(group);
        Self { places: (0..steps.len() as u32).collect(), steps }
    }

    /// The other way round: steps are numbers of positions of one sample, places those of the picture's pixels there.
    pub(super) fn inputs(shape: &ConvShape, k: usize) -> Self {
        let (steps, places) =
            inside(shape, k).map(|(position, pixel)| (position as u32, pixel as u32)).unzip();
        Self { steps: Steps::new(steps), places }
    }
}

/// The positions at which entry `k` of the kernel lies within the picture, and on which pixel.
fn inside(shape: &ConvShape, k: usize) -> impl Iterator<Item = (usize, usize)> {
    let at = [k / shape.kernel[1], k % shape.kernel[1]];
    let pixel = move |a: usize, position: usize| {
        let i = (position * shape.stride[a] + at[a] * shape.dilation[a]).checked_sub(shape.padding[a].0)?;
        (i < shape.input[a]).then_some(i)
    };
    (0..shape.positions()).filter_map(move |position| {
        let (y, x) = (pixel(0, position / shape.output[1])?, pixel(1, position % shape.output[1])?);
        Some((position, y * shape.input[1] + x))
    })
}

#[derive(Clone, Copy)]
enum Kind<'a> {
    /// One product over all positions, block after block.
    Sum(&'a [Steps]),
    /// Each unit and column by itself, squared, over the positions of each entry of the kernel.
    Squares(&'a [Within]),
}

/// The samples worked on together.
struct Job<'a> {
    shape: &'a ConvShape,
    samples: usize,
}

impl Job<'_> {
    /// Corners of the patches of the first `samples` samples.
    fn positions(&self, samples: usize) -> Steps {
        let (corners, size) = (self.shape.corners(), self.shape.frame().size());
        let each = (0..samples).flat_map(|i| corners.iter().map(move |&at| at + (i * size) as u32));
        Steps::new(each.collect())
    }
}

/// One task: some rows of the patch for one panel of outputs.
struct Work<'a> {
    source: &'a [f32],
    panel: &'a Panel,
    /// Cotangents of the panel, `[unit, column, position, width]`.
    cotangents: &'a [f32],
    /// Offsets of the task's rows of the patch, the channels of an entry of the kernel together.
    taps: &'a [u32],
    /// Number of the first of them.
    first: usize,
    /// Of how many.
    patch: usize,
    columns: usize,
    /// `[rows, width]`, added to.
    sums: &'a mut [f32],
}

/// All tasks of one job, to be run with the steps that the job chooses.
struct Works<'a>(Vec<Work<'a>>);

impl Works<'_> {
    fn run(self, kind: Kind, units: usize) {
        let arch = Arch::new();
        self.0.into_par_iter().for_each(|work| arch.dispatch(Dispatch { work, kind, units }));
    }
}

/// Cuts samples into jobs and jobs into tasks, and brings the sums into the weight's order.
fn product(
    shape: &ConvShape,
    x: &[f32],
    cotangents: &Cotangents,
    together: usize,
    run: impl Fn(&Job, Works),
) -> Vec<f32> {
    let frame = shape.frame();
    let (size, inner, patch) = (frame.size(), frame.inner_size(), shape.patch());
    let (output, positions, c) = (shape.output_size(), shape.positions(), cotangents.columns);
    let n = x.len() / inner.max(1);
    let (cut, channels) = (panels(shape.outputs), shape.channels);
    // Entry after entry of the kernel.
    let area = patch / channels.max(1);
    let of = |row: usize| row % channels * area + row / channels;
    let all = shape.taps();
    let taps: Vec<u32> = (0..patch).map(|row| all[of(row)]).collect();
    let width: usize = cut.iter().map(|panel| panel.width).sum();
    let mut sums = vec![0.0; width * patch];
    let rows = ROWS * patch.div_ceil(ROWS).div_ceil(TASKS.div_ceil(cut.len()));
    let (mut source, mut packed) = (Aligned::default(), Aligned::default());
    for first in (0..n).step_by(together) {
        let samples = together.min(n - first);
        let pictures = x[first * inner..].par_chunks_exact(inner);
        source.reset(samples * size).par_chunks_exact_mut(size).zip(pictures).for_each(|(to, picture)| {
            frame.fill(picture, to);
        });
        pack(cotangents, (first, samples), &cut, (output, positions), &mut packed);
        let mut works = Vec::new();
        let (mut cotangent_rest, mut sums_rest) = (packed.as_slice(), sums.as_mut_slice());
        for panel in &cut {
            let (part, rest) = cotangent_rest.split_at(samples * c * positions * panel.width);
            cotangent_rest = rest;
            let (mine, rest) = sums_rest.split_at_mut(patch * panel.width);
            sums_rest = rest;
            let parts = taps.chunks(rows).zip(mine.chunks_mut(rows * panel.width)).enumerate();
            works.extend(parts.map(|(i, (taps, sums))| Work {
                source: source.as_slice(),
                panel,
                cotangents: part,
                taps,
                first: i * rows,
                patch,
                columns: c,
                sums,
            }));
        }
        run(&Job { shape, samples }, Works(works));
    }
    let mut result = vec![0.0; shape.outputs * patch];
    let mut rest = sums.as_slice();
    for panel in &cut {
        let (mine, others) = rest.split_at(patch * panel.width);
        rest = others;
        for (j, to) in panel.outputs().zip(result[panel.first * patch..].chunks_exact_mut(patch)) {
            let column = mine[j - panel.first..].iter().step_by(panel.width);
            column.enumerate().for_each(|(row, &from)| to[of(row)] = from);
        }
    }
    result
}

/// The cotangents of some samples in panels: `[panel][unit, column, sample of the unit, position, width]`.
fn pack(
    all: &Cotangents,
    (first, samples): (usize, usize),
    cut: &[Panel],
    (output, positions): (usize, usize),
    to: &mut Aligned,
) {
    let (c, m) = (all.columns, all.group);
    let mut rest = to.reset(samples * c * positions * cut.iter().map(|panel| panel.width).sum::<usize>());
    let mut parts = Vec::new();
    for panel in cut {
        let (mine, others) = rest.split_at_mut(samples * c * positions * panel.width);
        rest = others;
        let pieces = mine.chunks_exact_mut(positions * panel.width).enumerate();
        parts.extend(pieces.map(|(piece, to)| {
            let (unit, column, i) = (piece / (c * m), piece / m % c, piece % m);
            (panel, first + unit * m + i, column, to)
        }));
    }
    parts.into_par_iter().for_each(|(panel, sample, column, to)| {
        let from = &all.values[(sample * c + column) * output..][..output];
        let factor = all.factors.map_or(1.0, |factors| factors[sample / m]);
        transpose(panel, positions, to, |j| &from[(panel.first + j) * positions..], factor);
    });
}

struct Dispatch<'a> {
    work: Work<'a>,
    kind: Kind<'a>,
    units: usize,
}

impl WithSimd for Dispatch<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { work, kind, units } = self;
        match kind {
            Kind::Sum(steps) => {
                for_panel!(S::F32_LANES, work.panel.vectors, sum::<S, R, V>(simd, work, steps));
            }
            Kind::Squares(within) => {
                for_panel!(S::F32_LANES, work.panel.vectors, square::<S, R, V>(simd, work, within, units));
            }
        }
    }
}

/// The offsets of R rows from the `first`; missing ones repeat the last.
#[inline(always)]
pub(super) fn rows<const R: usize>(taps: &[u32], first: usize) -> [usize; R] {
    std::array::from_fn(|r| taps[(first + r).min(taps.len() - 1)] as usize)
}

#[inline(always)]
fn sum<S: Simd, const R: usize, const V: usize>(simd: S, work: Work, steps: &[Steps]) {
    let (cotangents, _) = S::as_simd_f32s(work.cotangents);
    let (mut cotangents, _) = cotangents.as_chunks::<V>();
    let (sums, _) = S::as_mut_simd_f32s(work.sums);
    let (sums, _) = sums.as_chunks_mut::<V>();
    for steps in steps {
        let (block, rest) = cotangents.split_at(steps.len());
        cotangents = rest;
        for first in (0..work.taps.len()).step_by(R) {
            let rows = rows::<R>(work.taps, first);
            let part = tile::<S, R, V>(simd, work.source, &rows, steps, block);
            for (sum, part) in sums[first..].iter_mut().zip(&part) {
                for (sum, &part) in sum.iter_mut().zip(part) {
                    *sum = simd.add_f32s(*sum, part);
                }
            }
        }
    }
}

#[inline(always)]
fn square<S: Simd, const R: usize, const V: usize>(simd: S, work: Work, within: &[Within], units: usize) {
    let (cotangents, _) = S::as_simd_f32s(work.cotangents);
    let (cotangents, _) = cotangents.as_chunks::<V>();
    let (sums, _) = S::as_mut_simd_f32s(work.sums);
    let (sums, _) = sums.as_chunks_mut::<V>();
    let size = work.source.len() / units;
    let length = cotangents.len() / (units * work.columns);
    // Tiles that lie in one entry of the kernel each, if these differ.
    let each = work.patch / within.len();
    let mut tiles = Vec::with_capacity(work.taps.len().div_ceil(R) + within.len());
    let mut first = 0;
    while first < work.taps.len() {
        let entry = (work.first + first) / each;
        let end = work.taps.len().min((entry + 1) * each - work.first);
        let rows = rows::<R>(&work.taps[..end], first);
        let next = end.min(first + R);
        tiles.push((first..next, rows, &within[entry]));
        first = next;
    }
    // Plain loops: a closure that is not inlined loses the vector instructions, and with them all speed.
    if length <= SHORT {
        for (range, rows, within) in &tiles {
            for (piece, block) in cotangents.chunks_exact(length).enumerate() {
                let source = &work.source[piece / work.columns * size..][..size];
                add_square::<S, R, V>(simd, source, rows, within, block, &mut sums[range.clone()]);
            }
        }
    } else {
        for (piece, block) in cotangents.chunks_exact(length).enumerate() {
            let source = &work.source[piece / work.columns * size..][..size];
            for (range, rows, within) in &tiles {
                add_square::<S, R, V>(simd, source, rows, within, block, &mut sums[range.clone()]);
            }
        }
    }
}

/// Adds the squares of one tile to `sums`.
#[inline(always)]
fn add_square<S: Simd, const R: usize, const V: usize>(
    simd: S,
    source: &[f32],
    rows: &[usize; R],
    within: &Within,
    block: &[[S::f32s; V]],
    sums: &mut [[S::f32s; V]],
) {
    let part = tile_of::<S, R, V>(simd, source, rows, (&within.steps, &within.places), block);
    for (sum, part) in sums.iter_mut().zip(&part) {
        for (sum, &part) in sum.iter_mut().zip(part) {
            *sum = simd.mul_add_f32s(part, part, *sum);
        }
    }
}
