//! Between pictures, tokens and features: shapes only. n samples, t tokens, d features.

use burn::Tensor;
use burn::tensor::s;

/// How tokens become one vector a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenPool {
    /// The first token, which a [class token](crate::tape::Op::ClassToken) is.
    First,
    /// The mean over all tokens.
    Mean,
}

impl TokenPool {
    /// `[n, t, d]` → `[n, d]`.
    pub(crate) fn forward(self, x: Tensor<3>) -> Tensor<2> {
        let [n, _, d] = x.dims();
        match self {
            Self::First => x.slice(s![.., 0..1, ..]).reshape([n, d]),
            Self::Mean => x.mean_dim(1).reshape([n, d]),
        }
    }

    /// Back to `tokens` tokens.
    pub(crate) fn back(self, cotangent: Tensor<2>, tokens: usize) -> Tensor<3> {
        let [rows, d] = cotangent.dims();
        let one = cotangent.reshape([rows, 1, d]);
        match self {
            Self::First if tokens == 1 => one,
            Self::First => {
                let rest = Tensor::zeros([rows, tokens - 1, d], (&one.device(), one.dtype()));
                Tensor::cat(vec![one, rest], 1)
            }
            Self::Mean => one.div_scalar(tokens as f64).expand([rows, tokens, d]),
        }
    }
}

/// Positions as tokens, row by row: `[n, d, h, w]` → `[n, h·w, d]`.
pub(crate) fn of_positions(x: Tensor<4>) -> Tensor<3> {
    let [n, d, h, w] = x.dims();
    x.reshape([n, d, h * w]).swap_dims(1, 2)
}

/// The reverse of [`of_positions`] for positions of `[h, w]`.
pub(crate) fn to_positions(x: Tensor<3>, [h, w]: [usize; 2]) -> Tensor<4> {
    let [n, _, d] = x.dims();
    x.swap_dims(1, 2).reshape([n, d, h, w])
}

/// The learned tokens `token` `[1, k, d]` before those of `x`: `[n, t, d]` → `[n, k + t, d]`.
pub(crate) fn prepend(token: Tensor<3>, x: Tensor<3>) -> Tensor<3> {
    let ([n, _, d], k) = (x.dims(), token.dims()[1]);
    Tensor::cat(vec![token.expand([n, k, d]), x], 1)
}

/// The cotangents of the first `k` tokens, flat, `[rows, k·d]`, and those of the rest.
pub(crate) fn split_off(k: usize, cotangent: Tensor<3>) -> (Tensor<2>, Tensor<3>) {
    let [rows, _, d] = cotangent.dims();
    let first = cotangent.clone().slice(s![.., 0..k, ..]).reshape([rows, k * d]);
    (first, cotangent.slice(s![.., k.., ..]))
}
