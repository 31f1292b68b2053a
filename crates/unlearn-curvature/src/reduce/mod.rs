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
