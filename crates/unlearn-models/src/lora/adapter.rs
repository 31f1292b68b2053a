//! The two branches.

use burn::Tensor;
use burn::module::{Module, Param};
use burn::nn::conv::Conv2d;
use burn::nn::{Dropout, Linear, PaddingConfig2d};
use burn::tensor::Device;
use rand::Rng;
use unlearn_curvature::ParamPath;
use unlearn_curvature::tape::{ErasedVar, Inputs, Op, Tape};

use super::target::Target;
use crate::init::{parameter, uniform};
use crate::stable_ids::stable_id;

/// Which layer an adapter belongs to.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The layer's name on disk.
    pub(super) module: String,
    /// The path of its weight in the base.
    pub(super) weight: ParamPath,
    /// Burn's identifier of that weight.
    pub(super) id: u64,
    /// What the branch is multiplied by.
    pub(super) scale: f64,
}

impl Place {
    pub(super) fn new(target: &Target, scale: f64) -> Self {
        let Target { module, weight } = target;
        Self { module: module.clone(), weight: weight.path.clone(), id: weight.id.val(), scale }
    }
}

/// The branch of a convolution: one with the layer's kernel, stride and padding, and a 1 × 1 one, without biases.
#[derive(Module, Debug)]
pub struct ConvAdapter {
    /// A, `[r, i, kh, kw]`.
    pub a: Param<Tensor<4>>,
    /// B, `[o, r, 1, 1]`.
    pub b: Param<Tensor<4>>,
    pub(super) dropout: Option<Dropout>,
    #[module(skip)]
    pub(super) place: Place,
}

/// The branch of a linear layer: two matrices.
#[derive(Module, Debug)]
pub struct LinearAdapter {
    /// A, `[in, r]`.
    pub a: Param<Tensor<2>>,
    /// B, `[r, out]`.
    pub b: Param<Tensor<2>>,
    pub(super) dropout: Option<Dropout>,
    #[module(skip)]
    pub(super) place: Place,
}

/// Names a factor's parameter by its layer, so that equal networks have equal identifiers.
fn named<const D: usize>(mut param: Param<Tensor<D>>, module: &str, factor: &str) -> Param<Tensor<D>> {
    param.id = stable_id(&format!("{module}.{factor}"));
    param
}

/// A branched layer on a tape, part by part where its branch's input drops out.
fn run(tape: &mut dyn Tape, branched: Op<'_>, x: ErasedVar, dropout: Option<&Dropout>) -> ErasedVar {
    match (dropout, branched.apart()) {
        // Off an autodiff device dropout does nothing.
        (Some(dropout), Some(apart)) if x.value.is_autodiff() => {
            let left = tape.run(Op::Dropout(dropout), Inputs::One(x.clone()));
            apart.run_with(x, left, tape)
        }
        _ => tape.run(branched, Inputs::One(x)),
    }
}

impl ConvAdapter {
    /// A as PyTorch initialises a convolution (He et al. 2015 with a = √5: uniform within ±1/√fan-in), B zero.
    pub(super) fn init(
        target: &Target,
        rank: usize,
        scale: f64,
        dropout: Option<Dropout>,
        device: &Device,
        rng: &mut impl Rng,
    ) -> Self {
        let shape = &target.weight.shape;
        let (o, i, kernel) = (shape[0], shape[1], [shape[2], shape[3]]);
        let bound = 1.0 / ((i * kernel[0] * kernel[1]) as f64).sqrt();
        let a = uniform([rank, i, kernel[0], kernel[1]], bound, device, rng);
        let b = parameter(vec![0.0; o * rank], [o, rank, 1, 1], device);
        Self::of(target, scale, dropout, a, b)
    }

    pub(super) fn of(
        target: &Target,
        scale: f64,
        dropout: Option<Dropout>,
        a: Param<Tensor<4>>,
        b: Param<Tensor<4>>,
    ) -> Self {
        let place = Place::new(target, scale);
        Self { a: named(a, &place.module, "lora_A"), b: named(b, &place.module, "lora_B"), dropout, place }
    }

    /// `layer(x)` with the branch.
    pub(super) fn run(&self, layer: &Conv2d, x: ErasedVar, tape: &mut dyn Tape) -> ErasedVar {
        let down = Conv2d { weight: self.a.clone(), bias: None, ..layer.clone() };
        let up = Conv2d {
            weight: self.b.clone(),
            bias: None,
            stride: [1, 1],
            kernel_size: [1, 1],
            dilation: [1, 1],
            groups: 1,
            padding: PaddingConfig2d::Valid,
        };
        let branched = Op::BranchedConv2d { layer, down: &down, up: &up, factor: self.place.scale };
        run(tape, branched, x, self.dropout.as_ref())
    }

    /// ΔW, `[o, i, kh, kw]`: scale · Σ_r B\[o, r\] A\[r, …\].
    pub(super) fn delta(&self) -> Tensor<4> {
        let (a, b) = (self.a.val(), self.b.val());
        let ([r, i, kh, kw], o) = (a.dims(), b.dims()[0]);
        let product = b.reshape([o, r]).matmul(a.reshape([r, i * kh * kw]));
        product.mul_scalar(self.place.scale).reshape([o, i, kh, kw])
    }
}

impl LinearAdapter {
    /// As [`ConvAdapter::init`].
    pub(super) fn init(
        target: &Target,
        rank: usize,
        scale: f64,
        dropout: Option<Dropout>,
        device: &Device,
        rng: &mut impl Rng,
    ) -> Self {
        let (inputs, outputs) = (target.weight.shape[0], target.weight.shape[1]);
        let a = uniform([inputs, rank], 1.0 / (inputs as f64).sqrt(), device, rng);
        let b = parameter(vec![0.0; rank * outputs], [rank, outputs], device);
        Self::of(target, scale, dropout, a, b)
    }

    pub(super) fn of(
        target: &Target,
        scale: f64,
        dropout: Option<Dropout>,
        a: Param<Tensor<2>>,
        b: Param<Tensor<2>>,
    ) -> Self {
        let place = Place::new(target, scale);
        Self { a: named(a, &place.module, "lora_A"), b: named(b, &place.module, "lora_B"), dropout, place }
    }

    /// `layer(x)` with the branch.
    pub(super) fn run(&self, layer: &Linear, x: ErasedVar, tape: &mut dyn Tape) -> ErasedVar {
        let down = Linear { weight: self.a.clone(), bias: None };
        let up = Linear { weight: self.b.clone(), bias: None };
        let branched = Op::BranchedLinear { layer, down: &down, up: &up, factor: self.place.scale };
        run(tape, branched, x, self.dropout.as_ref())
    }

    /// ΔW, `[in, out]`: scale · A B.
    pub(super) fn delta(&self) -> Tensor<2> {
        self.a.val().matmul(self.b.val()).mul_scalar(self.place.scale)
    }
}
