//! First weights of transformers: N(0, 0.02²), zero biases, as Hugging Face draws them.

use burn::Tensor;
use burn::module::Param;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::Device;
use rand::Rng;

use super::{normal, parameter};

/// `initializer_range` of `ViTConfig`.
const DEVIATION: f64 = 0.02;

/// A linear layer, `[…, inputs]` → `[…, outputs]`.
pub(crate) fn linear(inputs: usize, outputs: usize, device: &Device, rng: &mut impl Rng) -> Linear {
    let mut layer = LinearConfig::new(inputs, outputs).init(device);
    layer.weight = normal([inputs, outputs], DEVIATION, device, rng);
    layer.bias = Some(parameter(vec![0.0; outputs], [outputs], device));
    layer
}

/// The embedding of square patches: a convolution whose stride is its kernel.
pub(crate) fn patches(
    [channels, features]: [usize; 2],
    patch: usize,
    device: &Device,
    rng: &mut impl Rng,
) -> Conv2d {
    let mut layer =
        Conv2dConfig::new([channels, features], [patch, patch]).with_stride([patch, patch]).init(device);
    layer.weight = normal([features, channels, patch, patch], DEVIATION, device, rng);
    layer.bias = Some(parameter(vec![0.0; features], [features], device));
    layer
}

/// `count` learned vectors, `[1, count, features]`.
pub(crate) fn token(count: usize, features: usize, device: &Device, rng: &mut impl Rng) -> Param<Tensor<3>> {
    normal([1, count, features], DEVIATION, device, rng)
}

/// Scale one, shift zero.
pub(crate) fn layer_norm(features: usize, epsilon: f64, device: &Device) -> LayerNorm {
    let mut layer = LayerNormConfig::new(features).with_epsilon(epsilon).init(device);
    layer.gamma = parameter(vec![1.0; features], [features], device);
    layer.beta = Some(parameter(vec![0.0; features], [features], device));
    layer
}
