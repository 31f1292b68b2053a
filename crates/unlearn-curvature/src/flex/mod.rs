//! Convolutions and batch normalisation of our own for Burn's flex backend (CPU): forward, both gradients, and the sum of squared
//! per-sample weight gradients that a Fisher diagonal is made of.
//!
//! ```text
//! tile     the inner loop: R rows × V vectors of sums in registers
//! panel    weights and cotangents in the order in which tiles read them
//! fresh    results that all threads fill
//! shape    sizes, and pictures framed with zeros
//! gather   forward and input gradient      (rows: positions, steps: taps)
//! product  weight gradient and squares     (rows: taps, steps: positions)
//! winograd  the same for 3 × 3 kernels, in 16 products where these take 36
//! narrow   forward to few outputs         (rows: outputs, vectors: positions)
//! thin     weight gradient of few outputs  (rows: outputs, steps: positions)
//! conv     which of them a convolution goes through
//! single   weight gradients of single units, written out
//! norm     batch normalisation, with a ReLU behind it
//! residual  sum and ReLU at the end of a residual block
//! sweep    batch normalisation and ReLU of a reverse sweep
//! elementwise  gradient descent, AdamW and sums of squares
//! low_rank  layers with a narrow branch beside a frozen weight
//! tokens   linear layers, GELU, layer norms and attention of transformers
//! extension  the above as operations of the backend, with autodiff
//! ```
//!
//! Everything is computed from the framed picture; a patch matrix (nine times the picture for a 3 × 3 kernel)
//! and a per-sample weight gradient (37 MB a sample for ResNet-18) never reach memory. Results do not depend
//! on the number of threads. Only float32 without groups; everything else stays with Burn's own operations.

#![allow(clippy::inline_always, reason = "what is inlined takes the vector instructions of its caller")]

mod conv;
mod elementwise;
mod extension;
mod fresh;
mod gather;
mod low_rank;
mod narrow;
mod norm;
mod panel;
mod product;
mod residual;
mod shape;
mod single;
mod sweep;
#[cfg(test)]
mod tests;
mod thin;
mod tile;
pub(crate) mod tokens;
mod winograd;

use burn::Tensor;
use burn::backend::Dispatch;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Device, TensorData};

pub(crate) use elementwise::{Adaptive, Descent};
use extension::{ConvKernels, DirectConv, Elementwise, SweepKernels};
pub(crate) use low_rank::{Branch, low_rank_conv, low_rank_linear};
pub(crate) use norm::Behind;
use norm::{DirectNorm, FixedNorm, NormKernels};
pub(crate) use residual::{add_relu, has_add_relu};
pub(crate) use shape::ConvShape;
pub(crate) use single::Order;

/// Whether the kernels can have a tensor.
pub(crate) fn is_ours<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && x.device() == Device::flex()
}

/// The same for kernels without gradients of their own.
fn is_plain<const D: usize>(x: &Tensor<D>) -> bool {
    is_ours(x) && !x.is_autodiff()
}

/// The convolution without a bias, or `None` when it is not for these kernels. Differentiable.
pub(crate) fn conv2d(x: &Tensor<4>, weight: &Tensor<4>, options: &ConvOptions<2>) -> Option<Tensor<4>> {
    if !is_ours(x) || !is_ours(weight) {
        return None;
    }
    let shape = ConvShape::new(x.dims(), weight.dims(), options)?;
    let result = Dispatch::direct_conv(x.clone().into_dispatch(), weight.clone().into_dispatch(), shape);
    Some(Tensor::from_dispatch(result))
}

/// The gradient of the input `dims` `[n, i, h, w]`, given that of the output `[n, o, h', w']`. Not differentiable.
pub(crate) fn input_gradient(
    gradient: &Tensor<4>,
    weight: &Tensor<4>,
    dims: [usize; 4],
    options: &ConvOptions<2>,
) -> Option<Tensor<4>> {
    if !is_plain(gradient) || !is_plain(weight) {
        return None;
    }
    let shape = ConvShape::new(dims, weight.dims(), options)?;
    let result =
        Dispatch::direct_conv_input(gradient.clone().into_dispatch(), weight.clone().into_dispatch(), shape);
    Some(Tensor::from_dispatch(result))
}

/// The gradient of a weight `weight_dims` `[o, i, kh, kw]`, from the input x `[n, i, h, w]` and that of the output `[n, o, h', w']`.
pub(crate) fn weight_gradient(
    x: &Tensor<4>,
    gradient: &Tensor<4>,
    weight_dims: [usize; 4],
    options: &ConvOptions<2>,
) -> Option<Tensor<4>> {
    if !is_plain(x) || !is_plain(gradient) {
        return None;
    }
    let shape = ConvShape::new(x.dims(), weight_dims, options)?;
    let (x, gradient) = (x.clone().into_dispatch(), gradient.clone().into_dispatch());
    Some(Tensor::from_dispatch(Dispatch::direct_conv_weight(x, gradient, shape)))
}

/// Whether [`squares`] serves for the input x `[n, i, h, w]` of a weight `weight_dims` `[o, i, kh, kw]`.
pub(crate) fn has_squares(x: &Tensor<4>, weight_dims: [usize; 4], options: &ConvOptions<2>) -> bool {
    is_plain(x) && ConvShape::new(x.dims(), weight_dims, options).is_some()
}

/// What squares are summed over; see [`squares`].
#[derive(Debug, Clone)]
pub(crate) struct SquaresOf {
    /// Columns of each sample.
    pub(crate) columns: usize,
    /// Samples of a unit.
    pub(crate) group: usize,
    /// A factor for each unit's gradients, `[units]`.
    pub(crate) factors: Option<Tensor<1>>,
}

/// Σ over units and columns of squared gradients of a weight `weight_dims` `[o, i, kh, kw]`, as `[o, i·kh·kw]`, from
/// the input x `[n, i, h, w]` and cotangents `[n · columns, o, t]`.
pub(crate) fn squares(
    x: &Tensor<4>,
    cotangents: &Tensor<3>,
    weight_dims: [usize; 4],
    options: &ConvOptions<2>,
    of: SquaresOf,
) -> Option<Tensor<2>> {
    if !is_plain(x) || !is_plain(cotangents) {
        return None;
    }
    let shape = ConvShape::new(x.dims(), weight_dims, options)?;
    let factors = match of.factors {
        Some(factors) => Some(TensorData::try_into_vec_as::<f32>(factors.into_data()).ok()?),
        None => None,
    };
    let result = Dispatch::direct_conv_squares(
        x.clone().into_dispatch(),
        cotangents.clone().into_dispatch(),
        shape,
        of.columns,
        of.group,
        factors,
    );
    Some(Tensor::from_dispatch(result))
}

/// The weight gradients of single units, `[units · columns, entries]` in the `order` asked for; otherwise as
/// [`squares`].
pub(crate) fn single_gradients(
    x: &Tensor<4>,
    cotangents: &Tensor<3>,
    weight_dims: [usize; 4],
    options: &ConvOptions<2>,
    (columns, group): (usize, usize),
    order: Order,
) -> Option<Tensor<2>> {
    if !is_plain(x) || !is_plain(cotangents) {
        return None;
    }
    let shape = ConvShape::new(x.dims(), weight_dims, options)?;
    let (x, cotangents) = (x.clone().into_dispatch(), cotangents.clone().into_dispatch());
    let result = Dispatch::direct_conv_singles(x, cotangents, shape, columns, group, order);
    Some(Tensor::from_dispatch(result))
}

/// Whether [`batch_norm_train`] and [`batch_norm_fixed`] serve for x `[n, c, h, w]`. A layer of other channels is Burn's
/// to refuse.
pub(crate) fn has_batch_norm(x: &Tensor<4>, [gamma, beta]: [&Tensor<1>; 2]) -> bool {
    let channels = x.dims()[1];
    let fits = gamma.dims() == [channels] && beta.dims() == [channels];
    fits && is_ours(x) && is_ours(gamma) && is_ours(beta) && x.shape().num_elements() > 0
}

/// Batch normalisation of x `[n, c, h, w]` by its own moments, differentiable; and those moments, mean and biased
/// variance `[c]`, as plain tensors.
pub(crate) fn batch_norm_train(
    x: &Tensor<4>,
    [gamma, beta]: [&Tensor<1>; 2],
    epsilon: f64,
    behind: Behind,
) -> (Tensor<4>, Tensor<1>, Tensor<1>) {
    let channels = x.dims()[1];
    let plain = if x.is_autodiff() { x.clone().inner() } else { x.clone() };
    let moments = Tensor::<2>::from_dispatch(Dispatch::direct_moments(plain.into_dispatch()));
    let y = Dispatch::direct_norm(
        x.clone().into_dispatch(),
        gamma.clone().into_dispatch(),
        beta.clone().into_dispatch(),
        moments.clone().into_dispatch(),
        epsilon,
        behind,
    );
    let row = |i: usize| moments.clone().slice_dim(0, i..i + 1).reshape([channels]);
    (Tensor::from_dispatch(y), row(0), row(1))
}

/// Batch normalisation of x `[n, c, h, w]` by moments `[c]` from elsewhere, differentiable in x alone, and written over
/// it if nobody else has it.
pub(crate) fn batch_norm_fixed(
    x: Tensor<4>,
    [gamma, beta]: [&Tensor<1>; 2],
    [mean, variance]: [Tensor<1>; 2],
    epsilon: f64,
    behind: Behind,
) -> Tensor<4> {
    let plain = |t: Tensor<1>| if t.is_autodiff() { t.inner() } else { t };
    let y = Dispatch::direct_fixed_norm(
        x.into_dispatch(),
        gamma.clone().into_dispatch(),
        beta.clone().into_dispatch(),
        Tensor::stack::<2>(vec![plain(mean), plain(variance)], 0).into_dispatch(),
        epsilon,
        behind,
    );
    Tensor::from_dispatch(y)
}

/// Cotangents `[b·c, …]` where `y` `[b, …]` is above zero.
pub(crate) fn relu_back(y: &Tensor<3>, cotangents: &Tensor<3>, columns: usize) -> Option<Tensor<3>> {
    if !is_plain(y) || !is_plain(cotangents) || cotangents.shape().num_elements() == 0 {
        return None;
    }
    let (y, cotangents) = (y.clone().into_dispatch(), cotangents.clone().into_dispatch());
    Some(Tensor::from_dispatch(Dispatch::direct_relu_back(y, cotangents, columns)))
}

/// A batch norm by running statistics; all `[channels]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Statistics<'a> {
    pub(crate) mean: &'a Tensor<1>,
    pub(crate) inverse_std: &'a Tensor<1>,
    pub(crate) gamma: &'a Tensor<1>,
}

/// Back through a batch norm by running statistics: the input's cotangents, and the gradients of shift and (with the
/// input `x` `[b, channels, h, w]`) scale `[b·c, channels]`, from cotangents `[b·c, channels, h, w]`.
pub(crate) fn norm_back(
    x: Option<&Tensor<4>>,
    cotangents: &Tensor<4>,
    statistics: Statistics,
    columns: usize,
) -> Option<(Tensor<4>, Tensor<2>, Tensor<2>)> {
    let plain = is_plain(cotangents) && x.is_none_or(is_plain) && is_plain(statistics.gamma);
    if !plain || cotangents.shape().num_elements() == 0 {
        return None;
    }
    let nothing = || Tensor::empty([0, 1, 1, 1], (&cotangents.device(), DType::F32));
    let (back, shift, scale) = Dispatch::direct_norm_sweep(
        cotangents.clone().into_dispatch(),
        x.cloned().unwrap_or_else(nothing).into_dispatch(),
        statistics.mean.clone().into_dispatch(),
        statistics.inverse_std.clone().into_dispatch(),
        statistics.gamma.clone().into_dispatch(),
        columns,
    );
    Some((Tensor::from_dispatch(back), Tensor::from_dispatch(shift), Tensor::from_dispatch(scale)))
}

/// Whether [`descend`] serves.
pub(crate) fn is_together<const D: usize>(
    value: &Tensor<D>,
    gradient: &Tensor<D>,
    velocity: Option<&Tensor<D>>,
) -> bool {
    let alike = |x: &Tensor<D>| is_plain(x) && x.dims() == value.dims();
    alike(value) && alike(gradient) && velocity.is_none_or(alike)
}

/// A step of gradient descent: the parameter and, with momentum, its velocity.
pub(crate) fn descend<const D: usize>(
    by: Descent,
    value: Tensor<D>,
    gradient: Tensor<D>,
    velocity: Option<Tensor<D>>,
) -> (Tensor<D>, Option<Tensor<D>>) {
    let (value, gradient) = (value.into_dispatch(), gradient.into_dispatch());
    if by.momentum == 0.0 {
        let value = Dispatch::direct_descent(value, gradient, by);
        return (Tensor::from_dispatch(value), None);
    }
    let (velocity, first) = match velocity {
        Some(velocity) => (velocity.into_dispatch(), false),
        // Its entries are not read.
        None => (gradient.clone(), true),
    };
    let (value, velocity) = Dispatch::direct_momentum(value, gradient, velocity, by, first);
    (Tensor::from_dispatch(value), Some(Tensor::from_dispatch(velocity)))
}

/// A step of Adam: the parameter and its moments, which are zero where there are none yet.
pub(crate) fn adapt<const D: usize>(
    by: Adaptive,
    value: Tensor<D>,
    gradient: Tensor<D>,
    moments: Option<[Tensor<D>; 2]>,
) -> (Tensor<D>, [Tensor<D>; 2]) {
    let [first, second] = moments.unwrap_or_else(|| [value.zeros_like(), value.zeros_like()]);
    let [value, gradient, first, second] = [value, gradient, first, second].map(Tensor::into_dispatch);
    let (value, first, second) = Dispatch::direct_adam(value, gradient, first, second, by);
    (Tensor::from_dispatch(value), [Tensor::from_dispatch(first), Tensor::from_dispatch(second)])
}

/// Σ x², `[1]`.
pub(crate) fn sum_of_squares<const D: usize>(x: &Tensor<D>) -> Option<Tensor<1>> {
    is_plain(x).then(|| Tensor::from_dispatch(Dispatch::direct_sum_of_squares(x.clone().into_dispatch())))
}
