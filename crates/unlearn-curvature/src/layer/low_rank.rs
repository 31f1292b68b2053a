//! Layers with a narrow branch beside them (Hu et al. 2022): y = layer(x) + factor · up(down(x)).
//!
//! Where the layer itself does not train and our own kernels serve, the branch is added to the weight for the length of
//! a step, and the way back forms the gradients of the narrow factors only; elsewhere the three layers run one by one.

use burn::Tensor;
use burn::nn::Linear;
use burn::nn::conv::Conv2d;

use super::{conv, linear};

/// `layer(x) + factor · up(down(x))` of x `[n, i, h, w]`.
pub(crate) fn conv(layer: &Conv2d, [down, up]: [&Conv2d; 2], factor: f64, x: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if let Some(y) = joined::conv(layer, [down, up], factor, &x) {
        return y;
    }
    let branch = conv::forward(up, scaled(conv::forward(down, x.clone()), factor));
    conv::forward(layer, x) + branch
}

/// `layer(x) + factor · up(down(x))` of x `[…, i]`.
pub(crate) fn linear<const D: usize>(
    layer: &Linear,
    [down, up]: [&Linear; 2],
    factor: f64,
    x: Tensor<D>,
) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if let Some(y) = joined::linear(layer, [down, up], factor, &x) {
        return y;
    }
    let branch = linear::forward(up, scaled(linear::forward(down, x.clone()), factor));
    linear::forward(layer, x) + branch
}

/// Scaled where it is smallest.
fn scaled<const D: usize>(narrow: Tensor<D>, factor: f64) -> Tensor<D> {
    if factor == 1.0 { narrow } else { narrow.mul_scalar(factor) }
}

#[cfg(feature = "flex")]
mod joined {
    use burn::Tensor;
    use burn::module::Param;
    use burn::nn::conv::Conv2d;
    use burn::nn::{Linear, PaddingConfig2d};

    use crate::flex::{Branch, low_rank_conv, low_rank_linear};
    use crate::layer::conv::{options, with_bias};

    fn branch<const D: usize>([weight, a, b]: [&Param<Tensor<D>>; 3], factor: f64) -> Branch<D> {
        Branch { weight: weight.val(), a: a.val(), b: b.val(), factor }
    }

    pub(super) fn conv(
        layer: &Conv2d,
        [down, up]: [&Conv2d; 2],
        factor: f64,
        x: &Tensor<4>,
    ) -> Option<Tensor<4>> {
        let same = (layer.kernel_size, layer.stride, layer.dilation, &layer.padding)
            == (down.kernel_size, down.stride, down.dilation, &down.padding);
        let pointwise = (up.kernel_size, up.stride) == ([1, 1], [1, 1])
            && matches!(up.padding, PaddingConfig2d::Valid | PaddingConfig2d::Same);
        let plain = [layer.groups, down.groups, up.groups] == [1; 3];
        if !(same && pointwise && plain && down.bias.is_none() && up.bias.is_none()) {
            return None;
        }
        let ([o, i, _, _], [r, i_down, _, _]) = (layer.weight.dims(), down.weight.dims());
        if i_down != i || up.weight.dims() != [o, r, 1, 1] {
            return None;
        }
        let branch = branch([&layer.weight, &down.weight, &up.weight], factor);
        Some(with_bias(layer, low_rank_conv(x, branch, &options(layer, x))?))
    }

    pub(super) fn linear<const D: usize>(
        layer: &Linear,
        [down, up]: [&Linear; 2],
        factor: f64,
        x: &Tensor<D>,
    ) -> Option<Tensor<D>> {
        if down.bias.is_some() || up.bias.is_some() {
            return None;
        }
        let mut dims = x.dims();
        let ([inputs, outputs], [i_down, rank]) = (layer.weight.dims(), down.weight.dims());
        if i_down != inputs || up.weight.dims() != [rank, outputs] || dims[D - 1] != inputs {
            return None;
        }
        let rows = x.shape().num_elements() / inputs.max(1);
        let flat = x.clone().reshape([rows, inputs]);
        let bias = layer.bias.as_ref().map(Param::val);
        let branch = branch([&layer.weight, &down.weight, &up.weight], factor);
        let y = low_rank_linear(&flat, branch, bias.as_ref())?;
        dims[D - 1] = outputs;
        Some(y.reshape(dims))
    }
}
