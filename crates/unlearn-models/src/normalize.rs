//! Normalisation of pixels as the first layer of a model.

use burn::Tensor;
use burn::module::{Module, Param};
use burn::tensor::{Device, TensorData};
use unlearn_curvature::tape::{Tape, Var};

use crate::ModelError;

/// The most channels that a picture may have. A file says how many, and memory is asked for by it.
pub const MAX_CHANNELS: usize = 1_024;

/// Per-channel `(x − mean) / std` with constants of the data set. They are part of the model, so
/// that a checkpoint says how its pictures were scaled, and are never trained.
#[derive(Module, Debug)]
pub struct Normalize {
    /// `[channels]`, of pixels in `[0, 1]`.
    pub mean: Param<Tensor<1>>,
    /// `[channels]`, above zero.
    pub std: Param<Tensor<1>>,
}

impl Normalize {
    /// The layer for these constants, one of each a channel.
    ///
    /// # Errors
    /// [`ModelError::Config`] when the lists are empty, longer than [`MAX_CHANNELS`], of unequal length, not finite, or a
    /// deviation is not above zero.
    pub fn new(mean: &[f32], std: &[f32], device: &Device) -> Result<Self, ModelError> {
        if mean.is_empty() || mean.len() != std.len() || mean.len() > MAX_CHANNELS {
            return Err(ModelError::Config {
                field: "normalize",
                got: format!("{} means and {} deviations", mean.len(), std.len()),
                expected: format!("one of each a colour channel, at most {MAX_CHANNELS}"),
                mend: "take the constants of the data set",
            });
        }
        if let Some(bad) = mean.iter().find(|m| !m.is_finite()) {
            return Err(ModelError::Config {
                field: "normalize.mean",
                got: bad.to_string(),
                expected: "finite".to_owned(),
                mend: "take the constants of the data set",
            });
        }
        if let Some(bad) = std.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
            return Err(ModelError::Config {
                field: "normalize.std",
                got: bad.to_string(),
                expected: "finite and above zero".to_owned(),
                mend: "a channel without variation is scaled by 1",
            });
        }
        let constant = |values: &[f32]| {
            let data = TensorData::new(values.to_vec(), [values.len()]);
            Param::<Tensor<1>>::from_data(data, device).set_require_grad(false)
        };
        Ok(Self { mean: constant(mean), std: constant(std) })
    }

    /// `[n, channels, h, w]` → the same shape.
    pub(crate) fn forward_on(&self, images: Var<4>, tape: &mut dyn Tape) -> Var<4> {
        tape.normalize(&self.mean.val(), &self.std.val(), images)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_must_be_those_of_a_picture() {
        let of = |mean: &[f32], std: &[f32]| Normalize::new(mean, std, &Device::flex());
        assert!(of(&[0.5; 3], &[0.5; 3]).is_ok());
        let many = vec![0.5; MAX_CHANNELS + 1];
        for (mean, std) in [(&many[..], &many[..]), (&[], &[]), (&[0.5], &[0.5, 0.5]), (&[0.5], &[0.0])] {
            assert!(of(mean, std).is_err(), "{} {}", mean.len(), std.len());
        }
    }
}
