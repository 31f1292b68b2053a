//! One step: loss, gradient, the look at both, and the move.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use unlearn_curvature::fused::sum_of_squares;
use unlearn_models::Classifier;

use crate::TrainError;

/// What a step reads off the device, all of it at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) loss: f64,
    pub(crate) correct: usize,
    /// Σ g² over all gradients.
    pub(crate) gradient_squares: f64,
    /// Sum of the buffers of rank one (running statistics, this batch included): not finite when
    /// one of them is not.
    pub(crate) buffers: f64,
}

impl Reading {
    /// Reads `loss` (`[1]`), the right answers of `logits` (`[n, k]`) for `targets`, the gradients
    /// and the running statistics.
    pub(crate) fn take<M: Classifier>(
        model: &M,
        gradients: &GradientsParams,
        loss: Tensor<1>,
        logits: Tensor<2>,
        targets: Tensor<1, burn::prelude::Int>,
    ) -> Result<Self, TrainError> {
        let correct = logits.argmax(1).squeeze_dim::<1>(1).equal(targets).int().sum().float();
        let mut sums = Sums { gradients: Some(gradients), squares: Vec::new(), values: Vec::new() };
        // `valid` also brings the running statistics up to date, which lag by one batch.
        model.valid().visit(&mut sums);
        let of_gradients = sums.squares.len();
        let mut all = vec![loss, correct];
        all.append(&mut sums.squares);
        all.append(&mut sums.values);
        let values = read(all)?;
        let (head, rest) = values.split_at(2);
        let (squares, buffers) = rest.split_at(of_gradients);
        Ok(Self {
            loss: f64::from(head[0]),
            correct: head[1] as usize,
            gradient_squares: squares.iter().copied().map(f64::from).sum(),
            buffers: buffers.iter().copied().map(f64::from).sum(),
        })
    }

    /// The first thing that is not finite.
    pub(crate) fn not_finite(&self) -> Option<&'static str> {
        [(self.loss, "loss"), (self.gradient_squares, "gradient"), (self.buffers, "running statistic")]
            .into_iter()
            .find(|(value, _)| !value.is_finite())
            .map(|(_, what)| what)
    }
}

/// Whether every float parameter and buffer of `model` is finite. `model` lies on a plain device.
pub(crate) fn is_finite<M: Module>(model: &M) -> Result<bool, TrainError> {
    let mut sums = Sums { gradients: None, squares: Vec::new(), values: Vec::new() };
    model.visit(&mut sums);
    Ok(read(sums.values)?.iter().all(|s| s.is_finite()))
}

/// Reads many `[1]` tensors in one transfer.
fn read(sums: Vec<Tensor<1>>) -> Result<Vec<f32>, TrainError> {
    if sums.is_empty() {
        return Ok(Vec::new());
    }
    let failed = |reason: String| TrainError::Read { reason };
    let data = Tensor::cat(sums, 0).try_into_data().map_err(|e| failed(e.to_string()))?;
    data.try_into_vec_as::<f32>().map_err(|e| failed(format!("{e:?}")))
}

/// Without gradients: the sum of every value. With them: the sum of squares of every gradient, and
/// the sum of every vector that has none.
struct Sums<'a> {
    gradients: Option<&'a GradientsParams>,
    squares: Vec<Tensor<1>>,
    values: Vec<Tensor<1>>,
}

impl ModuleVisitor for Sums<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        match self.gradients {
            None => self.values.push(sum(param.val())),
            Some(gradients) => match gradients.get::<D>(param.id) {
                Some(gradient) => self.squares.push(sum_of_squares(gradient)),
                None if D == 1 => self.values.push(sum(param.val())),
                None => {}
            },
        }
    }
}

/// The sum over all elements, `[1]`, row by row first: the order of additions then does not depend
/// on the number of threads, which a full reduction of a large tensor leaves open.
fn sum<const D: usize>(values: Tensor<D>) -> Tensor<1> {
    let dims = values.dims();
    let rows = dims.first().copied().unwrap_or(1).max(1);
    let columns = dims.iter().skip(1).product::<usize>();
    if D < 2 || columns == 0 {
        return values.sum();
    }
    values.reshape([rows, columns]).sum_dim(1).sum()
}

/// Scales all gradients by one factor.
pub(crate) fn scale<M: Module>(model: &M, gradients: GradientsParams, factor: f64) -> GradientsParams {
    let mut scaler = Scaler { gradients, factor };
    model.visit(&mut scaler);
    scaler.gradients
}

struct Scaler {
    gradients: GradientsParams,
    factor: f64,
}

impl ModuleVisitor for Scaler {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.gradients.register(param.id, gradient.mul_scalar(self.factor));
        }
    }
}

#[cfg(test)]
mod tests;
