//! Influence unlearning (IU): one Newton step away from the forget set.
//!
//! # What it does
//! Estimates by influence functions how the weights would have differed without the forget set, and moves
//! them there in one step.
//!
//! # Needs
//! Forget set and retain set (gradients of both, curvature of the retain set).
//!
//! # Definition
//! θ ← θ + α H⁻¹ v with v = (1/n) Σ_{D_f} ∇ℓ − (n_f/(n·n_r)) Σ_{D_r} ∇ℓ and H = λI + (1/N) Σ g gᵀ, the
//! damped empirical Fisher information of N retain samples (Koh and Liang 2017, eq. 1–2; Jia et al. 2023,
//! "IU"; Singh and Alistarh 2020 for H). n_f, n_r and n are the sizes of the forget set, the retain set
//! and both. The product is exact: k = (1/λ)[v − Gᵀ(λN I + G Gᵀ)⁻¹ G v] by a float64 Cholesky
//! factorisation.
//!
//! # Hyperparameters
//! | name | default | meaning |
//! |---|---|---|
//! | `alpha` | 1 | α; 1 to 20 is usual |
//! | `damping` | `{ absolute = 1.0 }` | λ, or `{ relative = ρ }`: ρ times the mean non-zero eigenvalue |
//! | `samples` | 1000 | N, retain samples for H, drawn from the seed |
//! | `batch_size` | 256 | samples a batch while v is computed |
//! | `reference` | false | the published recursion |
//! | `engine` | `auto` | `tape`, `autodiff`, or the first where the model has a tape |
//!
//! # Diagnostics
//! `cosine_to_gradient`: between k and v; near 1 the curvature changed nothing. `step_norm`: ‖α k‖. But for `reference`:
//! `samples` (N), `damping` (λ as a number), `effective_rank` (how many directions count against the damping: tr F(F + λI)⁻¹,
//! 0 to N), `residual` (‖H k − v‖/‖v‖ of the solve) and `jitter` (what the factorisation needed on its diagonal, 0 as a rule).
//!
//! # Cost
//! One epoch for v; passes over N samples; N² p multiplications or fewer for the Gram matrix of p parameters and N³/3
//! for the solve. With `engine = "tape"` (models written on a tape; all of ours) one batched pass over the N samples
//! when their layer inputs and cotangents fit a gibibyte, a few otherwise; with `engine = "autodiff"`, for any other
//! model, two or more of batch size 1. A request to stop is heard between batches.
//!
//! # Differences from the published code
//! Its recursion only ever rescales the gradient of the first sample, so it returns v − c·g_0: no curvature
//! at all, and a hidden damping of 1. `reference = true` computes that in closed form
//! (k = v − g_0 ⟨v, s⟩/(1000 + ⟨g_0, s⟩), s the sum of the gradients of the next 1,001 retain samples in
//! order). The diagnostic `cosine_to_gradient` says how far the curvature turned the step: near 1 it did
//! nothing.
//!
//! # Example
//! ```toml
//! [[method]]
//! name = "influence"
//! alpha = 1.0
//! damping = { relative = 0.1 }
//! ```
//!
//! # References
//! Koh, Liang: Understanding Black-box Predictions via Influence Functions, ICML 2017, <https://arxiv.org/abs/1703.04730>.
//! Singh, Alistarh: WoodFisher, NeurIPS 2020, <https://arxiv.org/abs/2004.14340>.
//! Jia et al.: Model Sparsity Can Simplify Machine Unlearning, NeurIPS 2023, <https://arxiv.org/abs/2304.04934>.

use std::time::Instant;

use burn::Tensor;
use serde::{Deserialize, Serialize};
use unlearn_curvature::inverse::Damping;
use unlearn_curvature::oracle::{Oracle, Samples};
use unlearn_curvature::{CurvatureError, Engine, ParamTree};
use unlearn_data::Partition;
use unlearn_models::Classifier;

use crate::check;
use crate::curvature::Curvature;
use crate::samples::DatasetSamples;
use crate::{Context, Outcome, Unlearn, UnlearnError};

/// Influence unlearning; the page is that of this [module](self) and of `unlearn methods influence`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Influence {
    /// α, above zero.
    pub alpha: f64,
    /// λ or ρ, above zero.
    pub damping: Damping,
    /// N, most retain samples in H, at least 1.
    pub samples: usize,
    /// Samples a batch while v is computed, at least 1.
    pub batch_size: usize,
    /// The published recursion instead of the inverse; `damping` and `samples` then do not count.
    pub reference: bool,
    /// How gradients are come by; no result depends on it beyond rounding.
    pub engine: Engine,
}

impl Default for Influence {
    fn default() -> Self {
        let (alpha, damping, engine) = (1.0, Damping::Absolute(1.0), Engine::Auto);
        Self { alpha, damping, samples: 1000, batch_size: 256, reference: false, engine }
    }
}

const NAME: &str = "influence";

impl Influence {
    fn check(&self) -> Result<(), UnlearnError> {
        check::positive(NAME, "alpha", self.alpha, "1 to 20 is usual")?;
        let (Damping::Absolute(damping) | Damping::Relative(damping)) = self.damping;
        check::positive(NAME, "damping", damping, "1 absolute or 0.1 relative is a start")?;
        let some = "at least 1";
        check::require(self.samples > 0, NAME, "samples", self.samples, some, "1000 is usual")?;
        check::require(self.batch_size > 0, NAME, "batch_size", self.batch_size, some, "256 is usual")
    }
}

/// v = (1/n) Σ_forget g − (n_f/(n·n_r)) Σ_retain g, with n = n_f + n_r: the mean gradient of the forget set
/// less that of the retain set, times n_f/n. Two batched passes, one over each set.
///
/// # Errors
/// Those of [`Oracle::weighted_gradient`].
pub fn influence_direction<M, F, S>(
    oracle: &Oracle<'_, M, F>,
    forget: &S,
    retain: &S,
    batch: usize,
) -> Result<ParamTree, CurvatureError>
where
    M: burn::module::Module + Sync,
    S: Samples,
    F: Fn(&M, S::Input) -> Tensor<2> + Sync,
{
    let (n_f, n_r) = (forget.len() as f64, retain.len() as f64);
    let n = n_f + n_r;
    let of_forget = oracle.weighted_gradient(forget, &vec![1.0 / n; forget.len()], batch)?;
    let of_retain = oracle.weighted_gradient(retain, &vec![n_f / (n * n_r); retain.len()], batch)?;
    of_forget.sub(&of_retain)
}

impl<M: Classifier> Unlearn<M> for Influence {
    fn name(&self) -> &'static str {
        NAME
    }

    fn is_reference(&self) -> bool {
        self.reference
    }

    fn hyperparameters(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn validate(&self) -> Result<(), UnlearnError> {
        self.check()
    }

    fn unlearn(
        &self,
        model: M,
        partition: &Partition,
        context: &mut Context<'_, M>,
    ) -> Result<Outcome<M>, UnlearnError> {
        self.check()?;
        let started = Instant::now();
        let model = check::enter(&model, context.mask)?;
        let (mask, workers) = (context.mask, context.workers);
        let curvature = Curvature::new(&model, self.engine, mask, workers, &mut *context.observer);
        let forget = DatasetSamples::new(context.dataset, partition.forget().to_vec())?;
        let retain = DatasetSamples::new(context.dataset, partition.retain().to_vec())?;
        let v = curvature.direction(&forget, &retain, self.batch_size)?;
        let mut diagnostics = std::collections::BTreeMap::new();
        let k = if self.reference {
            let k = curvature.recursion(&retain, &v, self.batch_size)?;
            let norms = (k.dot(&k)? * v.dot(&v)?).sqrt();
            diagnostics.insert("cosine_to_gradient".into(), k.dot(&v)? / norms.max(f64::MIN_POSITIVE));
            k
        } else {
            let samples =
                DatasetSamples::drawn(context.dataset, partition.retain(), Some(self.samples), context.seed)?;
            let solution = curvature.inverse(&samples, &v, self.damping)?;
            diagnostics.insert("cosine_to_gradient".into(), solution.cosine);
            diagnostics.insert("damping".into(), solution.damping);
            if let Some(rank) = solution.effective_rank {
                diagnostics.insert("effective_rank".into(), rank);
            }
            diagnostics.insert("jitter".into(), solution.jitter);
            diagnostics.insert("residual".into(), solution.residual);
            diagnostics.insert("samples".into(), samples.len() as f64);
            solution.direction
        };
        let step = k.scale(self.alpha);
        diagnostics.insert("step_norm".into(), step.dot(&step)?.sqrt());
        let moved = ParamTree::of_parameters(&model).add(&step)?.write_into(&model)?;
        let forgotten = check::enter(&moved, context.mask)?;
        check::finite(NAME, &forgotten)?;
        let mut outcome = Outcome::new(forgotten, started.elapsed().as_secs_f64(), context.mask);
        outcome.diagnostics = diagnostics;
        Ok(outcome)
    }
}
