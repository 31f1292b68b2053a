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
        let Scalar::UInt(time) = source.take_scalar(&prefix, TIME)? else { return None };
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

#[cfg(test)]
mod tests {
    use super::*;
    use burn::optim::AdamWConfig;
    use burn_pack::Scalar;

    /// A run that was begun with Burn's optimizer goes on with this one.
    #[test]
    fn a_state_of_burns_optimizer_is_understood() {
        let device = Device::flex();
        let theirs = AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(0.01).build();
        let ours = AdamW(Adam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.01 });
        let gradient = |i: i32| Tensor::<1>::from_floats([0.3, -2.0, 1e-4], &device) * f64::from(i);
        let (mut value, mut state) = (Tensor::<1>::from_floats([1.0, 2.0, 3.0], &device), None);
        for i in 1..=3 {
            (value, state) = theirs.step(0.1, value, gradient(i), state);
        }
        let mut sink = StateSink::default();
        state.clone().unwrap().state_flatten("w:state", &mut sink);
        let scalars = sink.scalars.iter().cloned().collect();
        let mut source = StateSource::new(scalars);
        for (name, data) in &sink.tensors {
            source.insert_tensor(name.clone(), data.clone());
        }
        let read = AdamWState::<1>::state_unflatten("w:state", &mut source, &device).unwrap();
        assert_eq!(read.time, 3);
        let mut back = StateSink::default();
        read.state_flatten("w:state", &mut back);
        let names = |sink: &StateSink| -> Vec<String> {
            let tensors = sink.tensors.iter().map(|(name, _)| name.clone());
            let mut names: Vec<_> =
                tensors.chain(sink.scalars.iter().map(|(name, _)| name.clone())).collect();
            names.sort();
            names
        };
        assert_eq!(names(&back), names(&sink));
        let host = |t: Tensor<1>| t.into_data().try_into_vec_as::<f32>().unwrap();
        let (next, _) = ours.step(0.1, value.clone(), gradient(4), Some(read));
        let (expected, _) = theirs.step(0.1, value, gradient(4), state);
        for (got, expected) in host(next).into_iter().zip(host(expected)) {
            // Theirs corrects in float32: 1 − β₂⁴ has an error of 2⁻²⁴ / 0.004, half of which the square root leaves, of
            // a step of 0.1.
            assert!((got - expected).abs() < 2e-6, "{got} {expected}");
        }
        // Without its count, or with another kind of it, a state is not taken.
        let mut none = StateSource::new(std::collections::BTreeMap::new());
        assert!(AdamWState::<1>::state_unflatten("w:state", &mut none, &device).is_none());
        let count = [("w:state.momentum.time".to_owned(), Scalar::Float(3.0))];
        let mut other = StateSource::new(count.into_iter().collect());
        assert!(AdamWState::<1>::state_unflatten("w:state", &mut other, &device).is_none());
    }
}
