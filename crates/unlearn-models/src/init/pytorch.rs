//! First weights as PyTorch's constructors draw them, for comparison with programs that leave them so.

use std::collections::BTreeMap;

use rand::{Rng, RngExt};

use crate::{HostTensor, StateDict};

/// Draws all convolutions and linear layers anew: weights and biases uniform within ±1/√fan-in, as
/// `Conv2d` and `Linear` of PyTorch begin (He et al. 2015's uniform form with a = √5 is just that). Norms and
/// statistics stay. In order of names, so that equal generators give equal weights.
///
/// Made for residual networks: embeddings and class tokens of a transformer are no such layers, and stay.
pub fn redraw_as_pytorch(state: &mut StateDict, rng: &mut impl Rng) {
    let matrices = state.iter().filter(|(name, t)| name.ends_with(".weight") && t.shape.len() > 1);
    // `[outputs, inputs, …kernel]` on disk, whatever the layer.
    let bounds: BTreeMap<String, f64> = matrices
        .map(|(name, tensor)| {
            let fan_in: usize = tensor.shape[1..].iter().product();
            (name.trim_end_matches("weight").to_owned(), 1.0 / (fan_in.max(1) as f64).sqrt())
        })
        .collect();
    for (layer, bound) in bounds {
        for name in ["weight", "bias"].map(|part| format!("{layer}{part}")) {
            if let Some(HostTensor { values, .. }) = state.get_mut(&name) {
                values.fill_with(|| (bound * (2.0 * rng.random::<f64>() - 1.0)) as f32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;
    use crate::ResNetConfig;

    #[test]
    fn layers_are_uniform_within_the_bound_and_norms_stay() {
        let mut rng = StdRng::seed_from_u64(7);
        let config = ResNetConfig::resnet18(10).with_width(8);
        let model = config.init(&[0.5; 3], &[0.25; 3], &Device::flex(), &mut rng).unwrap();
        let before = StateDict::of(&model).unwrap();
        let mut after = before.clone();
        redraw_as_pytorch(&mut after, &mut rng);
        let mut drawn = 0;
        for (name, tensor) in after.iter() {
            let old = before.get(name).unwrap();
            assert_eq!(tensor.shape, old.shape, "{name}");
            let fan_in: usize = match name {
                "fc.bias" => 64,
                _ if tensor.shape.len() > 1 => tensor.shape[1..].iter().product(),
                _ => {
                    assert_eq!(tensor.values, old.values, "{name} is no layer's");
                    continue;
                }
            };
            let bound = 1.0 / (fan_in as f64).sqrt();
            let largest = tensor.values.iter().map(|v| f64::from(v.abs())).fold(0.0, f64::max);
            assert!(largest <= bound * (1.0 + 1e-6), "{name}: {largest} above {bound}");
            assert_ne!(tensor.values, old.values, "{name} was not drawn");
            // The mean square of n draws of U(-b, b) is b²/3, its deviation b² √(4/45 / n): six of these.
            let n = tensor.values.len() as f64;
            let square = tensor.values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / n;
            let apart = (square / bound.powi(2) - 1.0 / 3.0).abs();
            assert!(apart < 6.0 * (4.0 / 45.0 / n).sqrt(), "{name}: mean square {square}, bound {bound}");
            drawn += 1;
        }
        assert_eq!(drawn, 22, "20 convolutions of a ResNet-18, weight and bias of its last layer");
    }
}
