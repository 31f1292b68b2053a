//! What the published "WoodFisher" loop computes.

use burn::Tensor;
use burn::module::Module;

use crate::oracle::{Oracle, Samples};
use crate::{CurvatureError, ParamTree};

/// The constant of the published recursion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReferenceRecursion {
    /// N: divides every outer product, and the loop ends after sample N + 1 counted from zero. The
    /// published code sets 1000 (so 1,002 samples are used at most) and 300,000 for ImageNet.
    pub n: usize,
}

impl Default for ReferenceRecursion {
    fn default() -> Self {
        Self { n: 1000 }
    }
}

/// The published recursion, k = v − g_0 ⟨v, s⟩ / (N + ⟨g_0, s⟩) with s = Σ_{i=1}^{min(N+1, n−1)} g_i.
///
/// The code starts from k = v, o = g_0 and, for each following sample in order, does
/// t = ⟨o, g⟩, k ← k − o ⟨k, g⟩/(N + t), o ← o − o t/(N + t). Since o is only ever rescaled, the loop
/// collapses to the line above: (I + g_0 sᵀ/N)⁻¹ v, a damping of one and *no* inverse Fisher product. It
/// depends on which sample comes first. One batched pass.
///
/// # Errors
/// [`CurvatureError::Argument`] for N = 0 or no samples, [`CurvatureError::Solve`] when
/// N + ⟨g_0, s⟩ is zero, and the errors of [`Oracle::weighted_gradient`].
pub fn reference_recursion<M, F, S>(
    oracle: &Oracle<'_, M, F>,
    samples: &S,
    v: &ParamTree,
    recursion: ReferenceRecursion,
    batch: usize,
) -> Result<ParamTree, CurvatureError>
where
    M: Module + Sync,
    S: Samples,
    F: Fn(&M, S::Input) -> Tensor<2> + Sync,
{
    if recursion.n == 0 {
        return Err(CurvatureError::Argument { field: "n", got: "0".into(), expected: "at least 1" });
    }
    if samples.is_empty() {
        return Err(crate::oracle::no_samples());
    }
    let used = samples.len().min(recursion.n + 2);
    let first = oracle.weighted_gradient(&Head { samples, len: 1 }, &[1.0], 1)?;
    let first = oracle.layout().flatten(&first)?;
    let mut weights = vec![1.0; used];
    weights[0] = 0.0;
    let s = oracle.weighted_gradient(&Head { samples, len: used }, &weights, batch)?;
    let s = oracle.layout().flatten(&s)?;
    let flat = oracle.layout().flatten(v)?;
    let denominator = recursion.n as f64 + dot(&first, &s);
    if denominator == 0.0 || !denominator.is_finite() {
        return Err(CurvatureError::Solve {
            got: format!("N + ⟨g_0, s⟩ = {denominator}"),
            mend: "use the exact solve instead of the reference",
        });
    }
    let factor = dot(&flat, &s) / denominator;
    let k: Vec<f64> = flat.iter().zip(&first).map(|(v, g)| f64::from(*v) - factor * f64::from(*g)).collect();
    oracle.layout().unflatten(&k, &super::woodbury::leaf_device(v)?)
}

/// The first `len` of some samples.
struct Head<'a, S> {
    samples: &'a S,
    len: usize,
}

impl<S: Samples> Samples for Head<'_, S> {
    type Input = S::Input;

    fn len(&self) -> usize {
        self.len.min(self.samples.len())
    }

    fn inputs(
        &self,
        range: std::ops::Range<usize>,
        device: &burn::tensor::Device,
    ) -> Result<Self::Input, CurvatureError> {
        self.samples.inputs(range, device)
    }

    fn label(&self, index: usize) -> usize {
        self.samples.label(index)
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}
