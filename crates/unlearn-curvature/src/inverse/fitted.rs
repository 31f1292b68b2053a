//! The inverse product: how it is done.

use burn::Tensor;
use burn::module::Module;

use super::builder::{How, InverseFisher};
use super::conjugate_gradient::{Rule, conjugate_gradient};
use super::solution::cosine;
use super::system::GramSystem;
use super::{ReferenceRecursion, Solution};
use crate::fisher::finite;
use crate::oracle::Samples;
use crate::per_sample::all_finite;
use crate::reduce::Norms;
use crate::sweep::{Gathered, Passes};
use crate::way::{Forward, OnTape, Way};
use crate::{CurvatureError, ParamTree};

/// An inverse Fisher matrix ready to be multiplied with; [`InverseFisher::fit`] makes one.
pub struct FittedInverse<'a, M, F, S, W = OnTape> {
    gathered: Gathered<'a, M, F, S, W>,
    ready: Ready,
}

enum Ready {
    Gram(GramSystem),
    Iterate { lambda: f64, rule: Rule },
    Reference { first: ParamTree, rest: ParamTree, denominator: f64, n: f64 },
}

impl<M, F, S, W> std::fmt::Debug for FittedInverse<'_, M, F, S, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FittedInverse").finish_non_exhaustive()
    }
}

impl<'a, M, F, S, W> FittedInverse<'a, M, F, S, W>
where
    M: Module,
    F: Forward<M, W>,
    W: Way,
    S: Samples<Input = Tensor<4>>,
{
    pub(super) fn new(
        asked: &InverseFisher<'a, W>,
        model: &M,
        forward: F,
        samples: &'a S,
    ) -> Result<Self, CurvatureError> {
        if samples.is_empty() {
            return Err(crate::oracle::no_samples());
        }
        let count = match asked.how {
            How::Woodbury { samples, .. } | How::ConjugateGradient { samples, .. } => samples,
            How::Reference(ReferenceRecursion { n }) => n.saturating_add(2),
        };
        let passes = Passes::new(model, forward, &asked.settings)?;
        let mut gathered = Gathered::new(passes, samples, count.min(samples.len()))?;
        let n = gathered.count();
        let ready = match asked.how {
            How::Woodbury { damping, .. } => {
                Ready::Gram(GramSystem::new(all_finite(gathered.gram(None)?)?, n, damping)?)
            }
            How::ConjugateGradient { damping, tolerance, iterations, .. } => {
                let trace = match damping {
                    super::Damping::Absolute(_) => 0.0,
                    super::Damping::Relative(_) => trace(&mut gathered, asked)?,
                };
                let rule = Rule { tolerance, iterations };
                Ready::Iterate { lambda: damping.resolve(trace, n)?, rule }
            }
            How::Reference(recursion) => reference(&gathered, recursion)?,
        };
        Ok(Self { gathered, ready })
    }

    /// k = H⁻¹ v. Two passes over the samples where they do not fit the budget and none where they do; with
    /// conjugate gradients one (none) an iteration, and one more for the residual.
    ///
    /// # Errors
    /// [`CurvatureError::Keys`] and [`CurvatureError::Shape`] for a v of another model, [`CurvatureError::NonFinite`],
    /// [`CurvatureError::Interrupted`], [`CurvatureError::Read`].
    pub fn apply(&mut self, v: &ParamTree) -> Result<Solution, CurvatureError> {
        let v = self.gathered.passes().targets().restrict(v)?;
        finite(&v, "the vector to multiply with")?;
        let v_squared = v.dot_host(&v)?;
        let v_norm = v_squared.sqrt().max(f64::MIN_POSITIVE);
        let samples = self.gathered.count();
        let (direction, damping, residual, iterations) = match &self.ready {
            Ready::Gram(system) => {
                let mut dots = self.gathered.dots(v.clone());
                self.gathered.each("inner products", &mut |held| held.show(&mut dots))?;
                let (weights, residual) = system.solve(&all_finite(dots.finish())?)?;
                let mut back = self.gathered.weighted(weights);
                self.gathered.each("weighted gradient", &mut |held| held.show(&mut back))?;
                let k = v.zip_host(&back.finish()?, |v, b| (v - b) / system.lambda)?;
                (k, system.lambda, residual / v_norm, 0)
            }
            Ready::Iterate { lambda, rule } => {
                let (k, residual, iterations) = conjugate_gradient(&mut self.gathered, &v, *lambda, *rule)?;
                (k, *lambda, residual, iterations)
            }
            Ready::Reference { first, rest, denominator, n } => {
                let factor = v.dot_host(rest)? / denominator;
                let k = v.zip_host(first, |v, g| v - factor * g)?;
                // (I + g_0 sᵀ / N) k − v
                let along = k.dot_host(rest)? / n;
                let left = k.zip_host(first, |k, g| k + along * g)?.zip_host(&v, |a, b| a - b)?;
                let residual = left.dot_host(&left)?.sqrt() / v_norm;
                (k, 1.0, residual, 0)
            }
        };
        finite(&direction, "the inverse product")?;
        let (jitter, effective_rank) = match &self.ready {
            Ready::Gram(system) => (system.jitter, Some(system.effective_rank)),
            Ready::Iterate { .. } | Ready::Reference { .. } => (0.0, None),
        };
        let cosine = cosine(direction.dot_host(&v)?, direction.dot_host(&direction)?, v_squared);
        Ok(Solution { direction, damping, samples, residual, jitter, effective_rank, cosine, iterations })
    }
}

/// tr(G Gᵀ).
fn trace<M, F, S, W>(
    gathered: &mut Gathered<'_, M, F, S, W>,
    asked: &InverseFisher<'_, W>,
) -> Result<f64, CurvatureError>
where
    M: Module,
    F: Forward<M, W>,
    W: Way,
    S: Samples<Input = Tensor<4>>,
{
    let mut norms = Norms::new(gathered.count(), gathered.chunk(), asked.settings.route);
    gathered.each("norms", &mut |held| held.show(&mut norms))?;
    Ok(all_finite(norms.finish())?.iter().sum())
}

/// g_0 and s = Σ_{i ≥ 1} g_i of the published recursion. One pass.
fn reference<M, F, S, W>(
    gathered: &Gathered<'_, M, F, S, W>,
    recursion: ReferenceRecursion,
) -> Result<Ready, CurvatureError>
where
    M: Module,
    F: Forward<M, W>,
    W: Way,
    S: Samples<Input = Tensor<4>>,
{
    let count = gathered.count();
    let mut alone = vec![0.0; count];
    alone[0] = 1.0;
    let others = alone.iter().map(|w| 1.0 - w).collect();
    let (mut first, mut rest) = (gathered.weighted(alone), gathered.weighted(others));
    gathered.sweep("first gradient", 1, &mut first)?;
    gathered.sweep("gradient", count, &mut rest)?;
    let (first, rest) = (first.finish()?, rest.finish()?);
    finite(&rest, "a sum of gradients")?;
    let n = recursion.n as f64;
    let denominator = n + first.dot_host(&rest)?;
    if denominator == 0.0 || !denominator.is_finite() {
        return Err(CurvatureError::Solve {
            got: format!("N + ⟨g_0, s⟩ = {denominator}"),
            mend: "use the exact solve instead of the reference",
        });
    }
    Ok(Ready::Reference { first, rest, denominator, n })
}
