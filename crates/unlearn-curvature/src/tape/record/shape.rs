//! Tensors of any rank seen as three dimensions, which is all that going back needs.

use burn::Tensor;

use crate::tape::AnyTensor;

/// Applies the same expression to a tensor of any rank.
macro_rules! with_tensor {
    ($any:expr, $t:ident => $body:expr) => {
        match $any {
            AnyTensor::R2($t) => $body,
            AnyTensor::R3($t) => $body,
            AnyTensor::R4($t) => $body,
        }
    };
}

impl AnyTensor {
    /// Whether the tensor lies on an autodiff device.
    pub fn is_autodiff(&self) -> bool {
        with_tensor!(self, t => t.is_autodiff())
    }

    /// The values in row-major order under another shape of as many scalars.
    pub(crate) fn into_three(self, shape: [usize; 3]) -> Tensor<3> {
        with_tensor!(self, t => t.reshape(shape))
    }

    /// The reverse of [`into_three`](Self::into_three).
    ///
    /// # Panics
    /// For another rank than 2, 3 or 4.
    pub(crate) fn from_three(values: Tensor<3>, dims: &[usize]) -> Self {
        match *dims {
            [a, b] => Self::R2(values.reshape([a, b])),
            [a, b, c] => Self::R3(values.reshape([a, b, c])),
            [a, b, c, d] => Self::R4(values.reshape([a, b, c, d])),
            _ => unreachable!("tapes carry ranks 2, 3 and 4, not {dims:?}"),
        }
    }

    /// `[n, …, d]` as `[n, t, d]`.
    pub(crate) fn into_rows(self) -> Tensor<3> {
        let dims = self.dims();
        let (n, d) = (dims[0], dims[dims.len() - 1]);
        let t = dims[1..dims.len() - 1].iter().product();
        self.into_three([n, t, d])
    }

    /// Sum of two values of equal shape.
    pub(crate) fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::R2(a), Self::R2(b)) => Self::R2(a + b),
            (Self::R3(a), Self::R3(b)) => Self::R3(a + b),
            (Self::R4(a), Self::R4(b)) => Self::R4(a + b),
            (a, b) => unreachable!("cotangents of one value have shapes {:?} and {:?}", a.dims(), b.dims()),
        }
    }
}
