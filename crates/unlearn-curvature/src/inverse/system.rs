//! The solve in the space of samples, in float64 on the host.

use super::cholesky::dot;
use super::{Cholesky, Damping};
use crate::CurvatureError;

/// (λN I + K) a = G v with the Gram matrix K = G Gᵀ of n samples, factored.
#[derive(Debug)]
pub(crate) struct GramSystem {
    gram: Vec<f64>,
    n: usize,
    factor: Cholesky,
    pub(crate) lambda: f64,
    pub(crate) jitter: f64,
    /// tr(F (F + λI)⁻¹).
    pub(crate) effective_rank: f64,
}

impl GramSystem {
    /// Factors the system of `gram`, `[n, n]`.
    ///
    /// # Errors
    /// [`CurvatureError::Solve`] when no factor exists even with jitter, or λ is zero.
    pub(crate) fn new(gram: Vec<f64>, n: usize, damping: Damping) -> Result<Self, CurvatureError> {
        let trace: f64 = (0..n).map(|i| gram[i * n + i]).sum();
        let lambda = damping.resolve(trace, n)?;
        let shift = lambda * n as f64;
        let (factor, jitter) = factor(&gram, n, shift, trace)?;
        let effective_rank = n as f64 - shift * factor.inverse_trace();
        Ok(Self { gram, n, factor, lambda, jitter, effective_rank })
    }

    /// a for `dots` = G v, and ‖H k − v‖ for the k = (v − Gᵀ a) / λ that follows from it.
    ///
    /// H k − v = Gᵀ r / (λN) with r = G v − (K + λN I) a, so its norm needs no further pass.
    pub(crate) fn solve(&self, dots: &[f64]) -> Result<(Vec<f64>, f64), CurvatureError> {
        let shift = self.lambda * self.n as f64;
        let a = self.factor.solve(dots)?;
        let ka = self.times(&a);
        let r: Vec<f64> = (0..self.n).map(|i| dots[i] - ka[i] - shift * a[i]).collect();
        let residual = dot(&r, &self.times(&r)).max(0.0).sqrt() / shift;
        Ok((a, residual))
    }

    fn times(&self, x: &[f64]) -> Vec<f64> {
        self.gram.chunks_exact(self.n).map(|row| dot(row, x)).collect()
    }
}

/// Factors K + shift·I, with a little more on the diagonal when rounding makes it indefinite.
fn factor(gram: &[f64], n: usize, shift: f64, trace: f64) -> Result<(Cholesky, f64), CurvatureError> {
    let shifted = |by: f64| {
        let mut matrix = gram.to_vec();
        (0..n).for_each(|i| matrix[i * n + i] += by);
        matrix
    };
    let first = match Cholesky::new(&shifted(shift), n) {
        Ok(factor) => return Ok((factor, 0.0)),
        Err(error) => error,
    };
    for exponent in [-14, -12, -10] {
        let jitter = trace / n as f64 * 10.0_f64.powi(exponent);
        if let Ok(factor) = Cholesky::new(&shifted(shift + jitter), n) {
            return Ok((factor, jitter));
        }
    }
    Err(first)
}
