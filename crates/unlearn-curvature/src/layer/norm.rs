//! Batch norm with running statistics, and layer norm.

use burn::Tensor;
#[cfg(feature = "flex")]
use burn::module::{Module, Param};
use burn::nn::{BatchNorm, LayerNorm};
use burn::tensor::TensorData;

use crate::CurvatureError;
use crate::tree::read;

/// What `layer` makes of `x` `[n, c, h, w]`, as Burn's own call: by our own kernels where they serve, also when the layer
/// itself is frozen.
pub(crate) fn forward(layer: &BatchNorm, x: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if kernels::serve(layer, &x) {
        return kernels::forward(layer, x, crate::flex::Behind::Nothing);
    }
    layer.forward(x)
}

/// The same with a ReLU behind it.
pub(crate) fn forward_relu(layer: &BatchNorm, x: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if kernels::serve(layer, &x) {
        return kernels::forward(layer, x, crate::flex::Behind::Relu);
    }
    burn::tensor::activation::relu(layer.forward(x))
}

#[cfg(feature = "flex")]
mod kernels {
    use burn::Tensor;
    use burn::nn::BatchNorm;

    use crate::flex::{Behind, batch_norm_fixed, batch_norm_train, has_batch_norm};

    /// Whether the layer normalises by the batch's own moments.
    fn trains(layer: &BatchNorm, x: &Tensor<4>) -> bool {
        x.is_autodiff() && layer.training.is_enabled()
    }

    pub(super) fn serve(layer: &BatchNorm, x: &Tensor<4>) -> bool {
        let (gamma, beta) = (layer.gamma.val(), layer.beta.val());
        // By moments from elsewhere there are no gradients of the layer's own parameters.
        let frozen = !gamma.is_tracked() && !beta.is_tracked();
        has_batch_norm(x, [&gamma, &beta]) && (trains(layer, x) || frozen)
    }

    /// Of a layer that they [`serve`].
    pub(super) fn forward(layer: &BatchNorm, x: Tensor<4>, behind: Behind) -> Tensor<4> {
        let affine = [&layer.gamma.val(), &layer.beta.val()];
        if !trains(layer, &x) {
            let moments = [layer.running_mean.value(), layer.running_var.value()];
            return batch_norm_fixed(x, affine, moments, layer.epsilon, behind);
        }
        let (y, mean, variance) = batch_norm_train(&x, affine, layer.epsilon, behind);
        for (state, new) in [(&layer.running_mean, mean), (&layer.running_var, variance)] {
            let before = state.value_sync();
            let new = match before.gradient_checkpointing_strategy() {
                // Two strategies do not mix.
                Some(strategy) => Tensor::from_inner(new).with_gradient_checkpointing_strategy(strategy),
                None if before.is_autodiff() => Tensor::from_inner(new),
                None => new,
            };
            let kept = before.mul_scalar(1.0 - layer.momentum);
            state.update(kept.add(new.mul_scalar(layer.momentum)).detach());
        }
        y
    }
}

/// What `layer` makes of x `[…, d]`, as Burn's own call; where gradients are wanted by our own kernel, if it serves. The
/// kernel has to be told the layer's ε, which is found anew each time, for some microseconds.
pub(crate) fn layer_forward<const D: usize>(layer: &LayerNorm, x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if x.is_autodiff()
        && crate::flex::is_ours(&x)
        && let Ok(epsilon) = epsilon(&layer.valid())
    {
        let gamma = layer.gamma.val();
        let beta = layer.beta.as_ref().map_or_else(|| gamma.zeros_like().detach(), Param::val);
        if let Some(y) = crate::flex::tokens::layer_norm(&x, &gamma, &beta, epsilon) {
            return y;
        }
    }
    layer.forward(x)
}

/// Sums `[n, c, h, w]` over positions: `[n, c]`.
pub(crate) fn sum_positions(x: Tensor<4>) -> Tensor<2> {
    let [n, c, h, w] = x.dims();
    x.reshape([n, c, h * w]).sum_dim(2).reshape([n, c])
}

/// The gradient of a batch norm's scale, `[b·c, channels]`: Σ over positions of g ∘ x̂.
///
/// x̂ is computed from `x`, not from the output: where a pruned network has γ = 0 the output no longer
/// knows it.
pub(crate) fn batch_scale(
    x: Tensor<4>,
    mean: &Tensor<1>,
    inverse_std: &Tensor<1>,
    cotangent: Tensor<4>,
    (b, c): (usize, usize),
) -> Tensor<2> {
    let [_, channels, height, width] = x.dims();
    let per_channel = |t: &Tensor<1>| t.clone().reshape([1, channels, 1, 1]);
    let normalised = (x - per_channel(mean)) * per_channel(inverse_std);
    let size = channels * height * width;
    let product = cotangent.reshape([b, c, size]) * normalised.reshape([b, 1, size]);
    product.reshape([b * c, channels, height * width]).sum_dim(2).reshape([b * c, channels])
}

/// The ε of a layer norm, which Burn keeps to itself, found by what the layer does: the row
/// (a, −a, 0, …) has mean 0 and a variance far below ε, so that x̂ = a / √ε.
pub(crate) fn epsilon(layer: &LayerNorm) -> Result<f64, CurvatureError> {
    const SMALL: f32 = 1e-15;
    let gamma = layer.gamma.val();
    let (d, device) = (gamma.dims()[0], gamma.device());
    if d < 2 {
        // x̂ is 0 whatever ε is.
        return Ok(1.0);
    }
    let mut row = vec![0.0; d];
    (row[0], row[1]) = (SMALL, -SMALL);
    let mut bare = layer.clone();
    bare.gamma = bare.gamma.map(|gamma| gamma.ones_like());
    bare.beta = None;
    let seen = bare.forward(Tensor::<2>::from_data(TensorData::new(row, [1, d]), &device));
    let seen = read(seen.reshape([d]))?[0];
    Ok((f64::from(SMALL) / f64::from(seen)).powi(2))
}

/// Rows of a layer norm, normalised.
pub(crate) struct Rows {
    /// x̂, `[b, 1, t, d]`.
    normalised: Tensor<4>,
    /// 1 / σ, `[b, 1, t, 1]`.
    inverse_std: Tensor<4>,
}

impl Rows {
    /// Normalises `x` `[b, t, d]` along d with the biased variance (Ba et al. 2016, eq. 3).
    pub(crate) fn new(x: Tensor<3>, epsilon: f64) -> Self {
        let [b, t, d] = x.dims();
        let x = x.reshape([b, 1, t, d]);
        let centred = x.clone() - x.mean_dim(3);
        let inverse_std = centred.clone().square().mean_dim(3).add_scalar(epsilon).sqrt().recip();
        Self { normalised: centred * inverse_std.clone(), inverse_std }
    }

    /// The gradient of the scale: tokens are summed within a sample. `[b, c, t, d]` → `[b·c, d]`.
    pub(crate) fn scale_gradient(&self, cotangent: Tensor<4>) -> Tensor<2> {
        let [b, c, _, d] = cotangent.dims();
        (cotangent * self.normalised.clone()).sum_dim(2).reshape([b * c, d])
    }

    /// The gradient of the input, (ĝ − mean(ĝ) − x̂ mean(ĝ ∘ x̂)) / σ with ĝ = g ∘ γ.
    /// `[b, c, t, d]` → `[b·c, t, d]`.
    pub(crate) fn input_gradient(&self, cotangent: Tensor<4>, gamma: &Tensor<1>) -> Tensor<3> {
        let [b, c, t, d] = cotangent.dims();
        let g = cotangent * gamma.clone().reshape([1, 1, 1, d]);
        let along = (g.clone() * self.normalised.clone()).mean_dim(3);
        let centred = g.clone() - g.mean_dim(3) - self.normalised.clone() * along;
        (centred * self.inverse_std.clone()).reshape([b * c, t, d])
    }
}
