//! Layers with a narrow branch whose base does not train: W + factor · ΔW at the price of W.
//!
//! ```text
//! y  = x ∗ (W + factor · B A)                      one full convolution, as without the branch
//! ∂x = g ∗ᵀ (W + factor · B A)                     one full input gradient
//! ∂B = factor · Σ g (A x)ᵀ,  ∂A = factor · Σ (Bᵀ g) xᵀ     r channels instead of all outputs
//! ```
//!
//! Nothing of the layer's full size is written besides what the layer itself writes: the branch's own output,
//! its sum with the layer's, and the gradient of ΔW as a whole never exist.

use burn::Tensor;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, Scalar, TensorMetadata, backend_extension};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, TensorData};
use pulp::Arch;
use rayon::prelude::*;

use super::extension::{ConvKernels, DirectConv, Host, contiguous, scalars};
use super::is_ours;
use super::shape::ConvShape;
use super::tokens::extension::TokenKernels;
use super::tokens::linear::extension::{LinearKernels, LinearOp};

/// A layer's frozen weight and its branch, for [`low_rank_conv`] and [`low_rank_linear`].
#[derive(Debug)]
pub(crate) struct Branch<const D: usize> {
    pub(crate) weight: Tensor<D>,
    pub(crate) a: Tensor<D>,
    pub(crate) b: Tensor<D>,
    pub(crate) factor: f64,
}

impl<const D: usize> Branch<D> {
    /// Whether it and `x` are for these kernels: the weight is not to have a gradient.
    fn is_ours<const X: usize>(&self, x: &Tensor<X>) -> bool {
        let factors = is_ours(&self.weight) && is_ours(&self.a) && is_ours(&self.b);
        is_ours(x) && factors && !self.weight.is_tracked()
    }
}

/// The convolution of x `[n, i, h, w]` by weight `[o, i, kh, kw]` + factor · B A, with A `[r, i, kh, kw]` and B
/// `[o, r, 1, 1]`; differentiable in x, A and B.
pub(crate) fn low_rank_conv(x: &Tensor<4>, branch: Branch<4>, options: &ConvOptions<2>) -> Option<Tensor<4>> {
    if !branch.is_ours(x) {
        return None;
    }
    let shape = ConvShape::new(x.dims(), branch.weight.dims(), options)?;
    let Branch { weight, a, b, factor } = branch;
    let [x, weight, a, b] = [x.clone(), weight, a, b].map(Tensor::into_dispatch);
    Some(Tensor::from_dispatch(Dispatch::low_rank_conv(x, weight, a, b, factor, shape)))
}

/// x `[n, i]` times (weight `[i, o]` + factor · A B) plus bias `[o]`, with A `[i, r]` and B `[r, o]`; differentiable in x,
/// A, B and the bias.
pub(crate) fn low_rank_linear(
    x: &Tensor<2>,
    branch: Branch<2>,
    bias: Option<&Tensor<1>>,
) -> Option<Tensor<2>> {
    let sizes = [x.dims(), branch.a.dims(), branch.b.dims()];
    let fits = bias.is_none_or(|bias| is_ours(bias) && bias.dims() == [branch.weight.dims()[1]]);
    if !fits || !branch.is_ours(x) || sizes.as_flattened().contains(&0) {
        return None;
    }
    let bias =
        bias.map_or_else(|| Tensor::empty([0], (&x.device(), DType::F32)), Tensor::clone).into_dispatch();
    let Branch { weight, a, b, factor } = branch;
    let [x, weight, a, b] = [x.clone(), weight, a, b].map(Tensor::into_dispatch);
    Some(Tensor::from_dispatch(Dispatch::low_rank_linear(x, weight, a, b, bias, factor)))
}

/// What joins a weight with its branch.
#[backend_extension(Flex)]
pub(super) trait Join: Backend {
    /// weight `[p, …]`, left `[p, r, …]` and right `[r, …]` of two dimensions or more each → weight + factor · left right,
    /// shaped like the weight.
    fn join(
        weight: FloatTensor<Self>,
        left: FloatTensor<Self>,
        right: FloatTensor<Self>,
        factor: f64,
    ) -> FloatTensor<Self>;
}

impl Join for Flex {
    fn join(weight: Host, left: Host, right: Host, factor: f64) -> Host {
        let [weight, left, right] = [weight, left, right].map(contiguous);
        let shape = weight.layout().shape().clone();
        let rank = right.layout().shape()[0];
        let values = joined(scalars(&weight), scalars(&left), scalars(&right), rank, factor as f32);
        Host::from_data(TensorData::new(values, shape))
    }
}

/// Products up to which one thread joins a weight and its branch, rather than wake another for it (no finely measured
/// limit).
const ALONE: usize = 1 << 18;

/// W + factor · L R: W `[p, d]`, L `[p, rank]`, R `[rank, d]`.
fn joined(weight: &[f32], left: &[f32], right: &[f32], rank: usize, factor: f32) -> Vec<f32> {
    let mut result = weight.to_vec();
    let width = right.len() / rank.max(1);
    if width == 0 {
        return result;
    }
    let arch = Arch::new();
    let one = |(row, factors): (&mut [f32], &[f32])| {
        arch.dispatch(|| {
            for (&by, right) in factors.iter().zip(right.chunks_exact(width)) {
                let by = factor * by;
                for (to, &from) in row.iter_mut().zip(right) {
                    *to += by * from;
                }
            }
        });
    };
    if weight.len() * rank <= ALONE {
        result.chunks_exact_mut(width).zip(left.chunks_exact(rank)).for_each(one);
    } else {
        result.par_chunks_exact_mut(width).zip(left.par_chunks_exact(rank)).for_each(one);
    }
    result
}

/// The layers, differentiable in their input and the branch.
#[backend_extension(Flex, Autodiff)]
pub(super) trait LowRank: Backend {
    /// x `[n, i, h, w]`, weight `[o, i, kh, kw]`, A `[r, i, kh, kw]`, B `[o, r, 1, 1]` → `[n, o, h', w']`.
    fn low_rank_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        factor: f64,
        shape: ConvShape,
    ) -> FloatTensor<Self>;

    /// x `[n, i]`, weight `[i, o]`, A `[i, r]`, B `[r, o]`, bias `[o]` or empty → `[n, o]`.
    fn low_rank_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        factor: f64,
    ) -> FloatTensor<Self>;
}

impl LowRank for Flex {
    fn low_rank_conv(x: Host, weight: Host, a: Host, b: Host, factor: f64, shape: ConvShape) -> Host {
        Self::direct_conv(x, Self::join(weight, b, a, factor), shape)
    }

    fn low_rank_linear(x: Host, weight: Host, a: Host, b: Host, bias: Host, factor: f64) -> Host {
        Self::direct_linear(x, Self::join(weight, a, b, factor), bias)
    }
}

/// What the way back needs: the joined weight where the input has a gradient, the input where the branch has one.
#[derive(Debug, Clone)]
struct Kept<B: Backend> {
    joined: Option<FloatTensor<B>>,
    x: Option<FloatTensor<B>>,
    a: FloatTensor<B>,
    b: FloatTensor<B>,
    factor: f64,
}

#[derive(Debug)]
struct ConvBackward;

impl<B: Backend + DirectConv + ConvKernels> Backward<B, 3> for ConvBackward {
    type State = (Kept<B>, ConvShape);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [x_node, a_node, b_node] = ops.parents;
        let gradient = gradients.consume::<B>(&ops.node);
        let (Kept { joined, x, a, b, factor }, shape) = ops.state;
        let rank = a.shape()[0];
        // The branch's first half, and the second one as a 1 × 1 convolution of the gradient.
        let (narrow, point) = (shape.with_outputs(rank), shape.after(rank));
        if let (Some(node), Some(joined)) = (x_node, joined) {
            gradients.register::<B>(node.id, B::direct_conv_input(gradient.clone(), joined, shape));
        }
        let Some(x) = x else { return };
        if let Some(node) = b_node {
            let z = B::direct_conv(x.clone(), a, narrow.clone());
            let of_b = B::direct_conv_weight(gradient.clone(), z, point.clone());
            let of_b = B::float_mul_scalar(B::float_swap_dims(of_b, 0, 1), Scalar::from(factor));
            gradients.register::<B>(node.id, of_b);
        }
        if let Some(node) = a_node {
            let back = B::float_mul_scalar(B::float_swap_dims(b, 0, 1), Scalar::from(factor));
            let narrowed = B::direct_conv(gradient, back, point);
            gradients.register::<B>(node.id, B::direct_conv_weight(x, narrowed, narrow));
        }
    }
}

#[derive(Debug)]
struct LinearBackward;

impl<B: Backend + LinearOp + LinearKernels + TokenKernels> Backward<B, 4> for LinearBackward {
    type State = Kept<B>;

    fn backward(self, ops: Ops<Self::State, 4>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [x_node, a_node, b_node, bias_node] = ops.parents;
        let gradient = gradients.consume::<B>(&ops.node);
        let Kept { joined, x, a, b, factor } = ops.state;
        let scaled = |of| B::float_mul_scalar(of, Scalar::from(factor));
        if let Some(node) = bias_node {
            gradients.register::<B>(node.id, B::direct_sum_of_rows(gradient.clone()));
        }
        if let (Some(node), Some(joined)) = (x_node, joined) {
            gradients.register::<B>(node.id, B::direct_linear_input(gradient.clone(), joined));
        }
        let Some(x) = x else { return };
        if let Some(node) = b_node {
            let no_bias = B::float_slice(a.clone(), &[(0..0).into()]);
            let z = B::direct_linear(x.clone(), a, no_bias);
            gradients.register::<B>(node.id, scaled(B::direct_linear_weight(z, gradient.clone())));
        }
        if let Some(node) = a_node {
            let narrowed = B::direct_linear_input(gradient, b);
            gradients.register::<B>(node.id, scaled(B::direct_linear_weight(x, narrowed)));
        }
    }
}

impl<B, C> LowRank for Autodiff<B, C>
where
    B: Backend + LowRank + Join + DirectConv + ConvKernels + LinearOp + LinearKernels + TokenKernels,
    C: CheckpointStrategy,
{
    fn low_rank_conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        factor: f64,
        shape: ConvShape,
    ) -> FloatTensor<Self> {
        let (back, trained) = (x.is_tracked(), a.is_tracked() || b.is_tracked());
        let weight = weight.into_primitive();
        let [(x, x_node), (a, a_node), (b, b_node)] = [x, a, b].map(FloatTensor::<Self>::into_parts);
        match ConvBackward.prepare::<C>([x_node, a_node, b_node]).compute_bound().stateful() {
            OpsKind::Tracked(step) => {
                let joined = B::join(weight, b.clone(), a.clone(), factor);
                let y = B::direct_conv(x.clone(), joined.clone(), shape.clone());
                let kept = Kept { joined: back.then_some(joined), x: trained.then_some(x), a, b, factor };
                step.finish((kept, shape), y)
            }
            OpsKind::UnTracked(step) => step.finish(B::low_rank_conv(x, weight, a, b, factor, shape)),
        }
    }

    fn low_rank_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        factor: f64,
    ) -> FloatTensor<Self> {
        let (back, trained) = (x.is_tracked(), a.is_tracked() || b.is_tracked());
        let weight = weight.into_primitive();
        let [(x, x_node), (a, a_node), (b, b_node), (bias, bias_node)] =
            [x, a, b, bias].map(FloatTensor::<Self>::into_parts);
        match LinearBackward.prepare::<C>([x_node, a_node, b_node, bias_node]).compute_bound().stateful() {
            OpsKind::Tracked(step) => {
                let joined = B::join(weight, a.clone(), b.clone(), factor);
                let y = B::direct_linear(x.clone(), joined.clone(), bias);
                step.finish(Kept { joined: back.then_some(joined), x: trained.then_some(x), a, b, factor }, y)
            }
            OpsKind::UnTracked(step) => step.finish(B::low_rank_linear(x, weight, a, b, bias, factor)),
        }
    }
}

#[cfg(test)]
mod tests;
