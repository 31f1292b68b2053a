//! Linear layers.

use burn::Tensor;
use burn::nn::Linear;

/// What `layer` makes of x `[…, i]`, as Burn's own call; the bias by our own kernel where it serves.
pub(crate) fn forward<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if let Some(bias) = &layer.bias
        && crate::flex::is_ours(&x)
    {
        let y = Linear { weight: layer.weight.clone(), bias: None }.forward(x);
        return with_bias(y, bias.val());
    }
    layer.forward(x)
}

/// `y` `[…, o]` plus `bias` `[o]`.
#[cfg(feature = "flex")]
pub(crate) fn with_bias<const D: usize>(y: Tensor<D>, bias: Tensor<1>) -> Tensor<D> {
    if crate::flex::tokens::has_bias(&y, &bias) {
        return crate::flex::tokens::add_bias(y, bias);
    }
    let mut dims = [1; D];
    dims[D - 1] = bias.dims()[0];
    y + bias.reshape(dims)
}
