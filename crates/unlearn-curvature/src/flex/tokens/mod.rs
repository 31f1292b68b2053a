//! What transformers are made of: linear layers, GELU, layer normalisation and attention, with their gradients, each in
//! one pass over memory and on all threads.
//!
//! Burn's flex backend computes the error function an entry at a time on one thread, takes layer norms and softmax apart
//! into a dozen operations where gradients are wanted, and copies the result of each product once.
//!
//! ```text
//! math, sums  exponential, Φ, softmax of a row; sums over what threads have made
//! product     matrix products of tiles
//! linear, bias, gelu, layer_norm, attention     kernels on slices
//! extension   the above as operations of the backend, with autodiff
//! ```

mod attention;
mod bias;
pub(super) mod extension;
mod gelu;
mod layer_norm;
pub(super) mod linear;
mod math;
mod product;
mod sums;
#[cfg(test)]
mod tests;

use burn::Tensor;
use burn::backend::Dispatch;
use burn::tensor::DType;

use super::{is_ours, is_plain};
use extension::{TokenKernels, TokenOps};
use linear::extension::LinearOp;

/// x Φ(x), differentiable.
pub(crate) fn gelu<const D: usize>(x: &Tensor<D>) -> Option<Tensor<D>> {
    (is_ours(x) && x.shape().num_elements() > 0)
        .then(|| Tensor::from_dispatch(Dispatch::direct_gelu(x.clone().into_dispatch())))
}

/// Cotangents `[b·c, 1, size]` times the derivative of x Φ(x) at x `[b, 1, size]`.
pub(crate) fn gelu_back(x: &Tensor<3>, cotangents: &Tensor<3>, columns: usize) -> Option<Tensor<3>> {
    if !is_plain(x) || !is_plain(cotangents) || cotangents.shape().num_elements() == 0 {
        return None;
    }
    let (x, cotangents) = (x.clone().into_dispatch(), cotangents.clone().into_dispatch());
    Some(Tensor::from_dispatch(Dispatch::direct_gelu_back(x, cotangents, columns)))
}

/// x `[…, i]` times weight `[i, o]`, plus bias `[o]`; differentiable in all three.
pub(crate) fn linear<const D: usize>(
    x: &Tensor<D>,
    weight: &Tensor<2>,
    bias: Option<&Tensor<1>>,
) -> Option<Tensor<D>> {
    let (mut dims, [inputs, outputs]) = (x.dims(), weight.dims());
    // A layer of other sizes is Burn's to refuse.
    let fits = dims[D - 1] == inputs && bias.is_none_or(|bias| bias.dims() == [outputs] && is_ours(bias));
    if !fits || !is_ours(x) || !is_ours(weight) || outputs == 0 || x.shape().num_elements() == 0 {
        return None;
    }
    let rows = x.clone().reshape([x.shape().num_elements() / inputs, inputs]);
    let y = Dispatch::direct_linear(
        rows.into_dispatch(),
        weight.clone().into_dispatch(),
        bias.map_or_else(|| Tensor::empty([0], (&x.device(), DType::F32)), Tensor::clone).into_dispatch(),
    );
    dims[D - 1] = outputs;
    Some(Tensor::<2>::from_dispatch(y).reshape(dims))
}

/// Layer normalisation of the rows of x `[…, d]` with gamma and beta `[d]`, differentiable in all three.
pub(crate) fn layer_norm<const D: usize>(
    x: &Tensor<D>,
    gamma: &Tensor<1>,
    beta: &Tensor<1>,
    epsilon: f64,
) -> Option<Tensor<D>> {
    let dims = x.dims();
    let d = dims[D - 1];
    // A layer of another width is Burn's to refuse.
    let fits = gamma.dims() == [d] && beta.dims() == [d];
    if !fits || !is_ours(x) || !is_ours(gamma) || !is_ours(beta) || x.shape().num_elements() == 0 {
        return None;
    }
    let rows = x.clone().reshape([x.shape().num_elements() / d, d]);
    let y = Dispatch::direct_layer_norm(
        rows.into_dispatch(),
        gamma.clone().into_dispatch(),
        beta.clone().into_dispatch(),
        epsilon,
    );
    Some(Tensor::<2>::from_dispatch(y).reshape(dims))
}

/// softmax(q kᵀ / √e) v for each of `heads` pieces of e features; all `[n, t, d]`, differentiable.
pub(crate) fn attention(heads: usize, q: &Tensor<3>, k: &Tensor<3>, v: &Tensor<3>) -> Option<Tensor<3>> {
    let [_, tokens, width] = q.dims();
    let alike = q.dims() == k.dims() && q.dims() == v.dims() && is_ours(q) && is_ours(k) && is_ours(v);
    let whole = heads > 0 && width.is_multiple_of(heads) && q.shape().num_elements() > 0;
    if !alike || !whole || tokens > attention::MOST_TOKENS {
        return None;
    }
    let [q, k, v] = [q, k, v].map(|x| x.clone().into_dispatch());
    Some(Tensor::from_dispatch(Dispatch::direct_attention(q, k, v, heads)))
}
