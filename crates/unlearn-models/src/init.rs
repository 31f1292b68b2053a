//! First weights, drawn on the host.
//!
//! Burn draws from one generator a process and only when a parameter is first touched, so equal
//! seeds need not give equal weights. Here every weight comes from a generator that the caller
//! hands in, in the order in which the module is walked.

pub(crate) mod pytorch;
pub(crate) mod transformer;

use burn::Tensor;
use burn::module::Param;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::{Device, TensorData};
use rand::{Rng, RngExt};
use rand_distr::StandardNormal;

/// Which of a layer's two widths sets the variance (He et al. 2015, §2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fan {
    /// Inputs of one output: keeps the variance of activations.
    In,
    /// Outputs of one input: keeps the variance of gradients.
    Out,
}

/// A square convolution without bias, `[n, channels_in, h, w]` → `[n, channels_out, h', w']`,
/// padded by half its kernel. Weights are N(0, 2 / fan) (He et al. 2015, eqs. 10 and 14).
pub(crate) fn conv2d(
    [channels_in, channels_out]: [usize; 2],
    kernel: usize,
    stride: usize,
    fan: Fan,
    device: &Device,
    rng: &mut impl Rng,
) -> Conv2d {
    let pad = kernel / 2;
    let width = match fan {
        Fan::In => channels_in * kernel * kernel,
        Fan::Out => channels_out * kernel * kernel,
    };
    let mut layer = Conv2dConfig::new([channels_in, channels_out], [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
        .with_bias(false)
        .init(device);
    let shape = [channels_out, channels_in, kernel, kernel];
    layer.weight = normal(shape, (2.0 / width as f64).sqrt(), device, rng);
    layer
}

/// Scale one, shift zero, running mean zero, running variance one; epsilon 1e-5, momentum 0.1.
pub(crate) fn batch_norm(channels: usize, device: &Device) -> BatchNorm {
    let mut layer = BatchNormConfig::new(channels).with_epsilon(1e-5).with_momentum(0.1).init(device);
    layer.gamma = parameter(vec![1.0; channels], [channels], device);
    layer.beta = parameter(vec![0.0; channels], [channels], device);
    layer
}

/// The last layer, with PyTorch's default: weights and biases uniform within ±1/√inputs.
pub(crate) fn linear(inputs: usize, outputs: usize, device: &Device, rng: &mut impl Rng) -> Linear {
    let bound = 1.0 / (inputs as f64).sqrt();
    let mut layer = LinearConfig::new(inputs, outputs).init(device);
    layer.weight = uniform([inputs, outputs], bound, device, rng);
    layer.bias = Some(uniform([outputs], bound, device, rng));
    layer
}

/// The last layer of the CIFAR family: weights N(0, 2 / inputs), biases uniform within ±1/√inputs.
pub(crate) fn linear_kaiming(inputs: usize, outputs: usize, device: &Device, rng: &mut impl Rng) -> Linear {
    let mut layer = LinearConfig::new(inputs, outputs).init(device);
    layer.weight = normal([inputs, outputs], (2.0 / inputs as f64).sqrt(), device, rng);
    layer.bias = Some(uniform([outputs], 1.0 / (inputs as f64).sqrt(), device, rng));
    layer
}

fn normal<const D: usize>(
    shape: [usize; D],
    deviation: f64,
    device: &Device,
    rng: &mut impl Rng,
) -> Param<Tensor<D>> {
    let values = (0..shape.iter().product())
        .map(|_| (deviation * rng.sample::<f64, _>(StandardNormal)) as f32)
        .collect();
    parameter(values, shape, device)
}

pub(crate) fn uniform<const D: usize>(
    shape: [usize; D],
    bound: f64,
    device: &Device,
    rng: &mut impl Rng,
) -> Param<Tensor<D>> {
    let values =
        (0..shape.iter().product()).map(|_| (bound * (2.0 * rng.random::<f64>() - 1.0)) as f32).collect();
    parameter(values, shape, device)
}

pub(crate) fn parameter<const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    device: &Device,
) -> Param<Tensor<D>> {
    Param::from_data(TensorData::new(values, shape), device)
}
