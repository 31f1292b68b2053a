//! What is asked of an inverse product, and what comes back.

use serde::{Deserialize, Serialize};

use crate::{CurvatureError, ParamTree};

/// How much of the identity is added to the empirical Fisher matrix F = (1/N) Gᵀ G.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Damping {
    /// λ itself.
    Absolute(f64),
    /// λ as a multiple of tr(G Gᵀ) / N² for N samples, the mean non-zero eigenvalue of F where there are no more samples
    /// than parameters: follows the scale of the gradients, which fall by orders of magnitude while a model is trained.
    Relative(f64),
}

impl From<f64> for Damping {
    /// λ itself.
    fn from(lambda: f64) -> Self {
        Self::Absolute(lambda)
    }
}

impl Damping {
    /// # Errors
    /// [`CurvatureError::Argument`] unless it is finite and above zero.
    pub(crate) fn validate(self) -> Result<(), CurvatureError> {
        let (Self::Absolute(value) | Self::Relative(value)) = self;
        if value.is_finite() && value > 0.0 {
            return Ok(());
        }
        Err(CurvatureError::Argument {
            field: "damping",
            got: value.to_string(),
            expected: "a finite number above 0",
        })
    }

    /// λ, for tr(G Gᵀ) = `trace` over `n` samples.
    ///
    /// # Errors
    /// [`CurvatureError::Solve`] when it comes out as zero.
    pub(crate) fn resolve(self, trace: f64, n: usize) -> Result<f64, CurvatureError> {
        let lambda = match self {
            Self::Absolute(value) => value,
            Self::Relative(value) => value * trace / (n * n) as f64,
        };
        if lambda > 0.0 {
            return Ok(lambda);
        }
        Err(CurvatureError::Solve {
            got: "every gradient is zero, so a relative damping is zero".into(),
            mend: "give an absolute damping",
        })
    }
}

/// A solution of H k = v with what is known of its quality.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Solution {
    /// k = H⁻¹ v.
    pub direction: ParamTree,
    /// λ, resolved.
    pub damping: f64,
    /// N, the samples that H is made of.
    pub samples: usize,
    /// ‖H k − v‖ / ‖v‖: for a solve by the Gram matrix that of the solve, from the float64 Gram matrix; for
    /// conjugate gradients the true one, from one more product with H.
    pub residual: f64,
    /// What had to be added to the diagonal of N λ I + G Gᵀ for the factorisation, 0 as a rule.
    pub jitter: f64,
    /// Number of eigen-directions of F that count against the damping: tr(F (F + λI)⁻¹), between 0
    /// and N. `None` where no Gram matrix was made.
    pub effective_rank: Option<f64>,
    /// Cosine between k and v: near 1 the curvature changed nothing.
    pub cosine: f64,
    /// Products with H that were needed, where it was solved by iteration.
    pub iterations: usize,
}

/// ⟨k, v⟩ / (‖k‖ ‖v‖), 0 when one of them is.
pub(crate) fn cosine(product: f64, k_squared: f64, v_squared: f64) -> f64 {
    product / (k_squared * v_squared).sqrt().max(f64::MIN_POSITIVE)
}
