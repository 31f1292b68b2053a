//! Layer inputs and cotangents of a set of samples, held in memory where they fit and swept anew where they
//! do not.

use std::ops::Range;

use burn::Tensor;
use burn::module::Module;

use super::{Passes, ranges};
use crate::oracle::Samples;
use crate::plan::Plan;
use crate::reduce::{Dots, GoOn, Held, Reduce, WeightedGradient, gram_between};
use crate::way::{Forward, Way};
use crate::{CurvatureError, Estimator, ParamTree};

/// The gradients g_n of −log p_n\[label\] of the first `count` samples, as the factors of their layers.
pub(crate) struct Gathered<'a, M, F, S, W> {
    passes: Passes<'a, M, F, W>,
    samples: &'a S,
    count: usize,
    plan: Plan,
    batches: Vec<Range<usize>>,
    /// Batches that can be held at once with as many others; all of them when everything fits.
    block: usize,
    /// Everything, once it has been swept and when it fits.
    held: Vec<Held>,
}

impl<'a, M, F, S, W> Gathered<'a, M, F, S, W>
where
    M: Module,
    F: Forward<M, W>,
    W: Way,
    S: Samples<Input = Tensor<4>>,
{
    /// Plans for the first `count` of `samples`: three quarters of the budget are for what is held.
    pub(crate) fn new(
        passes: Passes<'a, M, F, W>,
        samples: &'a S,
        count: usize,
    ) -> Result<Self, CurvatureError> {
        let budget = passes.settings().budget;
        let cost = passes.cost(samples)?;
        let mut plan = passes.plan(cost, &Estimator::Empirical, budget / 4);
        // What a held sample takes is measured on the first.
        passes.begin("first sample", 1)?;
        let first = hold(&passes, samples, 0..1, plan)?;
        let fits = budget / 4 * 3 / first.size().max(1);
        let block = if count <= fits { count } else { (fits / 2).clamp(1, count) };
        plan.batch = plan.batch.min(block);
        let batches = ranges(count, plan.batch, 1);
        let block = if count <= fits { batches.len() } else { (block / plan.batch).max(1) };
        tracing::debug!(
            held = first.size(),
            samples = count,
            batch = plan.batch,
            batches = batches.len(),
            block,
            "gathered"
        );
        Ok(Self { passes, samples, count, plan, batches, block, held: Vec::new() })
    }

    /// n.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Bytes for the temporaries of one layer.
    pub(crate) fn chunk(&self) -> usize {
        self.plan.chunk
    }

    pub(crate) fn passes(&self) -> &Passes<'a, M, F, W> {
        &self.passes
    }

    /// A reducer for G v.
    pub(crate) fn dots(&self, direction: ParamTree) -> Dots {
        Dots::new(direction, self.count, self.plan.chunk)
    }

    /// A reducer for Gᵀ w.
    pub(crate) fn weighted(&self, weights: Vec<f64>) -> WeightedGradient {
        WeightedGradient::new(weights, self.plan.chunk)
    }

    fn fits(&self) -> bool {
        self.block >= self.batches.len()
    }

    fn hold(&self, batches: &[Range<usize>]) -> Result<Vec<Held>, CurvatureError> {
        batches.iter().map(|range| hold(&self.passes, self.samples, range.clone(), self.plan)).collect()
    }

    /// Gives each batch to `look`, in order: one pass, or none when everything is held already.
    pub(crate) fn each(
        &mut self,
        stage: &'static str,
        look: &mut dyn FnMut(&Held) -> Result<(), CurvatureError>,
    ) -> Result<(), CurvatureError> {
        if self.fits() {
            if self.held.is_empty() {
                self.passes.begin(stage, self.count)?;
                self.held = self.hold(&self.batches)?;
            }
            return self.held.iter().try_for_each(|held| {
                look(held)?;
                self.passes.go_on()
            });
        }
        self.passes.begin(stage, self.count)?;
        for batch in &self.batches {
            for held in self.hold(std::slice::from_ref(batch))? {
                look(&held)?;
            }
        }
        Ok(())
    }

    /// Sweeps the first `count` samples to `reducer` and holds nothing.
    pub(crate) fn sweep(
        &self,
        stage: &'static str,
        count: usize,
        reducer: &mut dyn Reduce,
    ) -> Result<(), CurvatureError> {
        self.passes.begin(stage, count)?;
        for range in ranges(count, self.plan.batch, 1) {
            self.passes.one(self.samples, range, &Estimator::Empirical, self.plan, &mut [&mut *reducer])?;
        }
        Ok(())
    }

    /// G Gᵀ, `[n, n]`; `also` sees each batch once. One pass when everything fits, else (b + 1)/2 for b blocks.
    pub(crate) fn gram(&mut self, mut also: Option<&mut dyn Reduce>) -> Result<Vec<f64>, CurvatureError> {
        let n = self.count;
        let mut gram = vec![0.0; n * n];
        let blocks: Vec<&[Range<usize>]> = self.batches.chunks(self.block).collect();
        let length = |block: &[Range<usize>]| block.iter().map(Range::len).sum::<usize>();
        let total = blocks.iter().enumerate().map(|(number, block)| (number + 1) * length(block)).sum();
        self.passes.begin("Gram matrix", total)?;
        let go_on: GoOn<'_> = &|| self.passes.go_on();
        // No recording is alive while products are formed, so that its part of the budget is theirs.
        let settings = self.passes.settings();
        let chunk = settings.chunk.unwrap_or(settings.budget / 8);
        let how = (chunk, settings.route, go_on);
        let mut keep = Vec::new();
        for (number, rows) in blocks.iter().enumerate() {
            let left = self.hold(rows)?;
            if let Some(also) = &mut also {
                left.iter().try_for_each(|held| held.show(&mut **also))?;
            }
            gram_between(&left, &left, true, how, &mut gram, n)?;
            for columns in &blocks[number + 1..] {
                let right = self.hold(columns)?;
                gram_between(&left, &right, false, how, &mut gram, n)?;
            }
            if self.fits() {
                keep = left;
            }
        }
        for i in 0..n {
            for j in 0..i {
                gram[i * n + j] = gram[j * n + i];
            }
        }
        self.held = keep;
        Ok(gram)
    }
}

/// The factors of one batch.
fn hold<M, F, S, W>(
    passes: &Passes<'_, M, F, W>,
    samples: &S,
    range: Range<usize>,
    plan: Plan,
) -> Result<Held, CurvatureError>
where
    M: Module,
    F: Forward<M, W>,
    W: Way,
    S: Samples<Input = Tensor<4>>,
{
    let mut held = Held::new(plan.chunk, passes.settings().route);
    passes.one(samples, range, &Estimator::Empirical, plan, &mut [&mut held])?;
    Ok(held)
}
