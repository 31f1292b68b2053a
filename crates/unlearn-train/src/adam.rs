//! Adam with decoupled weight decay as one of Burn's per-parameter optimizers.
//!
//! Burn's own makes sixteen passes over memory on one thread, and corrects for the first steps in float32; this one makes
//! one pass on several threads where the device has a kernel ([`unlearn_curvature::fused`]).

use burn::optim::{Optimizer, RecordState, StateSink, StateSource};
use burn::tensor::{Device, Tensor};
use burn_pack::Scalar;
use unlearn_curvature::fused::{Adam, Moments};

/// PyTorch's rule; see [`Adam`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamW(pub(crate) Adam);

/// What is known of one parameter: steps done, and moments.
#[derive(Debug, Clone)]
pub(crate) struct AdamWState<const D: usize> {
    time: u64,
    moments: Moments<D>,
}

/// Where a state keeps what: under the names that Burn's optimizer gives them.
const TIME: &str = "time";
const FIRST: &str = "moment_1";
const SECOND: &str = "moment_2";

fn below(prefix: &str) -> String {
    format!("{prefix}.momentum")
}

impl<const D: usize> RecordState for AdamWState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        let prefix = below(prefix);
        out.push_scalar(&prefix, TIME, Scalar::UInt(self.time));
        out.push_tensor(&prefix, FIRST, self.moments.first.to_data());
        out.push_tensor(&prefix, SECOND, self.moments.second.to_data());
    }

    fn state_unflatten(prefix: &str, source: &mut StateSource, device: &Device) -> Option<Self> {
        let prefix = below(prefix);
        let time = match source.take_scalar(&prefix, TIME)? {
            Scalar::UInt(time) => time,
            Scalar::Int(time) => u64::try_from(time).ok()?,
            _ => return None,
        };
        let mut moment = |name| {
            let data = source.take_tensor(&prefix, name)?;
            (data.shape().len() == D).then(|| Tensor::from_data(data, device))
        };
        Some(Self { time, moments: Moments { first: moment(FIRST)?, second: moment(SECOND)? } })
    }
}

impl Optimizer for AdamW {
    type State<const D: usize> = AdamWState<D>;

    fn step<const D: usize>(
        &self,
        rate: f64,
        value: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<AdamWState<D>>,
    ) -> (Tensor<D>, Option<AdamWState<D>>) {
        let (time, moments) = state.map_or((0, None), |state| (state.time, Some(state.moments)));
        let time = time + 1;
        let (value, moments) = self.0.step(rate, time, value, gradient, moments);
        (value, Some(AdamWState { time, moments }))
    }

    fn to_device<const D: usize>(state: AdamWState<D>, device: &Device) -> AdamWState<D> {
        let Moments { first, second } = state.moments;
        let moments = Moments { first: first.to_device(device), second: second.to_device(device) };
        AdamWState { moments, ..state }
    }
}
