//! Squared norms of per-sample gradients.

use burn::Tensor;

use super::{Piece, Reduce, Route, blocks, cut, rows_of_gradients, sum_parts};
use crate::CurvatureError;
use crate::sweep::{Frame, MatrixTap, VectorTap};

/// Σ_c ‖g\[u, c\]‖² of every unit.
#[derive(Debug)]
pub struct Norms {
    parts: Vec<Tensor<1>>,
    squared: Vec<f64>,
    forced: Option<Route>,
    bytes: usize,
}

impl Norms {
    /// For `units` units in all; `bytes` bounds the temporaries of one layer, `forced` overrides the choice
    /// of route wherever it can serve.
    pub fn new(units: usize, bytes: usize, forced: Option<Route>) -> Self {
        Self { parts: Vec::new(), squared: vec![0.0; units], forced, bytes }
    }

    /// The squared norms, one a unit.
    pub fn finish(self) -> Vec<f64> {
        self.squared
    }

    /// Ghost norms cost t²(p + d), direct ones t·p·d (Li et al. 2022; Bu et al. 2023: "mixed ghost"). A pruned
    /// weight has no ghost.
    fn route(&self, tap: &MatrixTap) -> Route {
        let (p, d, t) = (tap.columns() * tap.outputs(), tap.inputs(), tap.positions());
        let best = if 2 * t * t <= p * d { Route::Ghost } else { Route::Direct };
        if tap.keep().is_some() { Route::Direct } else { self.forced.unwrap_or(best) }
    }
}

impl Reduce for Norms {
    fn matrix(&mut self, _: &Frame, tap: &MatrixTap) -> Result<(), CurvatureError> {
        let (c, d, t) = (tap.columns(), tap.inputs(), tap.positions());
        match self.route(tap) {
            Route::Direct => {
                let count = |u: usize, p: usize| u * (2 * c * p * d + d * t + c * p * t);
                let (units, outputs) = cut(self.bytes, tap.units(), tap.outputs(), count);
                for range in blocks(tap.units(), units) {
                    let u = range.len();
                    let mut sum = Tensor::<1>::zeros([u], &tap.device());
                    for outputs in blocks(tap.outputs(), outputs) {
                        let rows = rows_of_gradients(
                            tap,
                            range.clone(),
                            &Piece::outputs(outputs),
                            false,
                            self.bytes,
                        );
                        sum = sum + rows.square().sum_dim(1).reshape([u]);
                    }
                    self.parts.push(sum);
                }
            }
            Route::Ghost => {
                let p = tap.outputs();
                let count = |u: usize, _: usize| u * (3 * t * t + d * t + c * p * t);
                let (units, _) = cut(self.bytes, tap.units(), 1, count);
                for range in blocks(tap.units(), units) {
                    let u = range.len();
                    let input = tap.input(range.clone()); // [u, d, t]
                    let cotangent = tap.cotangent(range, 0..p).reshape([u, c * p, t]);
                    let inputs = input.clone().swap_dims(1, 2).matmul(input);
                    let cotangents = cotangent.clone().swap_dims(1, 2).matmul(cotangent);
                    self.parts.push((inputs * cotangents).reshape([u, t * t]).sum_dim(1).reshape([u]));
                }
            }
        }
        Ok(())
    }

    fn vector(&mut self, _: &Frame, tap: &VectorTap) -> Result<(), CurvatureError> {
        let gradient = tap.gradient();
        let [u, c, p] = gradient.dims();
        self.parts.push(gradient.square().reshape([u, c * p]).sum_dim(1).reshape([u]));
        Ok(())
    }

    fn end(&mut self, frame: &Frame) -> Result<(), CurvatureError> {
        let sums = sum_parts(&mut self.parts, frame.units)?;
        for ((total, sum), scale) in self.squared[frame.first..].iter_mut().zip(sums).zip(&frame.scales) {
            *total += sum * scale * scale;
        }
        Ok(())
    }
}
