//! (λI + (1/N) Gᵀ G)⁻¹ v without a p × p matrix.

use burn::Tensor;
use burn::module::Module;
use serde::{Deserialize, Serialize};

use super::Cholesky;
use crate::oracle::{Oracle, Samples};
use crate::{CurvatureError, ParamTree};

/// How much of the identity is added to the empirical Fisher matrix F = (1/N) Gᵀ G.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Damping {
    /// λ itself.
    Absolute(f64),
    /// λ as a multiple of the mean non-zero eigenvalue of F, tr(G Gᵀ) / N² for N samples: follows the
    /// scale of the gradients, which fall by orders of magnitude while a model is trained.
    Relative(f64),
}

/// A solution of H k = v with what is known of its quality.
#[derive(Debug, Clone)]
pub struct Solution {
    /// k = H⁻¹ v.
    pub direction: ParamTree,
    /// λ, resolved.
    pub damping: f64,
    /// ‖H k − v‖ / ‖v‖ of the solve, from the float64 Gram matrix.
    pub residual: f64,
    /// What had to be added to the diagonal of N λ I + G Gᵀ for the factorisation, 0 as a rule.
    pub jitter: f64,
    /// Number of eigen-directions of F that count against the damping: tr(F (F + λI)⁻¹), between 0
    /// and N.
    pub effective_rank: f64,
    /// Cosine between k and v: near 1 the curvature changed nothing.
    pub cosine: f64,
}

/// H⁻¹ v for H = λI + (1/N) Σ_n g_n g_nᵀ over the N `samples`, exactly:
///
/// k = (1/λ) \[v − Gᵀ (λN I + G Gᵀ)⁻¹ G v\]  (Woodbury; Singh and Alistarh 2020, eq. 9, solved at once).
///
/// Gradients are per-sample and float32, everything after them is float64. Two passes of the oracle (more
/// when the gradients do not fit its memory) and N³/3 multiplications.
///
/// # Errors
/// [`CurvatureError::Argument`] for a damping that is not above zero, [`CurvatureError::Solve`] when
/// no factor exists even with jitter, and the errors of [`Oracle::pairs`].
pub fn woodbury<M, F, S>(
    oracle: &Oracle<M, F>,
    samples: &S,
    v: &ParamTree,
    damping: Damping,
) -> Result<Solution, CurvatureError>
where
    M: Module + Sync,
    S: Samples,
    F: Fn(&M, S::Input) -> Tensor<2> + Sync,
{
    let (Damping::Absolute(value) | Damping::Relative(value)) = damping;
    if !(value.is_finite() && value > 0.0) {
        return Err(CurvatureError::Argument {
            field: "damping",
            got: value.to_string(),
            expected: "a finite number above 0",
        });
    }
    let n = samples.len();
    let pairs = oracle.pairs(samples, v)?;
    let trace: f64 = (0..n).map(|i| pairs.gram[i * n + i]).sum();
    let lambda = match damping {
        Damping::Absolute(value) => value,
        Damping::Relative(value) => value * trace / (n * n) as f64,
    };
    if lambda <= 0.0 {
        return Err(CurvatureError::Solve {
            got: "every gradient is zero, so a relative damping is zero".into(),
            mend: "give an absolute damping",
        });
    }
    let shift = lambda * n as f64;
    let (factor, jitter) = factor(&pairs.gram, n, shift, trace)?;
    let a = factor.solve(&pairs.dots)?;

    // H k − v = Gᵀ r / (λN) with r = G v − (K + λN I) a, so its norm needs no further pass.
    let ka: Vec<f64> = (0..n).map(|i| dot(&pairs.gram[i * n..(i + 1) * n], &a)).collect();
    let r: Vec<f64> = (0..n).map(|i| pairs.dots[i] - ka[i] - shift * a[i]).collect();
    let kr: Vec<f64> = (0..n).map(|i| dot(&pairs.gram[i * n..(i + 1) * n], &r)).collect();
    let v_norm = norm(oracle, v)?;
    let residual = dot(&r, &kr).max(0.0).sqrt() / shift / v_norm.max(f64::MIN_POSITIVE);

    let back = oracle.layout().flatten(&oracle.weighted_sum(samples, &a)?)?;
    let flat = oracle.layout().flatten(v)?;
    let k: Vec<f64> = flat.iter().zip(&back).map(|(v, b)| (f64::from(*v) - f64::from(*b)) / lambda).collect();
    let k_norm = dot(&k, &k).sqrt();
    let product: f64 = k.iter().zip(&flat).map(|(k, v)| k * f64::from(*v)).sum();
    let effective_rank = n as f64 - shift * inverse_trace(&factor, n)?;
    let device = leaf_device(v)?;
    Ok(Solution {
        direction: oracle.layout().unflatten(&k, &device)?,
        damping: lambda,
        residual,
        jitter,
        effective_rank,
        cosine: product / (k_norm * v_norm).max(f64::MIN_POSITIVE),
    })
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

/// tr A⁻¹ by n solves.
fn inverse_trace(factor: &Cholesky, n: usize) -> Result<f64, CurvatureError> {
    let mut unit = vec![0.0; n];
    let mut trace = 0.0;
    for i in 0..n {
        unit[i] = 1.0;
        trace += factor.solve(&unit)?[i];
        unit[i] = 0.0;
    }
    Ok(trace)
}

fn norm<M: Module, F>(oracle: &Oracle<M, F>, v: &ParamTree) -> Result<f64, CurvatureError> {
    Ok(oracle.layout().flatten(v)?.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt())
}

pub(super) fn leaf_device(tree: &ParamTree) -> Result<burn::tensor::Device, CurvatureError> {
    tree.iter()
        .next()
        .map(|(_, leaf)| leaf.values.device())
        .ok_or_else(|| CurvatureError::Keys { missing: vec!["every parameter".into()], unknown: Vec::new() })
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
