//! Inner products of per-sample gradients with one another, from kept (input, cotangent) pairs.

use std::ops::Range;

use burn::Tensor;

use super::{Piece, Reduce, Route, blocks, cut, one_column, rows_of_gradients};
use crate::CurvatureError;
use crate::sweep::{Frame, MatrixTap, VectorTap};
use crate::tree::read;

/// The taps of one sweep: shared handles of inputs and cotangents, a fraction of the size of the gradients, and
/// the gradients themselves of layers where those are smaller still.
#[derive(Debug, Default)]
pub(crate) struct Held {
    frame: Option<Frame>,
    matrices: Vec<MatrixTap>,
    vectors: Vec<VectorTap>,
    /// A route that the factors are needed for.
    forced: Option<Route>,
    /// For the temporaries of one layer.
    bytes: usize,
}

impl Reduce for Held {
    fn matrix(&mut self, frame: &Frame, tap: &MatrixTap) -> Result<(), CurvatureError> {
        one_column(frame)?;
        let (p, d) = (tap.outputs(), tap.inputs());
        if self.forced.is_none() && p * d * tap.units() * size_of::<f32>() <= tap.bytes() {
            let rows = rows_of_gradients(tap, 0..tap.units(), &Piece::outputs(0..p), true, self.bytes);
            let gradient = tap.flat_rows(rows);
            self.vectors.push(tap.formed(gradient));
        } else {
            self.matrices.push(tap.clone());
        }
        Ok(())
    }

    fn vector(&mut self, _: &Frame, tap: &VectorTap) -> Result<(), CurvatureError> {
        self.vectors.push(tap.clone());
        Ok(())
    }

    fn end(&mut self, frame: &Frame) -> Result<(), CurvatureError> {
        self.frame = Some(frame.clone());
        Ok(())
    }
}

impl Held {
    /// With `bytes` for the temporaries of one layer and perhaps a route that is forced.
    pub(crate) fn new(bytes: usize, forced: Option<Route>) -> Self {
        Self { forced, bytes, ..Self::default() }
    }

    /// Bytes of what is held, at most: tensors that layers share count for each.
    pub(crate) fn size(&self) -> usize {
        let matrices = self.matrices.iter().map(MatrixTap::bytes);
        let vectors = self.vectors.iter().map(|tap| tap.gradient().shape().num_elements() * size_of::<f32>());
        matrices.chain(vectors).sum()
    }

    /// Shows what is held to `reducer`, as the sweep did.
    pub(crate) fn show(&self, reducer: &mut dyn Reduce) -> Result<(), CurvatureError> {
        let Some(frame) = &self.frame else { return Ok(()) };
        self.matrices.iter().try_for_each(|tap| reducer.matrix(frame, tap))?;
        self.vectors.iter().try_for_each(|tap| reducer.vector(frame, tap))?;
        reducer.end(frame)
    }

    /// Numbers of the units among all units of the run.
    pub(crate) fn range(&self) -> Range<usize> {
        self.frame.as_ref().map_or(0..0, |frame| frame.first..frame.first + frame.units)
    }

    fn scale(&self, unit: usize) -> f64 {
        self.frame.as_ref().map_or(1.0, |frame| frame.scales[unit])
    }
}

/// Asked between pieces of work; an error ends them.
pub(crate) type GoOn<'a> = &'a dyn Fn() -> Result<(), CurvatureError>;

/// Adds ⟨g_i, g_j⟩ for i in `rows` and j in `columns` to `gram`, `[n, n]`, in float64 across layers. With the
/// same sweeps on both sides only pairs of sweeps at or right of the diagonal are filled.
pub(crate) fn gram_between(
    rows: &[Held],
    columns: &[Held],
    same: bool,
    (bytes, forced, go_on): (usize, Option<Route>, GoOn<'_>),
    gram: &mut [f64],
    n: usize,
) -> Result<(), CurvatureError> {
    let Some(first) = rows.first() else { return Ok(()) };
    for layer in 0..first.matrices.len() {
        go_on()?;
        let tap = &first.matrices[layer];
        let (p, d, t) = (tap.outputs(), tap.inputs(), tap.positions());
        // Ghost t²(p + d) for each pair of samples, direct p·d once the gradients are formed.
        let best = if t * t * (p + d) < p * d { Route::Ghost } else { Route::Direct };
        let route = if tap.keep().is_some() { Route::Direct } else { forced.unwrap_or(best) };
        match route {
            Route::Direct => direct(rows, columns, same, layer, (bytes, go_on), gram, n)?,
            Route::Ghost => {
                for (i, a) in rows.iter().enumerate() {
                    for b in &columns[if same { i } else { 0 }..] {
                        go_on()?;
                        ghost(a, b, layer, bytes, gram, n)?;
                    }
                }
            }
        }
    }
    for layer in 0..first.vectors.len() {
        let all = |held: &[Held]| {
            let parts = held.iter().map(|held| {
                let gradient = held.vectors[layer].gradient();
                let [u, _, p] = gradient.dims();
                gradient.reshape([u, p])
            });
            Tensor::cat(parts.collect(), 0)
        };
        let left = all(rows);
        let right = if same { left.clone() } else { all(columns) };
        place(rows, columns, products(&left, &right, same), same, gram, n)?;
    }
    Ok(())
}

/// By explicit gradients of a few outputs (and channels) at a time, of all held samples.
fn direct(
    rows: &[Held],
    columns: &[Held],
    same: bool,
    layer: usize,
    (bytes, go_on): (usize, GoOn<'_>),
    gram: &mut [f64],
    n: usize,
) -> Result<(), CurvatureError> {
    // One tap of all samples: their gradients are formed together, and never copied together.
    let all = |held: &[Held]| MatrixTap::join(held.iter().map(|held| &held.matrices[layer]).collect());
    let left_tap = all(rows);
    let right_tap = (!same).then(|| all(columns));
    let units = left_tap.units() + right_tap.as_ref().map_or(0, MatrixTap::units);
    let mut sums: Vec<Option<Tensor<2>>> = Vec::new();
    for piece in pieces(&left_tap, bytes / size_of::<f32>() / units) {
        go_on()?;
        let form = |tap: &MatrixTap| rows_of_gradients(tap, 0..tap.units(), &piece, false, bytes);
        let left = form(&left_tap);
        let right = right_tap.as_ref().map_or_else(|| left.clone(), form);
        let parts = products(&left, &right, same);
        sums.resize(parts.len(), None);
        for (sum, part) in sums.iter_mut().zip(parts) {
            *sum = Some(match sum.take() {
                Some(sum) => sum + part,
                None => part,
            });
        }
    }
    place(rows, columns, sums.into_iter().flatten().collect(), same, gram, n)
}

/// Outputs that a kernel forms together at its best.
const TOGETHER: usize = 64;

/// Cuts a weight into pieces of at most `entries` scalars: by outputs, and by channels where a kernel forms the
/// gradients, which is slow for few outputs.
fn pieces(tap: &MatrixTap, entries: usize) -> Vec<Piece> {
    let (p, d) = (tap.outputs(), tap.inputs());
    let Some(channels) = tap.fused_channels() else {
        let outputs = blocks(p, entries / d);
        return outputs.map(|outputs| Piece { outputs, channels: None }).collect();
    };
    let outputs = if entries >= p * d { p } else { p.min(TOGETHER.max(entries / d / TOGETHER * TOGETHER)) };
    let together = entries / outputs / (d / channels);
    let each = |outputs: Range<usize>| {
        blocks(channels, together)
            .map(move |channels| Piece { outputs: outputs.clone(), channels: Some(channels) })
    };
    blocks(p, outputs).flat_map(each).collect()
}

/// Bands that a symmetric product is cut into: the more bands the fewer pairs below the diagonal are formed, but
/// narrow products are slow.
const BANDS: usize = 4;
/// Rows of a band at least.
const BAND: usize = 32;

/// Rows of band `number` of `count` bands of `n` rows.
fn band(n: usize, count: usize, number: usize) -> Range<usize> {
    n * number / count..n * (number + 1) / count
}

/// left · rightᵀ, `[n, n']`, in bands of rows; with `same` only from each band's first row on to the right.
fn products(left: &Tensor<2>, right: &Tensor<2>, same: bool) -> Vec<Tensor<2>> {
    let (n, width) = (left.dims()[0], right.dims()[0]);
    let count = if same { (n / BAND).clamp(1, BANDS) } else { 1 };
    let product = |number| {
        let rows = band(n, count, number);
        let first = if same { rows.start } else { 0 };
        left.clone().slice([rows]).matmul(right.clone().slice_dim(0, first..width).transpose())
    };
    (0..count).map(product).collect()
}

/// Adds the bands of [`products`] where they belong.
fn place(
    rows: &[Held],
    columns: &[Held],
    parts: Vec<Tensor<2>>,
    same: bool,
    gram: &mut [f64],
    n: usize,
) -> Result<(), CurvatureError> {
    let (left, right) = (places(rows), places(columns));
    let count = parts.len();
    for (number, part) in parts.into_iter().enumerate() {
        let rows = band(left.len(), count, number);
        let first = if same { rows.start } else { 0 };
        add(&left[rows], &right[first..], part, gram, n)?;
    }
    Ok(())
}

/// Number and factor of every unit of some sweeps.
fn places(held: &[Held]) -> Vec<(usize, f64)> {
    held.iter().flat_map(|h| h.range().enumerate().map(|(u, i)| (i, h.scale(u)))).collect()
}

/// Σ_tt' ⟨x_it, x_jt'⟩ ⟨g_it, g_jt'⟩ with no gradient formed.
fn ghost(
    a: &Held,
    b: &Held,
    layer: usize,
    bytes: usize,
    gram: &mut [f64],
    n: usize,
) -> Result<(), CurvatureError> {
    let (left, right) = (&a.matrices[layer], &b.matrices[layer]);
    let (p, d, t) = (left.outputs(), left.inputs(), left.positions());
    let (many, s) = (right.units(), right.positions());
    let side = |tap: &MatrixTap, range: Range<usize>| {
        let (u, t) = (range.len(), tap.positions());
        let input = tap.input(range.clone()).swap_dims(1, 2).reshape([u * t, d]);
        let cotangent = tap.cotangent(range, 0..p).reshape([u, p, t]).swap_dims(1, 2).reshape([u * t, p]);
        (input, cotangent)
    };
    let (inputs, cotangents) = side(right, 0..many);
    let (inputs, cotangents) = (inputs.transpose(), cotangents.transpose());
    let count = |u: usize, _: usize| u * t * (3 * many * s + 2 * (p + d));
    let (units, _) = cut(bytes, left.units(), 1, count);
    let mut all = Vec::new();
    for range in blocks(left.units(), units) {
        let u = range.len();
        let (x, g) = side(left, range);
        let products = x.matmul(inputs.clone()) * g.matmul(cotangents.clone()); // [u·t, u'·t']
        let over_right = products.reshape([u * t * many, s]).sum_dim(1);
        all.push(over_right.reshape([u, t, many]).sum_dim(1).reshape([u, many]));
    }
    add(&places(std::slice::from_ref(a)), &places(std::slice::from_ref(b)), Tensor::cat(all, 0), gram, n)
}

/// Adds a block, `[rows, columns]`, where it belongs, on the true scale.
fn add(
    rows: &[(usize, f64)],
    columns: &[(usize, f64)],
    block: Tensor<2>,
    gram: &mut [f64],
    n: usize,
) -> Result<(), CurvatureError> {
    let [height, width] = block.dims();
    let block = read(block.reshape([height * width]))?;
    for (line, &(i, scale)) in block.chunks_exact(width).zip(rows) {
        for (value, &(j, other)) in line.iter().zip(columns) {
            gram[i * n + j] += f64::from(*value) * scale * other;
        }
    }
    Ok(())
}
