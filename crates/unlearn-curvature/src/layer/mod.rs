//! Layers seen from behind: the input's gradient given the result's, on plain tensors.
//!
//! b samples, c columns, `[b·c, …]` cotangents with the columns of a sample together; see
//! [`sweep`](crate::sweep) for who calls whom.

pub(crate) mod activation;
pub(crate) mod attention;
pub(crate) mod conv;
pub(crate) mod linear;
pub(crate) mod low_rank;
pub(crate) mod norm;
pub(crate) mod pool;
pub(crate) mod tokens;

use burn::Tensor;

use crate::tape::AnyTensor;

/// `cotangent` `[b·c, …]` times `factor` `[b, …]`, the same for every column.
pub(crate) fn times_each(cotangent: AnyTensor, factor: AnyTensor, (b, c): (usize, usize)) -> AnyTensor {
    let dims = cotangent.dims();
    let size: usize = dims[1..].iter().product();
    let factor: Tensor<3> = factor.into_three([b, 1, size]);
    AnyTensor::from_three(cotangent.into_three([b, c, size]) * factor, &dims)
}
