//! Inner products of per-sample gradients with one another, from kept (input, cotangent) pairs.

use std::ops::Range;

use burn::Tensor;

use super::{Reduce, Route, blocks, cut, gradients, one_column};
use crate::CurvatureError;
use crate::sweep::{Frame, MatrixTap, VectorTap};
use crate::tree::read;

/// The taps of one sweep: shared handles of inputs and cotangents, a fraction of the size of the gradients.
#[derive(Debug, Default)]
pub(crate) struct Held {
    frame: Option<Frame>,
    matrices: Vec<MatrixTap>,
    vectors: Vec<VectorTap>,
}

impl Reduce for Held {
    fn matrix(&mut self, frame: &Frame, tap: &MatrixTap) -> Result<(), CurvatureError> {
        one_column(frame)?;
        self.matrices.push(tap.clone());
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

    fn units(&self) -> usize {
        self.range().len()
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
        add(rows, columns, left.matmul(right.transpose()), gram, n)?;
    }
    Ok(())
}

/// By explicit gradients of a few outputs at a time, of all held samples.
fn direct(
    rows: &[Held],
    columns: &[Held],
    same: bool,
    layer: usize,
    (bytes, go_on): (usize, GoOn<'_>),
    gram: &mut [f64],
    n: usize,
) -> Result<(), CurvatureError> {
    let tap = &rows[0].matrices[layer];
    let (d, t) = (tap.inputs(), tap.positions());
    let count: usize = rows.iter().chain(columns).map(Held::units).sum();
    let (_, outputs) = cut(bytes, 1, tap.outputs(), |_, p| 2 * count * p * d);
    let form = |held: &[Held], outputs: &Range<usize>| {
        let parts = held.iter().flat_map(|held| {
            let tap = &held.matrices[layer];
            let (units, _) = cut(bytes, tap.units(), 1, |u, _| u * d * t);
            blocks(tap.units(), units).map(move |range| {
                let u = range.len();
                let input = tap.input(range.clone());
                gradients(tap, &input, range, outputs.clone()).reshape([u, outputs.len() * d])
            })
        });
        Tensor::cat(parts.collect(), 0)
    };
    let mut sum: Option<Tensor<2>> = None;
    for outputs in blocks(tap.outputs(), outputs) {
        go_on()?;
        let left = form(rows, &outputs);
        let right = if same { left.clone() } else { form(columns, &outputs) };
        let part = left.matmul(right.transpose());
        sum = Some(match sum {
            Some(sum) => sum + part,
            None => part,
        });
    }
    sum.map_or(Ok(()), |sum| add(rows, columns, sum, gram, n))
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
    add(std::slice::from_ref(a), std::slice::from_ref(b), Tensor::cat(all, 0), gram, n)
}

/// Adds a block, `[units of rows, units of columns]`, where it belongs, on the true scale.
fn add(
    rows: &[Held],
    columns: &[Held],
    block: Tensor<2>,
    gram: &mut [f64],
    n: usize,
) -> Result<(), CurvatureError> {
    let [height, width] = block.dims();
    let block = read(block.reshape([height * width]))?;
    let places = |held: &[Held]| -> Vec<(usize, f64)> {
        held.iter().flat_map(|h| h.range().enumerate().map(|(u, i)| (i, h.scale(u)))).collect()
    };
    let (rows, columns) = (places(rows), places(columns));
    for (line, (i, scale)) in block.chunks_exact(width).zip(rows) {
        for (value, &(j, other)) in line.iter().zip(&columns) {
            gram[i * n + j] += f64::from(*value) * scale * other;
        }
    }
    Ok(())
}
