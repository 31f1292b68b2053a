//! Convolutions and batch normalisation of our own for Burn's flex backend (CPU): forward, both gradients, and the sum of squared
//! per-sample weight gradients that a Fisher diagonal is made of.
//!
//! ```text
//! tile     the inner loop: R rows × V vectors of sums in registers
//! panel    weights and cotangents in the order in which tiles read them
//! shape    sizes, and pictures framed with zeros
//! gather   forward and input gradient      (rows: positions, steps: taps)
//! product  weight gradient and squares     (rows: taps, steps: positions)
//! norm     batch normalisation of a training step
//! extension  the above as operations of the backend, with autodiff
//! ```
//!
//! Everything is computed from the framed picture; a patch matrix (nine times the picture for a 3 × 3 kernel)
//! and a per-sample weight gradient (37 MB a sample for ResNet-18) never reach memory. Results do not depend
//! on the number of threads. Only float32 without groups; everything else stays with Burn's own operations.

mod extension;
mod gather;
mod norm;
mod panel;
mod product;
mod shape;
#[cfg(test)]
mod tests;
mod tile;

use burn::Tensor;
use burn::backend::Dispatch;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Device, TensorData};

use extension::{ConvKernels, DirectConv, DirectNorm, NormKernels};
pub(crate) use shape::ConvShape;

/// Whether the kernels can have a tensor.
fn is_ours<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && x.device() == Device::flex()
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
    if !is_ours(gradient) || gradient.is_autodiff() || weight.is_autodiff() {
        return None;
    }
    let shape = ConvShape::new(dims, weight.dims(), options)?;
    let result =
        Dispatch::direct_conv_input(gradient.clone().into_dispatch(), weight.clone().into_dispatch(), shape);
    Some(Tensor::from_dispatch(result))
}

/// Whether [`squares`] serves for the input x `[n, i, h, w]` of a weight `weight_dims` `[o, i, kh, kw]`.
pub(crate) fn has_squares(x: &Tensor<4>, weight_dims: [usize; 4], options: &ConvOptions<2>) -> bool {
    is_ours(x) && !x.is_autodiff() && ConvShape::new(x.dims(), weight_dims, options).is_some()
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
    if !is_ours(x) || !is_ours(cotangents) || x.is_autodiff() || cotangents.is_autodiff() {
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

/// Batch normalisation of x `[n, c, h, w]` by its own moments, differentiable; and those moments, mean and biased
/// variance `[c]`, as plain tensors.
pub(crate) fn batch_norm_train(
    x: &Tensor<4>,
    gamma: &Tensor<1>,
    beta: &Tensor<1>,
    epsilon: f64,
) -> Option<(Tensor<4>, Tensor<1>, Tensor<1>)> {
    if !is_ours(x) || !is_ours(gamma) || x.shape().num_elements() == 0 {
        return None;
    }
    let channels = x.dims()[1];
    let plain = if x.is_autodiff() { x.clone().inner() } else { x.clone() };
    let moments = Tensor::<2>::from_dispatch(Dispatch::direct_moments(plain.into_dispatch()));
    let y = Dispatch::direct_norm(
        x.clone().into_dispatch(),
        gamma.clone().into_dispatch(),
        beta.clone().into_dispatch(),
        moments.clone().into_dispatch(),
        epsilon,
    );
    let row = |i: usize| moments.clone().slice([i..i + 1]).reshape([channels]);
    Some((Tensor::from_dispatch(y), row(0), row(1)))
}
