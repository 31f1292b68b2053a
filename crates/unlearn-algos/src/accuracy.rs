//! Share of right answers on training data, for methods that stop by it.

use unlearn_data::{Dataset, Loader};
use unlearn_models::Classifier;

use crate::UnlearnError;

/// Share of the samples at `indices` that `model`, on a plain device, gets right, 0–1.
pub(crate) fn accuracy<M: Classifier>(
    model: &M,
    dataset: &Dataset,
    indices: &[usize],
    batch_size: usize,
) -> Result<f64, UnlearnError> {
    let loader = Loader::new(dataset, indices, batch_size)?;
    let Some(device) = model.devices().into_iter().next() else { return Ok(0.0) };
    let mut correct = 0;
    for batch in loader.epoch(0) {
        let batch = batch.to_device(&device.clone().without_autodiff());
        let answers = model.forward(batch.images).argmax(1).squeeze_dim::<1>(1);
        let right = answers.equal(batch.targets).int().sum();
        let right = right
            .try_into_data()
            .map_err(|e| unlearn_curvature::CurvatureError::Read { reason: e.to_string() })?;
        correct += right.iter::<i64>().sum::<i64>();
    }
    Ok(correct as f64 / indices.len() as f64)
}
