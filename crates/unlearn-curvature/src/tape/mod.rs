//! The tape: a model states its forward pass once, as coarse operations, and whoever runs it
//! decides what is kept.
//!
//! [`Plain`] keeps nothing and is the ordinary forward pass. A recording tape can keep each
//! layer's input and later carry cotangents back through the same list of operations.
//!
//! ```text
//! model.forward_on(x, tape) ──► Op::Conv2d, Op::BatchNorm, Op::Relu, … ──► logits
//!                                    │
//!                             Plain: compute   Record: compute and keep
//! ```

mod apart;
mod ops;
mod plain;
pub mod record;
mod transformer;
mod value;

pub use crate::layer::tokens::TokenPool;
pub use apart::Apart;
pub use ops::{Inputs, Op, Operands};
pub use plain::Plain;
pub use record::{Record, Recording};
pub use value::{AnyTensor, Ranked, Var};

use burn::nn::conv::Conv2d;
use burn::nn::pool::MaxPool2d;
use burn::nn::{BatchNorm, LayerNorm, Linear};
use burn::tensor::Tensor;

use value::AnyVar;

/// Runs a model's operations one after another.
///
/// One method is required. It must compute what [`Op::compute`] computes, to rounding, and return
/// a value of the rank that the operation documents; whatever else it does (keep inputs, count,
/// trace) is its own business. A tape that looks at single operations takes joined ones
/// apart first ([`Op::apart`]). Models call the typed methods on `dyn Tape` below.
pub trait Tape {
    /// Runs `op` on `inputs`.
    fn run(&mut self, op: Op<'_>, inputs: Inputs) -> AnyVar;

    /// Takes a tensor from outside, for which nobody will ask a cotangent.
    fn input(&mut self, value: AnyTensor) -> AnyVar {
        AnyVar::untracked(value)
    }
}

impl dyn Tape + '_ {
    /// Brings a tensor onto the tape.
    pub fn constant<const D: usize>(&mut self, value: Tensor<D>) -> Var<D>
    where
        Tensor<D>: Ranked<D>,
    {
        Var::from_any(self.input(value.into_any()))
    }

    /// Per-channel `(x − mean) / std`; `x`, result `[n, c, h, w]`; `mean`, `std` `[c]`.
    pub fn normalize(&mut self, mean: &Tensor<1>, std: &Tensor<1>, x: Var<4>) -> Var<4> {
        self.one(Op::Normalize { mean, std }, x)
    }

    /// Convolution, `[n, i, h, w]` → `[n, o, h', w']`.
    pub fn conv2d(&mut self, layer: &Conv2d, x: Var<4>) -> Var<4> {
        self.one(Op::Conv2d(layer), x)
    }

    /// Batch normalisation over `[n, c, h, w]`. Batch statistics are used (and the running ones
    /// moved) only when the layer trains and `x` lies on an autodiff device.
    pub fn batch_norm(&mut self, layer: &BatchNorm, x: Var<4>) -> Var<4> {
        self.one(Op::BatchNorm(layer), x)
    }

    /// `max(y, 0)` of the batch norm y of `x`, as `batch_norm` gives it, in fewer passes over memory.
    pub fn batch_norm_relu(&mut self, layer: &BatchNorm, x: Var<4>) -> Var<4> {
        self.one(Op::BatchNormRelu(layer), x)
    }

    /// Layer normalisation over the last dimension, `[…, d]`.
    pub fn layer_norm<const D: usize>(&mut self, layer: &LayerNorm, x: Var<D>) -> Var<D>
    where
        Tensor<D>: Ranked<D>,
    {
        self.one(Op::LayerNorm(layer), x)
    }

    /// `y = x W + b` over the last dimension, `[…, d_input]` → `[…, d_output]`.
    pub fn linear<const D: usize>(&mut self, layer: &Linear, x: Var<D>) -> Var<D>
    where
        Tensor<D>: Ranked<D>,
    {
        self.one(Op::Linear(layer), x)
    }

    /// `max(x, 0)`.
    pub fn relu<const D: usize>(&mut self, x: Var<D>) -> Var<D>
    where
        Tensor<D>: Ranked<D>,
    {
        self.one(Op::Relu, x)
    }

    /// `x Φ(x)` with the error function (not the tanh approximation).
    pub fn gelu<const D: usize>(&mut self, x: Var<D>) -> Var<D>
    where
        Tensor<D>: Ranked<D>,
    {
        self.one(Op::Gelu, x)
    }

    /// `a + b`, equal shapes.
    pub fn add<const D: usize>(&mut self, a: Var<D>, b: Var<D>) -> Var<D>
    where
        Tensor<D>: Ranked<D>,
    {
        Var::from_any(self.run(Op::Add, Inputs::Two(a.into_any(), b.into_any())))
    }

    /// `max(a + b, 0)`, equal shapes `[n, c, h, w]`: the end of a residual block.
    pub fn add_relu(&mut self, a: Var<4>, b: Var<4>) -> Var<4> {
        Var::from_any(self.run(Op::AddRelu, Inputs::Two(a.into_any(), b.into_any())))
    }

    /// `factor · x`.
    pub fn scale<const D: usize>(&mut self, factor: f64, x: Var<D>) -> Var<D>
    where
        Tensor<D>: Ranked<D>,
    {
        self.one(Op::Scale { factor }, x)
    }

    /// Max pooling, `[n, c, h, w]` → `[n, c, h', w']`.
    pub fn max_pool2d(&mut self, layer: &MaxPool2d, x: Var<4>) -> Var<4> {
        self.one(Op::MaxPool2d(layer), x)
    }

    /// Mean over all positions, `[n, c, h, w]` → `[n, c]`.
    pub fn global_avg_pool(&mut self, x: Var<4>) -> Var<2> {
        self.one(Op::GlobalAvgPool, x)
    }

    /// The parameter-free shortcut of the CIFAR ResNets ("option A" of He et al. 2016, §3.3):
    /// every second row and column, and zero channels on both sides, `[n, i, h, w]` →
    /// `[n, i + 2·pad, ⌈h/2⌉, ⌈w/2⌉]`.
    pub fn subsample_pad(&mut self, pad: usize, x: Var<4>) -> Var<4> {
        self.one(Op::SubsamplePad { pad }, x)
    }

    fn one<const I: usize, const O: usize>(&mut self, op: Op<'_>, x: Var<I>) -> Var<O>
    where
        Tensor<I>: Ranked<I>,
        Tensor<O>: Ranked<O>,
    {
        Var::from_any(self.run(op, Inputs::One(x.into_any())))
    }
}

pub use value::AnyVar as ErasedVar;

#[cfg(test)]
mod tests;
