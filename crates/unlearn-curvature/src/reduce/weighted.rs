//! Weighted sums of per-sample gradients.

use burn::Tensor;
use burn::tensor::{Device, TensorData};

use super::accumulator::Accumulator;
use super::{Reduce, blocks, cut, one_column};
use crate::sweep::{Frame, MatrixTap, VectorTap};
use crate::{CurvatureError, ParamTree};

/// Σ_u w_u g_u.
#[derive(Debug)]
pub struct WeightedGradient {
    sums: Accumulator,
    weights: Vec<f64>,
    bytes: usize,
}

impl WeightedGradient {
    /// With one weight a unit of the whole run; `bytes` bounds the temporaries of one layer.
    pub fn new(weights: Vec<f64>, bytes: usize) -> Self {
        Self { sums: Accumulator::default(), weights, bytes }
    }

    /// The weights, to be set before the sweeps of their units.
    pub(crate) fn weights_mut(&mut self) -> &mut [f64] {
        &mut self.weights
    }

    /// The sum.
    ///
    /// # Errors
    /// None that a sweep has not met before.
    pub fn finish(self) -> Result<ParamTree, CurvatureError> {
        self.sums.finish()
    }

    /// The weights of this sweep's units on the true scale, `[u]`.
    fn weights(&self, frame: &Frame, device: &Device) -> Tensor<1> {
        let weights: Vec<f32> = self.weights[frame.first..frame.first + frame.units]
            .iter()
            .zip(&frame.scales)
            .map(|(weight, scale)| (weight * scale) as f32)
            .collect();
        Tensor::from_data(TensorData::new(weights, [frame.units]), device)
    }
}

impl Reduce for WeightedGradient {
    fn matrix(&mut self, frame: &Frame, tap: &MatrixTap) -> Result<(), CurvatureError> {
        one_column(frame)?;
        let (p, d, t) = (tap.outputs(), tap.inputs(), tap.positions());
        let (units, _) = cut(self.bytes, tap.units(), 1, |u, _| 2 * u * t * (p + d));
        let mut sum = tap.fused_sum(self.weights(frame, &tap.device()));
        // Nothing is left for Burn's operations where a kernel served.
        let rest = if sum.is_some() { 0 } else { tap.units() };
        for range in blocks(rest, units) {
            let u = range.len();
            let cotangent = tap.cotangent(range.clone(), 0..p).reshape([u, p, t]);
            let weights = self.weights(frame, &cotangent.device()).slice([range.clone()]).reshape([u, 1, 1]);
            let cotangent = (cotangent * weights).swap_dims(0, 1).reshape([p, u * t]);
            let input = tap.input(range).swap_dims(1, 2).reshape([u * t, d]);
            let part = cotangent.matmul(input);
            sum = Some(match sum {
                Some(sum) => sum + part,
                None => part,
            });
        }
        let Some(mut sum) = sum else { return Ok(()) };
        if let Some(keep) = tap.keep() {
            sum = sum * keep;
        }
        self.sums.add(tap.path(), tap.shape(), tap.flat(sum));
        Ok(())
    }

    fn vector(&mut self, frame: &Frame, tap: &VectorTap) -> Result<(), CurvatureError> {
        one_column(frame)?;
        let gradient = tap.gradient();
        let [u, _, p] = gradient.dims();
        let weights = self.weights(frame, &gradient.device()).reshape([1, u]);
        let sum = weights.matmul(gradient.reshape([u, p])).reshape([p]);
        self.sums.add(tap.path(), tap.shape(), sum);
        Ok(())
    }
}
