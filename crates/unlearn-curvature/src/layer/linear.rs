//! Linear layers.

use burn::Tensor;
use burn::nn::Linear;

/// What `layer` makes of x `[…, i]`, as Burn's own call; by our own kernel where it serves.
pub(crate) fn forward<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if let Some(y) = ours(layer, &x) {
        return y;
    }
    layer.forward(x)
}

#[cfg(feature = "flex")]
fn ours<const D: usize>(layer: &Linear, x: &Tensor<D>) -> Option<Tensor<D>> {
    let bias = layer.bias.as_ref().map(burn::module::Param::val);
    crate::flex::tokens::linear(x, &layer.weight.val(), bias.as_ref())
}
