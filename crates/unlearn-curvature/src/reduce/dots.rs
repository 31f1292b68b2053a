//! Inner products of per-sample gradients with one direction.

use burn::Tensor;

use super::{Reduce, blocks, cut, one_column, sum_parts};
use crate::sweep::{Frame, MatrixTap, VectorTap};
use crate::{CurvatureError, Leaf, ParamPath, ParamTree};

/// ⟨g_u, v⟩ of every unit: Σ over weights of ⟨cotangent, V · input⟩.
#[derive(Debug)]
pub struct Dots {
    direction: ParamTree,
    parts: Vec<Tensor<1>>,
    totals: Vec<f64>,
    bytes: usize,
}

impl Dots {
    /// With `direction`, for `units` units in all; `bytes` bounds the temporaries of one layer.
    pub fn new(direction: ParamTree, units: usize, bytes: usize) -> Self {
        Self { direction, parts: Vec::new(), totals: vec![0.0; units], bytes }
    }

    /// The inner products so far, one a unit.
    pub(crate) fn totals(&self) -> &[f64] {
        &self.totals
    }

    /// The inner products, one a unit.
    pub fn finish(self) -> Vec<f64> {
        self.totals
    }

    fn leaf(&self, path: &ParamPath, shape: &[usize]) -> Result<Tensor<1>, CurvatureError> {
        match self.direction.get(path) {
            None => Err(CurvatureError::Keys { missing: vec![path.to_string()], unknown: Vec::new() }),
            Some(Leaf { shape: got, .. }) if got != shape => Err(CurvatureError::Shape {
                path: path.to_string(),
                got: got.clone(),
                expected: shape.to_vec(),
            }),
            Some(leaf) => Ok(leaf.values.clone()),
        }
    }
}

impl Reduce for Dots {
    fn matrix(&mut self, frame: &Frame, tap: &MatrixTap) -> Result<(), CurvatureError> {
        one_column(frame)?;
        let mut matrix = tap.matrix(self.leaf(tap.path(), tap.shape())?);
        if let Some(keep) = tap.keep() {
            matrix = matrix * keep;
        }
        let (p, d, t) = (tap.outputs(), tap.inputs(), tap.positions());
        let (units, _) = cut(self.bytes, tap.units(), 1, |u, _| u * t * (3 * p + d));
        for range in blocks(tap.units(), units) {
            let u = range.len();
            self.parts.push(tap.dots(range, &matrix).reshape([u]));
        }
        Ok(())
    }

    fn vector(&mut self, frame: &Frame, tap: &VectorTap) -> Result<(), CurvatureError> {
        one_column(frame)?;
        let direction = self.leaf(tap.path(), tap.shape())?;
        let gradient = tap.gradient();
        let [u, _, p] = gradient.dims();
        let dots = gradient.reshape([u, p]) * direction.reshape([1, p]);
        self.parts.push(dots.sum_dim(1).reshape([u]));
        Ok(())
    }

    fn end(&mut self, frame: &Frame) -> Result<(), CurvatureError> {
        let sums = sum_parts(&mut self.parts, frame.units)?;
        for ((total, sum), scale) in self.totals[frame.first..].iter_mut().zip(sums).zip(&frame.scales) {
            *total += sum * scale;
        }
        Ok(())
    }
}
