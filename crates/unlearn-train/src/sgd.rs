//! Stochastic gradient descent as one of Burn's per-parameter optimizers.
//!
//! Burn's own makes five passes over memory on one thread, a sixth of a step of a ResNet-18 on two cores; this one
//! makes one on several where the device has a kernel ([`unlearn_curvature::fused`]).

use burn::optim::{Optimizer, RecordState, StateSink, StateSource};
use burn::tensor::{Device, Tensor, TensorData};
use unlearn_curvature::fused::Descent;

/// PyTorch's rule; see [`Descent`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sgd(pub(crate) Descent);

/// The velocity of one parameter; none without momentum.
#[derive(Debug, Clone)]
pub(crate) struct SgdState<const D: usize> {
    velocity: Option<Tensor<D>>,
}

/// Where a state keeps its velocity: under the name that Burn's optimizer gives it.
const FIELD: (&str, &str) = ("momentum", "velocity");

fn below(prefix: &str) -> String {
    format!("{prefix}.{}", FIELD.0)
}

impl<const D: usize> RecordState for SgdState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        if let Some(velocity) = &self.velocity {
            out.push_tensor(&below(prefix), FIELD.1, velocity.to_data());
        }
    }

    fn state_unflatten(prefix: &str, source: &mut StateSource, device: &Device) -> Option<Self> {
        let data: TensorData = source.take_tensor(&below(prefix), FIELD.1)?;
        (data.shape().len() == D).then(|| Self { velocity: Some(Tensor::from_data(data, device)) })
    }
}

impl Optimizer for Sgd {
    type State<const D: usize> = SgdState<D>;

    fn step<const D: usize>(
        &self,
        rate: f64,
        value: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<SgdState<D>>,
    ) -> (Tensor<D>, Option<SgdState<D>>) {
        let (value, velocity) = self.0.step(rate, value, gradient, state.and_then(|state| state.velocity));
        (value, Some(SgdState { velocity }))
    }

    fn to_device<const D: usize>(state: SgdState<D>, device: &Device) -> SgdState<D> {
        SgdState { velocity: state.velocity.map(|velocity| velocity.to_device(device)) }
    }
}
