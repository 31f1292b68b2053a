//! Which kernel a convolution goes through: tiles of [`winograd`] where they are faster, [`narrow`] and [`thin`] for few
//! outputs, else one product after the other.

use super::product::{self, Cotangents};
use super::shape::ConvShape;
use super::{gather, narrow, thin, winograd};

/// x `[n, i, h, w]`, weight `[o, i, kh, kw]` → `[n, o, h', w']`.
pub(super) fn forward(shape: &ConvShape, x: &[f32], weight: &[f32]) -> Vec<f32> {
    let run = match shape {
        shape if narrow::suits(shape) => narrow::forward,
        shape if winograd::suits(shape) => winograd::forward,
        _ => gather::forward,
    };
    run(shape, x, weight)
}

/// gradient `[n, o, h', w']`, weight `[o, i, kh, kw]` → `[n, i, h, w]`.
pub(super) fn input_gradient(shape: &ConvShape, gradient: &[f32], weight: &[f32]) -> Vec<f32> {
    let run = if winograd::suits_back(shape) { winograd::input_gradient } else { gather::input_gradient };
    run(shape, gradient, weight)
}

/// x `[n, i, h, w]`, gradient `[n, o, h', w']` → `[o, i · kh · kw]`.
pub(super) fn weight_gradient(shape: &ConvShape, x: &[f32], gradient: &[f32]) -> Vec<f32> {
    let run = match shape {
        shape if winograd::suits_weights(shape) => winograd::weight_gradient,
        shape if thin::suits(shape) => thin::weight_gradient,
        _ => product::weight_gradient,
    };
    run(shape, x, gradient)
}

/// Σ over units and columns of the squares of the gradients of single units: `[o, i · kh · kw]`.
pub(super) fn squares(shape: &ConvShape, x: &[f32], cotangents: &Cotangents) -> Vec<f32> {
    let suits = winograd::suits_squares(shape, cotangents.group);
    let run = if suits { winograd::squares } else { product::squares };
    run(shape, x, cotangents)
}
