//! Pooling and subsampling.

use burn::Tensor;
use burn::nn::pool::MaxPool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{IndexingUpdateOp, Int, s};

use super::conv::padding_pairs;

/// The options with which `layer` pools inputs of size `input`, `[h, w]`.
pub(crate) fn options(layer: &MaxPool2d, input: [usize; 2]) -> MaxPoolOptions<2> {
    MaxPoolOptions::new(layer.kernel_size)
        .with_stride(layer.stride)
        .with_padding_pairs(padding_pairs(&layer.padding, input, layer.kernel_size, layer.stride))
        .with_dilation(layer.dilation)
        .with_ceil_mode(layer.ceil_mode)
}

/// Back through max pooling: each cotangent goes to where the largest value was. `indices`
/// `[b, i, h', w']` into the pixels of inputs of `dims` `[b, i, h, w]`; `gradient` `[b·c, i, h', w']`.
pub(crate) fn max_pool(
    indices: Tensor<4, Int>,
    dims: [usize; 4],
    gradient: Tensor<4>,
    columns: usize,
) -> Tensor<4> {
    let [b, channels, height, width] = dims;
    let [rows, _, out_height, out_width] = gradient.dims();
    let size = out_height * out_width;
    let indices =
        indices.reshape([b, 1, channels, size]).repeat_dim(1, columns).reshape([rows, channels, size]);
    Tensor::<3>::zeros([rows, channels, height * width], &gradient.device())
        .scatter(2, indices, gradient.reshape([rows, channels, size]), IndexingUpdateOp::Add)
        .reshape([rows, channels, height, width])
}

/// Back through the mean over positions: `[n, c]` spread evenly over `[n, c, h, w]`.
pub(crate) fn global_average(dims: [usize; 4], gradient: Tensor<2>) -> Tensor<4> {
    let [_, _, height, width] = dims;
    let [rows, channels] = gradient.dims();
    gradient
        .div_scalar((height * width) as f64)
        .reshape([rows, channels, 1, 1])
        .expand([rows, channels, height, width])
}

/// Back through taking every second pixel and adding `pad` channels on both sides: zeros where
/// nothing was taken. `dims` are those of the input.
pub(crate) fn subsample_pad(pad: usize, dims: [usize; 4], gradient: Tensor<4>) -> Tensor<4> {
    let [_, channels, height, width] = dims;
    let taken = gradient.slice(s![.., pad..pad + channels, .., ..]);
    let [rows, _, half_height, half_width] = taken.dims();
    let apart = taken.reshape([rows, channels, half_height, half_width, 1]);
    let wide = Tensor::cat(vec![apart.clone(), apart.zeros_like()], 4)
        .reshape([rows, channels, half_height, 2 * half_width])
        .slice(s![.., .., .., 0..width]);
    let apart = wide.reshape([rows, channels, half_height, 1, width]);
    Tensor::cat(vec![apart.clone(), apart.zeros_like()], 3)
        .reshape([rows, channels, 2 * half_height, width])
        .slice(s![.., .., 0..height, ..])
}
