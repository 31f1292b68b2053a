//! What each operation computes. Index letters: n samples, c channels, h rows, w columns.

use burn::module::Param;
use burn::nn::conv::Conv2d;
use burn::nn::pool::MaxPool2d;
use burn::nn::{BatchNorm, Dropout, LayerNorm, Linear};
use burn::tensor::{Tensor, s};

use super::value::{AnyTensor, AnyVar};
use crate::layer::tokens::{self, TokenPool};
use crate::layer::{activation, attention, conv, linear, low_rank, norm};

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
    /// Batch normalisation and `max(x, 0)` of it; rank 4 → 4.
    BatchNormRelu(&'a BatchNorm),
    /// Layer normalisation over the last dimension; keeps the rank.
    LayerNorm(&'a LayerNorm),
    /// `x W + b` over the last dimension; keeps the rank.
    Linear(&'a Linear),
    /// A convolution and a narrow branch beside it (Hu et al. 2022): `layer(x) + factor · up(down(x))`; rank 4 → 4.
    BranchedConv2d {
        /// What stands beside the branch.
        layer: &'a Conv2d,
        /// Of the layer's kernel, stride, padding and dilation, with few outputs.
        down: &'a Conv2d,
        /// 1 × 1, from those to the layer's outputs.
        up: &'a Conv2d,
        /// What the branch is multiplied by.
        factor: f64,
    },
    /// The same of linear layers; keeps the rank.
    BranchedLinear {
        /// What stands beside the branch.
        layer: &'a Linear,
        /// From the layer's inputs to few.
        down: &'a Linear,
        /// From those to the layer's outputs.
        up: &'a Linear,
        /// What the branch is multiplied by.
        factor: f64,
    },
    /// `max(x, 0)`; keeps the rank.
    Relu,
    /// `x Φ(x)`; keeps the rank.
    Gelu,
    /// `a + b`; keeps the rank.
    Add,
    /// `max(a + b, 0)`; rank 4 → 4.
    AddRelu,
    /// `factor · x`; keeps the rank.
    Scale {
        /// A constant.
        factor: f64,
    },
    /// Max pooling; rank 4 → 4.
    MaxPool2d(&'a MaxPool2d),
    /// Mean over positions; rank 4 → 2.
    GlobalAvgPool,
    /// Every second row and column, `pad` zero channels on both sides; rank 4 → 4.
    SubsamplePad {
        /// Zero channels added on each side.
        pad: usize,
    },
    /// Positions as tokens, row by row; rank 4 → 3.
    Tokens,
    /// Puts learned tokens, `[1, k, d]`, before the others; rank 3 → 3.
    ClassToken(&'a Param<Tensor<3>>),
    /// Adds learned vectors, `[1, t, d]`, one a token; rank 3 → 3.
    Position(&'a Param<Tensor<3>>),
    /// softmax(q kᵀ / √(d / heads)) v of three values q, k and v; rank 3 → 3.
    Attention {
        /// A divisor of d.
        heads: usize,
    },
    /// Zeroes entries at random in training, does nothing else; keeps the rank.
    Dropout(&'a Dropout),
    /// One vector a sample; rank 3 → 2.
    Pool(TokenPool),
}

/// One, two or three of something.
///
/// It lives for one call, so that boxing the larger variants would only cost.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)]
pub enum Operands<T> {
    /// One value.
    One(T),
    /// Two values.
    Two(T, T),
    /// Three values.
    Three(T, T, T),
}

/// What an operation works on.
pub type Inputs = Operands<AnyVar>;

impl Inputs {
    /// The tensors without the tape's numbers.
    pub fn into_values(self) -> Operands<AnyTensor> {
        match self {
            Self::One(x) => Operands::One(x.value),
            Self::Two(a, b) => Operands::Two(a.value, b.value),
            Self::Three(a, b, c) => Operands::Three(a.value, b.value, c.value),
        }
    }

    /// The values in order.
    pub(crate) fn each(&self) -> [Option<&AnyVar>; 3] {
        match self {
            Self::One(x) => [Some(x), None, None],
            Self::Two(a, b) => [Some(a), Some(b), None],
            Self::Three(a, b, c) => [Some(a), Some(b), Some(c)],
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
    pub fn compute(&self, inputs: Operands<AnyTensor>) -> AnyTensor {
        use Operands::{One, Three, Two};
        match (self, inputs) {
            (Self::Normalize { mean, std }, One(AnyTensor::R4(x))) => {
                let channels = x.dims()[1];
                let per_channel = |t: &Tensor<1>| t.clone().reshape([1, channels, 1, 1]);
                AnyTensor::R4((x - per_channel(mean)) / per_channel(std))
            }
            (Self::Conv2d(layer), One(AnyTensor::R4(x))) => AnyTensor::R4(conv::forward(layer, x)),
            (Self::BatchNorm(layer), One(AnyTensor::R4(x))) => AnyTensor::R4(norm::forward(layer, x)),
            (Self::BatchNormRelu(layer), One(AnyTensor::R4(x))) => {
                AnyTensor::R4(norm::forward_relu(layer, x))
            }
            (Self::LayerNorm(layer), One(x)) => each_rank!(x, t => norm::layer_forward(layer, t)),
            (Self::Linear(layer), One(x)) => each_rank!(x, t => linear::forward(layer, t)),
            (Self::BranchedConv2d { layer, down, up, factor }, One(AnyTensor::R4(x))) => {
                AnyTensor::R4(low_rank::conv(layer, [down, up], *factor, x))
            }
            (Self::BranchedLinear { layer, down, up, factor }, One(x)) => {
                each_rank!(x, t => low_rank::linear(layer, [down, up], *factor, t))
            }
            (Self::Relu, One(x)) => each_rank!(x, t => burn::tensor::activation::relu(t)),
            (Self::Gelu, One(x)) => each_rank!(x, t => activation::gelu_forward(t)),
            (Self::Scale { factor }, One(x)) => each_rank!(x, t => t.mul_scalar(*factor)),
            (Self::Add, Two(AnyTensor::R2(a), AnyTensor::R2(b))) => AnyTensor::R2(a + b),
            (Self::Add, Two(AnyTensor::R3(a), AnyTensor::R3(b))) => AnyTensor::R3(a + b),
            (Self::Add, Two(AnyTensor::R4(a), AnyTensor::R4(b))) => AnyTensor::R4(a + b),
            (Self::AddRelu, Two(AnyTensor::R4(a), AnyTensor::R4(b))) => AnyTensor::R4(add_relu(a, b)),
            (Self::MaxPool2d(layer), One(AnyTensor::R4(x))) => AnyTensor::R4(layer.forward(x)),
            (Self::GlobalAvgPool, One(AnyTensor::R4(x))) => {
                let [n, c, h, w] = x.dims();
                AnyTensor::R2(x.reshape([n, c, h * w]).mean_dim(2).reshape([n, c]))
            }
            (Self::SubsamplePad { pad }, One(AnyTensor::R4(x))) => AnyTensor::R4(subsample_pad(x, *pad)),
            (Self::Tokens, One(AnyTensor::R4(x))) => AnyTensor::R3(tokens::of_positions(x)),
            (Self::ClassToken(token), One(AnyTensor::R3(x))) => {
                AnyTensor::R3(tokens::prepend(token.val(), x))
            }
            (Self::Position(position), One(AnyTensor::R3(x))) => AnyTensor::R3(x + position.val()),
            (Self::Attention { heads }, Three(AnyTensor::R3(q), AnyTensor::R3(k), AnyTensor::R3(v))) => {
                AnyTensor::R3(attention::forward(*heads, q, k, v))
            }
            (Self::Dropout(layer), One(x)) => each_rank!(x, t => layer.forward(t)),
            (Self::Pool(pool), One(AnyTensor::R3(x))) => AnyTensor::R2(pool.forward(x)),
            (op, inputs) => unreachable!("{op:?} cannot run on {inputs:?}"),
        }
    }
}

fn add_relu(a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if crate::flex::has_add_relu(&a, &b) {
        return crate::flex::add_relu(a, b);
    }
    burn::tensor::activation::relu(a + b)
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
