//! What each operation computes. Index letters: n samples, c channels, h rows, w columns.

use burn::nn::conv::Conv2d;
use burn::nn::pool::MaxPool2d;
use burn::nn::{BatchNorm, LayerNorm, Linear};
use burn::tensor::{Tensor, activation, s};

use super::value::{AnyTensor, AnyVar};
use crate::layer::{conv, norm};

/// An operation of a model, with the layer whose parameters it uses.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Op<'a> {
    /// `(x − mean) / std` per channel; rank 4 → 4.
    Normalize {
        /// `[c]`
        mean: &'a Tensor<1>,
        /// `[c]`
        std: &'a Tensor<1>,
    },
    /// Convolution; rank 4 → 4.
    Conv2d(&'a Conv2d),
    /// Batch normalisation; rank 4 → 4.
    BatchNorm(&'a BatchNorm),
    /// Layer normalisation over the last dimension; keeps the rank.
    LayerNorm(&'a LayerNorm),
    /// `x W + b` over the last dimension; keeps the rank.
    Linear(&'a Linear),
    /// `max(x, 0)`; keeps the rank.
    Relu,
    /// `x Φ(x)`; keeps the rank.
    Gelu,
    /// `a + b`; keeps the rank.
    Add,
    /// Max pooling; rank 4 → 4.
    MaxPool2d(&'a MaxPool2d),
    /// Mean over positions; rank 4 → 2.
    GlobalAvgPool,
    /// Every second row and column, `pad` zero channels on both sides; rank 4 → 4.
    SubsamplePad {
        /// Zero channels added on each side.
        pad: usize,
    },
}

/// What an operation works on.
///
/// It lives for one call, so that boxing the larger variant would only cost.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)]
pub enum Inputs {
    /// One value.
    One(AnyVar),
    /// Two values.
    Two(AnyVar, AnyVar),
}

impl Inputs {
    /// The tensors without the tape's numbers.
    pub fn into_values(self) -> (AnyTensor, Option<AnyTensor>) {
        match self {
            Self::One(x) => (x.value, None),
            Self::Two(a, b) => (a.value, Some(b.value)),
        }
    }
}

/// Applies the same expression to a tensor of any rank.
macro_rules! each_rank {
    ($any:expr, $t:ident => $body:expr) => {
        match $any {
            AnyTensor::R2($t) => AnyTensor::R2($body),
            AnyTensor::R3($t) => AnyTensor::R3($body),
            AnyTensor::R4($t) => AnyTensor::R4($body),
        }
    };
}

impl Op<'_> {
    /// The operation's result.
    ///
    /// # Panics
    /// On ranks and numbers of inputs that the typed methods of [`Tape`](super::Tape) cannot
    /// produce.
    pub fn compute(&self, inputs: (AnyTensor, Option<AnyTensor>)) -> AnyTensor {
        match (self, inputs) {
            (Self::Normalize { mean, std }, (AnyTensor::R4(x), None)) => {
                let channels = x.dims()[1];
                let per_channel = |t: &Tensor<1>| t.clone().reshape([1, channels, 1, 1]);
                AnyTensor::R4((x - per_channel(mean)) / per_channel(std))
            }
            (Self::Conv2d(layer), (AnyTensor::R4(x), None)) => AnyTensor::R4(conv::forward(layer, x)),
            (Self::BatchNorm(layer), (AnyTensor::R4(x), None)) => AnyTensor::R4(norm::forward(layer, x)),
            (Self::LayerNorm(layer), (x, None)) => each_rank!(x, t => layer.forward(t)),
            (Self::Linear(layer), (x, None)) => each_rank!(x, t => layer.forward(t)),
            (Self::Relu, (x, None)) => each_rank!(x, t => activation::relu(t)),
            (Self::Gelu, (x, None)) => each_rank!(x, t => activation::gelu(t)),
            (Self::Add, (AnyTensor::R2(a), Some(AnyTensor::R2(b)))) => AnyTensor::R2(a + b),
            (Self::Add, (AnyTensor::R3(a), Some(AnyTensor::R3(b)))) => AnyTensor::R3(a + b),
            (Self::Add, (AnyTensor::R4(a), Some(AnyTensor::R4(b)))) => AnyTensor::R4(a + b),
            (Self::MaxPool2d(layer), (AnyTensor::R4(x), None)) => AnyTensor::R4(layer.forward(x)),
            (Self::GlobalAvgPool, (AnyTensor::R4(x), None)) => {
                let [n, c, h, w] = x.dims();
                AnyTensor::R2(x.reshape([n, c, h * w]).mean_dim(2).reshape([n, c]))
            }
            (Self::SubsamplePad { pad }, (AnyTensor::R4(x), None)) => AnyTensor::R4(subsample_pad(x, *pad)),
            (op, (x, y)) => {
                unreachable!("{op:?} cannot run on shapes {:?} and {:?}", x.dims(), y.map(|y| y.dims()))
            }
        }
    }
}

fn subsample_pad(x: Tensor<4>, pad: usize) -> Tensor<4> {
    let x = x.slice(s![.., .., ..;2, ..;2]);
    if pad == 0 {
        return x;
    }
    let [n, _, h, w] = x.dims();
    // The dtype of the input: float64 runs stay float64.
    let zeros = Tensor::<4>::zeros([n, pad, h, w], (&x.device(), x.dtype()));
    Tensor::cat(vec![zeros.clone(), x, zeros], 1)
}
