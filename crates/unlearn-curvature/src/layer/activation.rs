//! Activations.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use burn::Tensor;

use super::times_each;
use crate::tape::AnyTensor;

/// Back through `y = max(x, 0)`, given `y` `[b, …]`: what the next layer keeps anyway.
pub(crate) fn relu(y: AnyTensor, cotangent: AnyTensor, (b, c): (usize, usize)) -> AnyTensor {
    let dims = y.dims();
    let size: usize = dims[1..].iter().product();
    let y = y.into_three([b, 1, size]);
    #[cfg(feature = "flex")]
    if let Some(back) = crate::flex::relu_back(&y, &cotangent.clone().into_three([b * c, 1, size]), c) {
        return AnyTensor::from_three(back, &cotangent.dims());
    }
    let open = y.greater_scalar(0.0).float();
    times_each(cotangent, AnyTensor::R3(open), (b, c))
}

/// x Φ(x) with the error function itself: by our own kernel where it serves.
pub(crate) fn gelu_forward<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if let Some(y) = crate::flex::tokens::gelu(&x) {
        return y;
    }
    burn::tensor::activation::gelu(x)
}

/// Back through `y = x Φ(x)`: y' = Φ(x) + x φ(x) with the error function itself.
pub(crate) fn gelu(x: AnyTensor, cotangent: AnyTensor, (b, c): (usize, usize)) -> AnyTensor {
    let dims = x.dims();
    let size: usize = dims[1..].iter().product();
    let x = x.into_three([b, 1, size]);
    #[cfg(feature = "flex")]
    if let Some(back) = crate::flex::tokens::gelu_back(&x, &cotangent.clone().into_three([b * c, 1, size]), c)
    {
        return AnyTensor::from_three(back, &cotangent.dims());
    }
    let below = x.clone().mul_scalar(FRAC_1_SQRT_2).erf().add_scalar(1.0).mul_scalar(0.5);
    let density = x.clone().square().mul_scalar(-0.5).exp().mul_scalar(1.0 / (2.0 * PI).sqrt());
    times_each(cotangent, AnyTensor::R3(below + x * density), (b, c))
}
