//! Convolutions as products with patches. i channels, k kernel taps, d = i·k, p outputs, t positions.

use burn::Tensor;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::Conv2d;
use burn::tensor::module::{conv_transpose2d, conv2d};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions, PadMode};
use burn::tensor::s;

/// What `layer` makes of `x` `[n, i, h, w]`, differentiable: by our own kernels where they serve.
pub(crate) fn forward(layer: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if let Some(y) = crate::flex::conv2d(&x, &layer.weight.val(), &options(layer, &x)) {
        return with_bias(layer, y);
    }
    layer.forward(x)
}

/// What our kernels are told of `layer` on `x` `[n, i, h, w]`.
#[cfg(feature = "flex")]
pub(super) fn options(layer: &Conv2d, x: &Tensor<4>) -> ConvOptions<2> {
    let [_, _, height, width] = x.dims();
    let padding = padding_pairs(&layer.padding, [height, width], layer.kernel_size, layer.stride);
    ConvOptions::new_with_padding(layer.stride, padding, layer.dilation, layer.groups)
}

/// `y` `[n, p, h', w']` and the layer's bias.
#[cfg(feature = "flex")]
pub(super) fn with_bias(layer: &Conv2d, y: Tensor<4>) -> Tensor<4> {
    match &layer.bias {
        Some(bias) => y + bias.val().reshape([1, bias.dims()[0], 1, 1]),
        None => y,
    }
}

/// Everything about a convolution but its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) channels: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    /// (before, after) for rows and columns.
    padding: [(usize, usize); 2],
    input: [usize; 2],
    output: [usize; 2],
}

/// Padding in pairs (before, after) for rows and columns, as Burn's layers resolve it.
pub(crate) fn padding_pairs(
    padding: &PaddingConfig2d,
    input: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
) -> [(usize, usize); 2] {
    match padding {
        PaddingConfig2d::Valid => [(0, 0); 2],
        PaddingConfig2d::Explicit(top, left, bottom, right) => [(*top, *bottom), (*left, *right)],
        // Output size ⌈input / stride⌉; an odd pixel goes to the end.
        PaddingConfig2d::Same => std::array::from_fn(|axis| {
            let output = input[axis].div_ceil(stride[axis]);
            let needed = output.saturating_sub(1) * stride[axis] + kernel[axis];
            let total = needed.saturating_sub(input[axis]);
            (total / 2, total - total / 2)
        }),
    }
}

impl Geometry {
    /// Of `layer` on inputs of `dims`, `[n, i, h, w]`.
    pub(crate) fn of(layer: &Conv2d, dims: [usize; 4]) -> Self {
        let [_, channels, height, width] = dims;
        let input = [height, width];
        let padding = padding_pairs(&layer.padding, input, layer.kernel_size, layer.stride);
        let output = std::array::from_fn(|axis| {
            let span = layer.dilation[axis] * (layer.kernel_size[axis] - 1) + 1;
            (input[axis] + padding[axis].0 + padding[axis].1 - span) / layer.stride[axis] + 1
        });
        Self {
            channels,
            kernel: layer.kernel_size,
            stride: layer.stride,
            dilation: layer.dilation,
            padding,
            input,
            output,
        }
    }

    fn options(&self) -> ConvOptions<2> {
        ConvOptions::new_with_padding(self.stride, self.padding, self.dilation, 1)
    }

    /// The same on fewer channels.
    pub(crate) fn with_channels(&self, channels: usize) -> Self {
        Self { channels, ..self.clone() }
    }

    /// d, the length of a patch.
    pub(crate) fn patch(&self) -> usize {
        self.channels * self.kernel[0] * self.kernel[1]
    }

    /// t, the number of patches.
    pub(crate) fn positions(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// The patches of `x` `[n, i, h, w]`: `[n, d, t]`, d in the order of the weight.
    ///
    /// By shifted slices of the padded input: Burn's `unfold4d` runs a one-hot convolution for
    /// anything but stride 1 without padding.
    pub(crate) fn patches(&self, x: Tensor<4>) -> Tensor<3> {
        let [n, channels, _, _] = x.dims();
        let t = self.positions();
        let x = if self.padding == [(0, 0); 2] { x } else { x.pad(self.padding, PadMode::Constant(0.0)) };
        let [sy, sx] = self.stride;
        let mut taps = Vec::with_capacity(self.kernel[0] * self.kernel[1]);
        for ky in 0..self.kernel[0] {
            for kx in 0..self.kernel[1] {
                let (top, left) = (ky * self.dilation[0], kx * self.dilation[1]);
                let bottom = top + (self.output[0] - 1) * sy + 1;
                let right = left + (self.output[1] - 1) * sx + 1;
                let tap = x.clone().slice(s![.., .., top..bottom;sy as isize, left..right;sx as isize]);
                taps.push(tap.reshape([n, channels, 1, t]));
            }
        }
        Tensor::cat(taps, 2).reshape([n, self.patch(), t])
    }

    /// The convolution of `x` `[n, i, h, w]` with a weight given as a matrix `[p, d]`: `[n, p, t]`.
    pub(crate) fn apply(&self, x: Tensor<4>, matrix: Tensor<2>) -> Tensor<3> {
        let (n, p) = (x.dims()[0], matrix.dims()[0]);
        let weight = matrix.reshape([p, self.channels, self.kernel[0], self.kernel[1]]);
        #[cfg(feature = "flex")]
        if let Some(y) = crate::flex::conv2d(&x, &weight, &self.options()) {
            return y.reshape([n, p, self.positions()]);
        }
        conv2d(x, weight, None, self.options()).reshape([n, p, self.positions()])
    }

    /// The gradient of the input `[n, i, h, w]`, given that of the output `[n, p, h', w']` and the weight
    /// `[p, i, kh, kw]`.
    pub(crate) fn input_gradient(&self, gradient: Tensor<4>, weight: Tensor<4>) -> Tensor<4> {
        #[cfg(feature = "flex")]
        {
            let dims = [gradient.dims()[0], self.channels, self.input[0], self.input[1]];
            if let Some(back) = crate::flex::input_gradient(&gradient, &weight, dims, &self.options()) {
                return back;
            }
        }
        let span: [usize; 2] = std::array::from_fn(|a| self.dilation[a] * (self.kernel[a] - 1));
        let direct = (0..2).all(|a| self.padding[a].0 == self.padding[a].1 && self.padding[a].0 <= span[a]);
        if direct {
            let padding = [self.padding[0].0, self.padding[1].0];
            let rest =
                std::array::from_fn(|a| (self.input[a] + 2 * padding[a] - span[a] - 1) % self.stride[a]);
            let options = ConvTransposeOptions::new(self.stride, padding, rest, self.dilation, 1);
            return conv_transpose2d(gradient, weight, None, options);
        }
        // Uneven or very wide padding: the gradient of the whole padded input, then its inner part.
        let options = ConvTransposeOptions::new(self.stride, [0; 2], [0; 2], self.dilation, 1);
        let full = conv_transpose2d(gradient, weight, None, options);
        let [_, _, rows, columns] = full.dims();
        let end = |a: usize| self.padding[a].0 + self.input[a];
        let missing = [(0, end(0).saturating_sub(rows)), (0, end(1).saturating_sub(columns))];
        let full = if missing == [(0, 0); 2] { full } else { full.pad(missing, PadMode::Constant(0.0)) };
        full.slice(s![.., .., self.padding[0].0..end(0), self.padding[1].0..end(1)])
    }

    /// Σ over units (of `group` samples) and columns of squared weight gradients, `[p, d]`, each unit's gradients
    /// times its factor, without a gradient ever being stored: from the input `[n, i, h, w]` and cotangents
    /// `[n·c, p, t]`. `None` where no kernel serves.
    #[cfg_attr(not(feature = "flex"), allow(unused_variables, clippy::unused_self, reason = "no kernel"))]
    pub(crate) fn fused_squares(
        &self,
        x: &Tensor<4>,
        cotangents: &Tensor<3>,
        columns: usize,
        group: usize,
        factors: Option<Tensor<1>>,
    ) -> Option<Tensor<2>> {
        #[cfg(feature = "flex")]
        {
            let weight = [cotangents.dims()[1], self.channels, self.kernel[0], self.kernel[1]];
            let of = crate::flex::SquaresOf { columns, group, factors };
            crate::flex::squares(x, cotangents, weight, &self.options(), of)
        }
        #[cfg(not(feature = "flex"))]
        None
    }

    /// The weight gradients of units of `group` samples, `[u·c, entries]`, from the input `[n, i, h, w]` and
    /// cotangents `[n·c, p, t]`: as `[p, d]` where `ordered`, else in an order of the kernel's own with zeros
    /// between, the same for every unit. `None` where no kernel serves.
    #[cfg_attr(not(feature = "flex"), allow(unused_variables, clippy::unused_self, reason = "no kernel"))]
    pub(crate) fn single_gradients(
        &self,
        x: &Tensor<4>,
        cotangents: &Tensor<3>,
        (columns, group): (usize, usize),
        ordered: bool,
    ) -> Option<Tensor<2>> {
        #[cfg(feature = "flex")]
        {
            use crate::flex::{Order, single_gradients};
            let order = if ordered { Order::Weight } else { Order::Tile };
            let weight = [cotangents.dims()[1], self.channels, self.kernel[0], self.kernel[1]];
            single_gradients(x, cotangents, weight, &self.options(), (columns, group), order)
        }
        #[cfg(not(feature = "flex"))]
        None
    }

    /// Σ over samples and positions of cotangent · patch, `[p, d]`, from the input `[n, i, h, w]` and cotangents
    /// `[n, p, t]`. `None` where no kernel serves.
    #[cfg_attr(not(feature = "flex"), allow(unused_variables, clippy::unused_self, reason = "no kernel"))]
    pub(crate) fn weight_gradient(&self, x: &Tensor<4>, cotangents: Tensor<3>) -> Option<Tensor<2>> {
        #[cfg(feature = "flex")]
        {
            let [n, p, _] = cotangents.dims();
            let weight = [p, self.channels, self.kernel[0], self.kernel[1]];
            let gradient = cotangents.reshape([n, p, self.output[0], self.output[1]]);
            let sum = crate::flex::weight_gradient(x, &gradient, weight, &self.options())?;
            Some(sum.reshape([p, self.patch()]))
        }
        #[cfg(not(feature = "flex"))]
        None
    }

    /// Whether [`fused_squares`](Self::fused_squares) serves.
    #[cfg_attr(not(feature = "flex"), allow(unused_variables, clippy::unused_self, reason = "no kernel"))]
    pub(crate) fn has_fused_squares(&self, x: &Tensor<4>, outputs: usize) -> bool {
        #[cfg(feature = "flex")]
        {
            let weight = [outputs, self.channels, self.kernel[0], self.kernel[1]];
            crate::flex::has_squares(x, weight, &self.options())
        }
        #[cfg(not(feature = "flex"))]
        false
    }
}
