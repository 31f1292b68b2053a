//! Tensors on a tape: typed by rank for models, erased for tapes.

use burn::tensor::Tensor;

/// A float tensor of any rank that a tape carries.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum AnyTensor {
    /// `[n, features]`
    R2(Tensor<2>),
    /// `[n, tokens, features]`
    R3(Tensor<3>),
    /// `[n, channels, height, width]`
    R4(Tensor<4>),
}

impl AnyTensor {
    /// The shape.
    pub fn dims(&self) -> Vec<usize> {
        match self {
            Self::R2(t) => t.dims().to_vec(),
            Self::R3(t) => t.dims().to_vec(),
            Self::R4(t) => t.dims().to_vec(),
        }
    }
}

/// A tensor of a rank that tapes carry (2, 3 and 4). Implemented here only.
pub trait Ranked<const D: usize>: Sized + private::Sealed {
    /// Erases the rank.
    fn into_any(self) -> AnyTensor;
    /// Gives the rank back.
    ///
    /// # Errors
    /// The value's shape, when its rank is not `D`.
    fn from_any(value: AnyTensor) -> Result<Self, Vec<usize>>;
}

mod private {
    pub trait Sealed {}
    impl<const D: usize> Sealed for burn::tensor::Tensor<D> {}
}

macro_rules! ranked {
    ($($rank:literal => $variant:ident),*) => {$(
        impl Ranked<$rank> for Tensor<$rank> {
            fn into_any(self) -> AnyTensor {
                AnyTensor::$variant(self)
            }

            fn from_any(value: AnyTensor) -> Result<Self, Vec<usize>> {
                match value {
                    AnyTensor::$variant(tensor) => Ok(tensor),
                    other => Err(other.dims()),
                }
            }
        }
    )*};
}
ranked!(2 => R2, 3 => R3, 4 => R4);

/// A value on a tape with its rank erased: the tensor, and the tape's own number for it.
#[derive(Debug, Clone)]
pub struct AnyVar {
    /// The tensor.
    pub value: AnyTensor,
    /// The tape's number for this value; `None` when the tape does not follow it.
    pub node: Option<usize>,
}

impl AnyVar {
    /// A value that the tape does not follow.
    pub fn untracked(value: AnyTensor) -> Self {
        Self { value, node: None }
    }
}

/// A value on a tape: a tensor of rank `D` and the tape's own number for it.
#[derive(Debug, Clone)]
pub struct Var<const D: usize> {
    value: Tensor<D>,
    node: Option<usize>,
}

impl<const D: usize> Var<D> {
    /// The shape.
    pub fn dims(&self) -> [usize; D] {
        self.value.dims()
    }

    /// The tensor.
    pub fn value(&self) -> &Tensor<D> {
        &self.value
    }

    /// The tensor, by value.
    pub fn into_value(self) -> Tensor<D> {
        self.value
    }

    /// The tape's number for this value, when it follows it.
    pub fn node(&self) -> Option<usize> {
        self.node
    }
}

impl<const D: usize> Var<D>
where
    Tensor<D>: Ranked<D>,
{
    pub(crate) fn into_any(self) -> AnyVar {
        AnyVar { value: self.value.into_any(), node: self.node }
    }

    /// # Panics
    /// When a third-party tape broke its contract and returned another rank than the operation's.
    pub(crate) fn from_any(var: AnyVar) -> Self {
        match Tensor::<D>::from_any(var.value) {
            Ok(value) => Self { value, node: var.node },
            Err(shape) => {
                unreachable!("the tape returned a value of shape {shape:?} where rank {D} is documented")
            }
        }
    }
}
