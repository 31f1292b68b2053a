//! (λI + (1/N) Gᵀ G)⁻¹ v from the explicit gradients of the oracle.

use burn::Tensor;
use burn::module::Module;

use super::solution::cosine;
use super::system::GramSystem;
use super::{Damping, Solution};
use crate::oracle::{Oracle, Samples};
use crate::{CurvatureError, ParamTree};

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
    oracle: &Oracle<'_, M, F>,
    samples: &S,
    v: &ParamTree,
    damping: Damping,
) -> Result<Solution, CurvatureError>
where
    M: Module + Sync,
    S: Samples,
    F: Fn(&M, S::Input) -> Tensor<2> + Sync,
{
    damping.validate()?;
    let n = samples.len();
    let pairs = oracle.pairs(samples, v)?;
    let system = GramSystem::new(pairs.gram, n, damping)?;
    let (a, residual) = system.solve(&pairs.dots)?;
    let back = oracle.layout().flatten(&oracle.weighted_sum(samples, &a)?)?;
    let flat = oracle.layout().flatten(v)?;
    let lambda = system.lambda;
    let k: Vec<f64> = flat.iter().zip(&back).map(|(v, b)| (f64::from(*v) - f64::from(*b)) / lambda).collect();
    let v_squared: f64 = flat.iter().map(|v| f64::from(*v).powi(2)).sum();
    let product: f64 = k.iter().zip(&flat).map(|(k, v)| k * f64::from(*v)).sum();
    Ok(Solution {
        direction: oracle.layout().unflatten(&k, &leaf_device(v)?)?,
        damping: lambda,
        samples: n,
        residual: residual / v_squared.sqrt().max(f64::MIN_POSITIVE),
        jitter: system.jitter,
        effective_rank: Some(system.effective_rank),
        cosine: cosine(product, k.iter().map(|k| k * k).sum(), v_squared),
        iterations: 0,
    })
}

pub(super) fn leaf_device(tree: &ParamTree) -> Result<burn::tensor::Device, CurvatureError> {
    tree.iter()
        .next()
        .map(|(_, leaf)| leaf.values.device())
        .ok_or_else(|| CurvatureError::Keys { missing: vec!["every parameter".into()], unknown: Vec::new() })
}
