//! What to make of each parameter's gradients while a sweep goes by.
//!
//! u units, c columns, p outputs, d inputs, t positions; the gradient of a weight is
//! G\[u, c\] = cotangent\[u, c\] · input\[u\]ᵀ, `[p, d]`. Several reducers can share one sweep.

mod accumulator;
mod dots;
mod gram;
mod norms;
mod sum_squares;
mod weighted;

pub use dots::Dots;
pub(crate) use gram::{GoOn, Held, gram_between};
pub use norms::Norms;
pub use sum_squares::{Algorithm, SumSquares};
pub use weighted::WeightedGradient;

use std::ops::Range;

use burn::Tensor;

use crate::CurvatureError;
use crate::sweep::{Frame, MatrixTap, VectorTap};
use crate::tree::read;

/// Takes in what a sweep shows of each parameter. Every parameter comes once a sweep, in any order,
/// then [`end`](Self::end).
pub trait Reduce {
    /// A weight matrix.
    ///
    /// # Errors
    /// Whatever keeps the reducer from going on; the sweep stops.
    fn matrix(&mut self, frame: &Frame, tap: &MatrixTap) -> Result<(), CurvatureError>;

    /// A bias or scale.
    ///
    /// # Errors
    /// As [`matrix`](Self::matrix).
    fn vector(&mut self, frame: &Frame, tap: &VectorTap) -> Result<(), CurvatureError>;

    /// All parameters have been seen.
    ///
    /// # Errors
    /// As [`matrix`](Self::matrix).
    fn end(&mut self, frame: &Frame) -> Result<(), CurvatureError> {
        let _ = frame;
        Ok(())
    }
}

/// How per-sample inner products of a layer's gradients are formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Route {
    /// By forming the gradients, a few rows at a time.
    Direct,
    /// By the products of inputs with inputs and cotangents with cotangents; no gradient is formed.
    Ghost,
}

/// Ranges of `size` that cover `0..total`.
fn blocks(total: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    let size = size.max(1);
    (0..total).step_by(size).map(move |start| start..(start + size).min(total))
}

/// How to cut a layer so that `float_count(units, outputs)` float32 stay within `bytes`: first fewer units,
/// then fewer outputs, at least one of each.
fn cut(
    bytes: usize,
    units: usize,
    outputs: usize,
    float_count: impl Fn(usize, usize) -> usize,
) -> (usize, usize) {
    let fits = |u: usize, p: usize| float_count(u, p) * size_of::<f32>() <= bytes;
    let largest = |limit: usize, fits: &dyn Fn(usize) -> bool| {
        let (mut low, mut high) = (1, limit.max(1));
        while low < high {
            let middle = (low + high).div_ceil(2);
            if fits(middle) { low = middle } else { high = middle - 1 }
        }
        low
    };
    if fits(1, outputs) {
        (largest(units, &|u| fits(u, outputs)), outputs)
    } else {
        (1, largest(outputs, &|p| fits(1, p)))
    }
}

/// A part of a weight's gradient.
#[derive(Debug, Clone)]
struct Piece {
    outputs: Range<usize>,
    /// Of the input, where a kernel forms the gradients; all of them otherwise.
    channels: Option<Range<usize>>,
}

impl Piece {
    fn outputs(outputs: Range<usize>) -> Self {
        Self { outputs, channels: None }
    }
}

/// A piece of the gradients of a range of units as rows, `[u, c · entries]`, with pruned entries zero. Inner products
/// of rows are those of the gradients; the entries themselves are in the weight's order, `[p, d]`, where `ordered`
/// and in any, with zeros between, where not. `bytes` bounds the patches that are formed where no kernel serves.
fn rows_of_gradients(
    tap: &MatrixTap,
    units: Range<usize>,
    piece: &Piece,
    ordered: bool,
    bytes: usize,
) -> Tensor<2> {
    let outputs = piece.outputs.clone();
    let (u, c, p, d, t) = (units.len(), tap.columns(), outputs.len(), tap.inputs(), tap.positions());
    let keep = tap.keep();
    let ordered = ordered || keep.is_some();
    if let Some(rows) = tap.fused_gradients(units.clone(), outputs.clone(), piece.channels.clone(), ordered) {
        let entries = rows.dims()[1];
        let rows = match (keep, tap.fused_channels(), &piece.channels) {
            (None, ..) => rows,
            (Some(keep), Some(all), Some(channels)) => {
                let taps = d / all;
                let keep = keep.slice([outputs, channels.start * taps..channels.end * taps]);
                rows * keep.reshape([1, entries])
            }
            (Some(keep), ..) => rows * keep.slice([outputs]).reshape([1, entries]),
        };
        return rows.reshape([u, c * entries]);
    }
    let (together, _) = cut(bytes, u, 1, |u, _| u * t * (d + c * p));
    let parts = blocks(u, together).map(|part| {
        let range = units.start + part.start..units.start + part.end;
        let input = tap.input(range.clone());
        gradients(tap, &input, range, outputs.clone()).reshape([part.len(), c * p * d])
    });
    Tensor::cat(parts.collect(), 0)
}

/// G of a range of units and outputs, `[u, c·p, d]`, with pruned entries zero.
fn gradients(tap: &MatrixTap, input: &Tensor<3>, units: Range<usize>, outputs: Range<usize>) -> Tensor<3> {
    let (u, c, p, d, t) = (units.len(), tap.columns(), outputs.len(), tap.inputs(), tap.positions());
    let cotangent = tap.cotangent(units, outputs.clone()).reshape([u, c * p, t]);
    let product = cotangent.matmul(input.clone().swap_dims(1, 2));
    match tap.keep() {
        None => product,
        Some(keep) => {
            let keep = keep.slice([outputs]).reshape([1, 1, p, d]);
            (product.reshape([u, c, p, d]) * keep).reshape([u, c * p, d])
        }
    }
}

/// Adds up parts `[n]` in float64 on the host, with one transfer. A part may come in pieces, in order.
fn sum_parts(parts: &mut Vec<Tensor<1>>, n: usize) -> Result<Vec<f64>, CurvatureError> {
    let mut sum = vec![0.0; n];
    if parts.is_empty() {
        return Ok(sum);
    }
    let all = read(Tensor::cat(std::mem::take(parts), 0))?;
    for part in all.chunks_exact(n) {
        sum.iter_mut().zip(part).for_each(|(sum, &v)| *sum += f64::from(v));
    }
    Ok(sum)
}

fn one_column(frame: &Frame) -> Result<(), CurvatureError> {
    if frame.columns == 1 {
        return Ok(());
    }
    Err(CurvatureError::Argument {
        field: "columns",
        got: frame.columns.to_string(),
        expected: "1: this quantity is of one gradient a sample",
    })
}
