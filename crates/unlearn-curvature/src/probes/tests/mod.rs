//! Marked passes against the oracle and against the tape, and what they refuse.

mod agreement;
mod alone;
mod refusals;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, LayerNorm, LayerNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::{silu, softmax};
use burn::tensor::{Device, Tensor, s};

use super::Probes;
use crate::ParamTree;
use crate::oracle::Oracle;
use crate::sweep::tests::nets::{batch_norm, fill};

/// Largest difference to the oracle, relative to the largest entry of a parameter. Sums of at most 63 positions times
/// 45 products, rounded to float32 (6e-8), in 8 layers one behind the other, squared: √(63 · 45) · √8 · 2 · 6e-8.
const TOLERANCE: f32 = 2e-5;

/// Marked layers between operations that a tape does not have.
#[derive(Module, Debug)]
struct Odd {
    stem: Conv2d,
    norm: BatchNorm,
    twice: Conv2d,
    tokens: LayerNorm,
    keys: Linear,
    head: Linear,
}

fn odd(classes: usize) -> Odd {
    let device = Device::flex();
    let same = PaddingConfig2d::Explicit(1, 1, 1, 1);
    let conv = |from, to| Conv2dConfig::new([from, to], [3, 3]).with_padding(same.clone());
    fill(Odd {
        stem: conv(2, 3).init(&device),
        norm: batch_norm(3, 0.0),
        twice: conv(5, 5).init(&device),
        tokens: LayerNormConfig::new(5).init(&device),
        keys: LinearConfig::new(5, 4).init(&device),
        head: LinearConfig::new(5, classes).init(&device),
    })
}

/// What the layers of [`Odd`] are run on.
trait Layers {
    fn conv2d(&mut self, layer: &Conv2d, x: Tensor<4>) -> Tensor<4>;
    fn batch_norm(&mut self, layer: &BatchNorm, x: Tensor<3>) -> Tensor<3>;
    fn layer_norm(&mut self, layer: &LayerNorm, x: Tensor<3>) -> Tensor<3>;
    fn linear<const D: usize>(&mut self, layer: &Linear, x: Tensor<D>) -> Tensor<D>;
}

impl Layers for Probes {
    fn conv2d(&mut self, layer: &Conv2d, x: Tensor<4>) -> Tensor<4> {
        Self::conv2d(self, layer, x)
    }

    fn batch_norm(&mut self, layer: &BatchNorm, x: Tensor<3>) -> Tensor<3> {
        Self::batch_norm(self, layer, x)
    }

    fn layer_norm(&mut self, layer: &LayerNorm, x: Tensor<3>) -> Tensor<3> {
        Self::layer_norm(self, layer, x)
    }

    fn linear<const D: usize>(&mut self, layer: &Linear, x: Tensor<D>) -> Tensor<D> {
        Self::linear(self, layer, x)
    }
}

/// Burn's own layers.
struct Bare;

impl Layers for Bare {
    fn conv2d(&mut self, layer: &Conv2d, x: Tensor<4>) -> Tensor<4> {
        layer.forward(x)
    }

    fn batch_norm(&mut self, layer: &BatchNorm, x: Tensor<3>) -> Tensor<3> {
        layer.forward(x)
    }

    fn layer_norm(&mut self, layer: &LayerNorm, x: Tensor<3>) -> Tensor<3> {
        layer.forward(x)
    }

    fn linear<const D: usize>(&mut self, layer: &Linear, x: Tensor<D>) -> Tensor<D> {
        layer.forward(x)
    }
}

/// Pictures of 2×9×7. A concatenation with the pictures themselves, a layer that is used on two sizes, attention among
/// tokens.
fn through(net: &Odd, images: Tensor<4>, layers: &mut impl Layers) -> Tensor<2> {
    let x = layers.conv2d(&net.stem, images.clone());
    let [n, _, height, width] = x.dims();
    let x = layers.batch_norm(&net.norm, x.flatten::<3>(2, 3));
    let x = silu(x.reshape([n, 3, height, width]));
    let x = Tensor::cat(vec![x, images], 1);
    let y = layers.conv2d(&net.twice, x.clone()).tanh();
    let x = (x + y).slice(s![.., .., ..;2, ..;2]);
    let x = layers.conv2d(&net.twice, x).sin();
    let x = layers.layer_norm(&net.tokens, x.flatten::<3>(2, 3).swap_dims(1, 2));
    let keys = layers.linear(&net.keys, x.clone());
    let attention = softmax(keys.clone().matmul(keys.swap_dims(1, 2)), 2);
    let x = attention.matmul(x).max_dim(1).squeeze_dim::<2>(1);
    layers.linear(&net.head, x)
}

fn forward(net: &Odd, images: Tensor<4>, probes: &mut Probes) -> Tensor<2> {
    through(net, images, probes)
}

fn oracle(net: &Odd) -> Oracle<'static, Odd, impl Fn(&Odd, Tensor<4>) -> Tensor<2> + Sync + use<>> {
    Oracle::new(net, |net: &Odd, images| through(net, images, &mut Bare)).unwrap()
}

/// Whether two solutions of (λI + (1/N) Σ g gᵀ) k = v are as near as their gradients: the relative error of the matrix, at
/// most that of squares, times its condition, at most 1 + tr / λ.
#[track_caller]
fn same_solution(got: &ParamTree, expected: &ParamTree, norms: &[f64], lambda: f64) {
    let condition = 1.0 + norms.iter().sum::<f64>() / norms.len() as f64 / lambda;
    let apart = got.sub(expected).unwrap();
    let apart = (apart.dot_host(&apart).unwrap() / expected.dot_host(expected).unwrap()).sqrt();
    let bound = condition * f64::from(TOLERANCE);
    assert!(apart <= bound && bound < 0.01, "{apart:e} apart, {bound:e} allowed");
}
