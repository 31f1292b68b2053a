//! Going back through one operation. b samples, c columns, p outputs, d inputs, t positions.
//!
//! Cotangents are `[b·c, …]`: the columns of one sample lie together, so that a range of samples is a
//! view and their columns stack along the output dimension of a product without a copy.

use burn::Tensor;
use burn::tensor::Int;

use crate::layer::attention::Attention;
use crate::layer::conv::Geometry;
use crate::layer::tokens::{self, TokenPool};
use crate::layer::{activation, norm, pool};
use crate::sweep::{Site, SiteInput};
use crate::tape::AnyTensor;

/// What is kept of an operation. Fields that only a parameter's gradient or only the input's gradient
/// needs are empty when nobody asks for it.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "a few dozen live at a time")]
pub(crate) enum Step {
    Normalize {
        std: Tensor<1>,
    },
    Conv2d {
        x: Option<Tensor<4>>,
        weight: Option<Tensor<4>>,
        geometry: Geometry,
        weight_id: Option<u64>,
        bias_id: Option<u64>,
    },
    Linear {
        x: Option<Tensor<3>>,
        weight: Option<Tensor<2>>,
        weight_id: Option<u64>,
        bias_id: Option<u64>,
    },
    BatchNorm {
        x: Option<Tensor<4>>,
        mean: Tensor<1>,
        inverse_std: Tensor<1>,
        gamma: Tensor<1>,
        gamma_id: Option<u64>,
        beta_id: Option<u64>,
    },
    LayerNorm {
        x: Tensor<3>,
        epsilon: f64,
        gamma: Tensor<1>,
        gamma_id: Option<u64>,
        beta_id: Option<u64>,
    },
    Relu {
        y: AnyTensor,
    },
    Gelu {
        x: AnyTensor,
    },
    Add,
    Scale {
        factor: f64,
    },
    MaxPool2d {
        indices: Tensor<4, Int>,
        dims: [usize; 4],
    },
    GlobalAvgPool {
        dims: [usize; 4],
    },
    SubsamplePad {
        pad: usize,
        dims: [usize; 4],
    },
    Tokens {
        positions: [usize; 2],
    },
    ClassToken {
        count: usize,
        id: Option<u64>,
    },
    Position {
        id: Option<u64>,
    },
    Attention(Attention),
    Pool {
        pool: TokenPool,
        tokens: usize,
    },
}

/// What one call site says about one parameter.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "a few dozen live at a time")]
pub(crate) enum Emission {
    /// A weight matrix: its gradient is Σ_t cotangent · inputᵀ.
    Matrix {
        /// Burn's identifier of the parameter.
        id: u64,
        /// Input and cotangent.
        site: Site,
    },
    /// A vector: its gradient, `[b·c, p]`.
    Vector {
        /// Burn's identifier of the parameter.
        id: u64,
        /// The gradient of each sample and column.
        gradient: Tensor<2>,
    },
}

impl Step {
    /// The parameters that this call site uses: those of which an [`Emission`] will speak.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = u64> {
        let ids = match self {
            Self::Conv2d { weight_id, bias_id, .. } | Self::Linear { weight_id, bias_id, .. } => {
                [*weight_id, *bias_id]
            }
            Self::BatchNorm { gamma_id, beta_id, .. } | Self::LayerNorm { gamma_id, beta_id, .. } => {
                [*gamma_id, *beta_id]
            }
            Self::ClassToken { id, .. } | Self::Position { id } => [*id, None],
            _ => [None, None],
        };
        ids.into_iter().flatten()
    }

    /// Speaks of the parameters' gradients to `emit` and returns the cotangents of those inputs that `needed`
    /// names. `cotangent` is that of the result, of `c` columns for each of `b` samples.
    pub(crate) fn back(
        &self,
        cotangent: AnyTensor,
        (b, c): (usize, usize),
        needed: [bool; 3],
        emit: &mut dyn FnMut(Emission),
    ) -> [Option<AnyTensor>; 3] {
        match (self, cotangent) {
            (Self::Add, g) => [needed[0].then(|| g.clone()), needed[1].then_some(g), None],
            (Self::Attention(attention), AnyTensor::R3(g)) => {
                attention.back(g, c, needed).map(|back| back.map(AnyTensor::R3))
            }
            (step, g) => [step.back_to_one(g, (b, c), needed[0], emit), None, None],
        }
    }

    fn back_to_one(
        &self,
        cotangent: AnyTensor,
        (b, c): (usize, usize),
        needed: bool,
        emit: &mut dyn FnMut(Emission),
    ) -> Option<AnyTensor> {
        match (self, cotangent) {
            (Self::Normalize { std }, AnyTensor::R4(g)) => {
                let channels = std.dims()[0];
                needed.then(|| AnyTensor::R4(g / std.clone().reshape([1, channels, 1, 1])))
            }
            (Self::Conv2d { x, weight, geometry, weight_id, bias_id }, AnyTensor::R4(g)) => {
                let [rows, p, height, width] = g.dims();
                let flat = g.clone().reshape([rows, p, height * width]);
                if let Some(id) = *bias_id {
                    let gradient = flat.clone().sum_dim(2).reshape([rows, p]);
                    emit(Emission::Vector { id, gradient });
                }
                if let (Some(id), Some(x)) = (*weight_id, x) {
                    let input = SiteInput::Image { x: x.clone(), geometry: geometry.clone() };
                    emit(Emission::Matrix { id, site: Site { input, cotangent: flat } });
                }
                let weight = weight.as_ref().filter(|_| needed)?;
                Some(AnyTensor::R4(geometry.input_gradient(g, weight.clone())))
            }
            (Self::Linear { x, weight, weight_id, bias_id }, g) => {
                let mut dims = g.dims();
                let g = g.into_rows();
                let [rows, t, p] = g.dims();
                if let Some(id) = *bias_id {
                    emit(Emission::Vector { id, gradient: g.clone().sum_dim(1).reshape([rows, p]) });
                }
                if let (Some(id), Some(x)) = (*weight_id, x) {
                    let site = Site {
                        input: SiteInput::Rows { x: x.clone() },
                        cotangent: g.clone().swap_dims(1, 2),
                    };
                    emit(Emission::Matrix { id, site });
                }
                let weight = weight.as_ref().filter(|_| needed)?;
                let back = g.reshape([rows * t, p]).matmul(weight.clone().transpose());
                let last = dims.len() - 1;
                dims[last] = weight.dims()[0];
                Some(AnyTensor::from_three(back.reshape([rows, t, dims[last]]), &dims))
            }
            (Self::BatchNorm { x, mean, inverse_std, gamma, gamma_id, beta_id }, AnyTensor::R4(g)) => {
                #[cfg(feature = "flex")]
                {
                    let statistics = crate::flex::Statistics { mean, inverse_std, gamma };
                    let input = x.as_ref().filter(|_| gamma_id.is_some());
                    if let Some((back, shift, scale)) = crate::flex::norm_back(input, &g, statistics, c) {
                        if let Some(id) = *beta_id {
                            emit(Emission::Vector { id, gradient: shift });
                        }
                        if let (Some(id), Some(_)) = (*gamma_id, input) {
                            emit(Emission::Vector { id, gradient: scale });
                        }
                        return needed.then_some(AnyTensor::R4(back));
                    }
                }
                if let Some(id) = *beta_id {
                    emit(Emission::Vector { id, gradient: norm::sum_positions(g.clone()) });
                }
                if let (Some(id), Some(x)) = (*gamma_id, x) {
                    let gradient = norm::batch_scale(x.clone(), mean, inverse_std, g.clone(), (b, c));
                    emit(Emission::Vector { id, gradient });
                }
                let scale = gamma.clone() * inverse_std.clone();
                let channels = scale.dims()[0];
                needed.then(|| AnyTensor::R4(g * scale.reshape([1, channels, 1, 1])))
            }
            (Self::LayerNorm { x, epsilon, gamma, gamma_id, beta_id }, g) => {
                let dims = g.dims();
                let [_, t, d] = x.dims();
                let g = g.into_rows();
                if let Some(id) = *beta_id {
                    emit(Emission::Vector { id, gradient: g.clone().sum_dim(1).reshape([b * c, d]) });
                }
                let rows = norm::Rows::new(x.clone(), *epsilon);
                let g = g.reshape([b, c, t, d]);
                if let Some(id) = *gamma_id {
                    emit(Emission::Vector { id, gradient: rows.scale_gradient(g.clone()) });
                }
                needed.then(|| AnyTensor::from_three(rows.input_gradient(g, gamma), &dims))
            }
            (Self::Relu { y }, g) => Some(activation::relu(y.clone(), g, (b, c))),
            (Self::Gelu { x }, g) => Some(activation::gelu(x.clone(), g, (b, c))),
            (Self::Scale { factor }, g) => {
                let dims = g.dims();
                let flat = g.into_three([1, 1, dims.iter().product()]);
                Some(AnyTensor::from_three(flat.mul_scalar(*factor), &dims))
            }
            (Self::MaxPool2d { indices, dims }, AnyTensor::R4(g)) => {
                Some(AnyTensor::R4(pool::max_pool(indices.clone(), *dims, g, c)))
            }
            (Self::GlobalAvgPool { dims }, AnyTensor::R2(g)) => {
                Some(AnyTensor::R4(pool::global_average(*dims, g)))
            }
            (Self::SubsamplePad { pad, dims }, AnyTensor::R4(g)) => {
                Some(AnyTensor::R4(pool::subsample_pad(*pad, *dims, g)))
            }
            (Self::Tokens { positions }, AnyTensor::R3(g)) => {
                Some(AnyTensor::R4(tokens::to_positions(g, *positions)))
            }
            (Self::ClassToken { count, id }, AnyTensor::R3(g)) => {
                let (gradient, rest) = tokens::split_off(*count, g);
                if let Some(id) = *id {
                    emit(Emission::Vector { id, gradient });
                }
                Some(AnyTensor::R3(rest))
            }
            (Self::Position { id }, AnyTensor::R3(g)) => {
                let [rows, t, d] = g.dims();
                if let Some(id) = *id {
                    emit(Emission::Vector { id, gradient: g.clone().reshape([rows, t * d]) });
                }
                Some(AnyTensor::R3(g))
            }
            (Self::Pool { pool, tokens }, AnyTensor::R2(g)) => Some(AnyTensor::R3(pool.back(g, *tokens))),
            (step, g) => unreachable!("{step:?} cannot have a cotangent of shape {:?}", g.dims()),
        }
    }
}
