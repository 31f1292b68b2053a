//! Norms, inner products and weighted sums of per-sample gradients, without ever storing them.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use burn::Tensor;
use burn::module::Module;

use crate::fisher::finite;
use crate::oracle::{Pairs, Samples};
use crate::reduce::{Dots, Norms, Reduce, Route, WeightedGradient};
use crate::sweep::{Gathered, Passes, Settings};
use crate::watch::{Watch, Watched};
use crate::way::{Forward, Marked, OnTape, OneByOne, Way};
use crate::{CurvatureError, Estimator, ParamPath, ParamTree};

/// Quantities of G = [g_1, …, g_n]ᵀ, `[n, p]`, the gradients of −log p_n\[label\] of each sample.
///
/// Like [`FisherDiag`](crate::FisherDiag) it takes a model with a forward pass on a tape or, after
/// [`marked`](Self::marked), in plain Burn, and runs on a plain copy in evaluation mode.
#[derive(Debug, Clone)]
pub struct PerSample<'w, W = OnTape> {
    settings: Settings<'w>,
    way: PhantomData<fn() -> W>,
}

impl Default for PerSample<'_> {
    fn default() -> Self {
        Self { settings: Settings::default(), way: PhantomData }
    }
}

impl<'w> PerSample<'w> {
    /// Batches of 64 samples and 1 GiB.
    pub fn new() -> Self {
        Self::default()
    }

    /// For forward passes in plain Burn whose layers are marked with [`Probes`](crate::Probes).
    pub fn marked(self) -> PerSample<'w, Marked> {
        PerSample { settings: self.settings, way: PhantomData }
    }

    /// For forward passes in plain Burn in which not every layer can be marked: batches of one sample, slowly. The
    /// forward pass gets [`Probes`](crate::Probes) too, but need not use them.
    pub fn one_by_one(self) -> PerSample<'w, OneByOne> {
        PerSample { settings: self.settings, way: PhantomData }
    }
}

impl<'w, W: Way> PerSample<'w, W> {
    /// At most `samples` at a time, fewer where the budget asks for it.
    pub fn batch(mut self, samples: usize) -> Self {
        self.settings.batch = samples;
        self
    }

    /// Holds about `bytes` beside the parameters and the result. [`gram`](Self::gram) needs fewer passes with
    /// more.
    pub fn budget(mut self, bytes: usize) -> Self {
        self.settings.budget = bytes;
        self
    }

    /// Forms all inner products by `route` where it can serve, instead of choosing by shape.
    pub fn route(mut self, route: Route) -> Self {
        self.settings.route = Some(route);
        self
    }

    /// Holds the temporaries of one layer within `bytes`.
    pub fn chunk(mut self, bytes: usize) -> Self {
        self.settings.chunk = Some(bytes);
        self
    }

    /// Takes every gradient as zero where `keep` says `false`; see [`FisherDiag::kept`](crate::FisherDiag::kept).
    pub fn kept(mut self, keep: BTreeMap<ParamPath, Vec<bool>>) -> Self {
        self.settings.keep = keep;
        self
    }

    /// Tells `watch` the progress after every batch; it may end the run.
    pub fn watch(mut self, watch: &'w dyn Watch) -> Self {
        self.settings.watched = Watched::by(watch);
        self
    }

    /// ‖g_n‖², `[n]`. One pass.
    ///
    /// # Errors
    /// As [`FisherDiag::run`](crate::FisherDiag::run).
    pub fn norms_squared<M, F, S>(
        &self,
        model: &M,
        forward: F,
        samples: &S,
    ) -> Result<Vec<f64>, CurvatureError>
    where
        M: Module,
        F: Forward<M, W>,
        S: Samples<Input = Tensor<4>>,
    {
        let passes = Passes::new(model, forward, &self.settings)?;
        let plan = passes.plan(passes.cost(samples)?, &Estimator::Empirical, self.settings.budget);
        let mut norms = Norms::new(samples.len(), plan.chunk, self.settings.route);
        passes.all("norms", samples, &Estimator::Empirical, plan, &mut [&mut norms])?;
        all_finite(norms.finish())
    }

    /// G v: ⟨g_n, `direction`⟩, `[n]`. One pass.
    ///
    /// # Errors
    /// As [`FisherDiag::run`](crate::FisherDiag::run), and [`CurvatureError::Keys`] or
    /// [`CurvatureError::Shape`] for a direction of another model.
    pub fn dots<M, F, S>(
        &self,
        model: &M,
        forward: F,
        samples: &S,
        direction: &ParamTree,
    ) -> Result<Vec<f64>, CurvatureError>
    where
        M: Module,
        F: Forward<M, W>,
        S: Samples<Input = Tensor<4>>,
    {
        let passes = Passes::new(model, forward, &self.settings)?;
        check_direction(&passes, direction)?;
        let plan = passes.plan(passes.cost(samples)?, &Estimator::Empirical, self.settings.budget);
        let mut dots = Dots::new(direction.clone(), samples.len(), plan.chunk);
        passes.all("inner products", samples, &Estimator::Empirical, plan, &mut [&mut dots])?;
        all_finite(dots.finish())
    }

    /// Gᵀ w = Σ_n w_n g_n. One pass.
    ///
    /// # Errors
    /// As [`FisherDiag::run`](crate::FisherDiag::run), and [`CurvatureError::Argument`] unless there is one
    /// finite weight a sample.
    pub fn weighted_gradient<M, F, S>(
        &self,
        model: &M,
        forward: F,
        samples: &S,
        weights: &[f64],
    ) -> Result<ParamTree, CurvatureError>
    where
        M: Module,
        F: Forward<M, W>,
        S: Samples<Input = Tensor<4>>,
    {
        if weights.len() != samples.len() || weights.iter().any(|w| !w.is_finite()) {
            return Err(CurvatureError::Argument {
                field: "weights",
                got: format!("{} for {} samples", weights.len(), samples.len()),
                expected: "one finite weight a sample",
            });
        }
        let passes = Passes::new(model, forward, &self.settings)?;
        let plan = passes.plan(passes.cost(samples)?, &Estimator::Empirical, self.settings.budget);
        let mut gradient = WeightedGradient::new(weights.to_vec(), plan.chunk);
        passes.all("gradient", samples, &Estimator::Empirical, plan, &mut [&mut gradient])?;
        let sum = gradient.finish()?;
        finite(&sum, "a weighted sum of gradients")?;
        Ok(sum)
    }

    /// The Gram matrix G Gᵀ, `[n, n]` row-major; see [`pairs`](Self::pairs).
    ///
    /// # Errors
    /// As [`FisherDiag::run`](crate::FisherDiag::run).
    pub fn gram<M, F, S>(&self, model: &M, forward: F, samples: &S) -> Result<Vec<f64>, CurvatureError>
    where
        M: Module,
        F: Forward<M, W>,
        S: Samples<Input = Tensor<4>>,
    {
        Ok(self.gram_and_dots(model, forward, samples, None)?.gram)
    }

    /// The Gram matrix G Gᵀ, `[n, n]`, and G v, `[n]`, from layer inputs and cotangents held in memory: a
    /// fraction of the size of the gradients. One pass when those of all samples fit the budget, else
    /// (b + 1)/2 for b blocks that fill half of it.
    ///
    /// # Errors
    /// As [`dots`](Self::dots).
    pub fn pairs<M, F, S>(
        &self,
        model: &M,
        forward: F,
        samples: &S,
        direction: &ParamTree,
    ) -> Result<Pairs, CurvatureError>
    where
        M: Module,
        F: Forward<M, W>,
        S: Samples<Input = Tensor<4>>,
    {
        self.gram_and_dots(model, forward, samples, Some(direction))
    }

    fn gram_and_dots<M, F, S>(
        &self,
        model: &M,
        forward: F,
        samples: &S,
        direction: Option<&ParamTree>,
    ) -> Result<Pairs, CurvatureError>
    where
        M: Module,
        F: Forward<M, W>,
        S: Samples<Input = Tensor<4>>,
    {
        let passes = Passes::new(model, forward, &self.settings)?;
        if let Some(direction) = direction {
            check_direction(&passes, direction)?;
        }
        let mut gathered = Gathered::new(passes, samples, samples.len())?;
        let mut dots = direction.map(|direction| gathered.dots(direction.clone()));
        let gram = gathered.gram(dots.as_mut().map(|dots| dots as &mut dyn Reduce))?;
        let dots = dots.map_or_else(Vec::new, Dots::finish);
        Ok(Pairs { gram: all_finite(gram)?, dots: all_finite(dots)? })
    }
}

fn check_direction<M, F, W>(passes: &Passes<'_, M, F, W>, direction: &ParamTree) -> Result<(), CurvatureError>
where
    M: Module,
    F: Forward<M, W>,
    W: Way,
{
    let known: Vec<&ParamPath> = passes.targets().iter().map(|target| &target.path).collect();
    let unknown: Vec<_> = direction
        .iter()
        .filter(|(path, _)| !known.contains(path))
        .map(|(path, _)| path.to_string())
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(CurvatureError::Keys { missing: Vec::new(), unknown })
}

pub(crate) fn all_finite(values: Vec<f64>) -> Result<Vec<f64>, CurvatureError> {
    if values.iter().all(|v| v.is_finite()) {
        return Ok(values);
    }
    Err(CurvatureError::NonFinite {
        what: "an inner product of gradients".into(),
        mend: "check the weights of the model for values that are far too large",
    })
}
