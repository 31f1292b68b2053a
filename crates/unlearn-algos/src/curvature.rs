//! Curvature of a classifier by the engine or by the oracle, watched by the method's observer.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use burn::Tensor;
use unlearn_curvature::inverse::{Damping, ReferenceRecursion, Solution, reference_recursion, woodbury};
use unlearn_curvature::oracle::{Diagonal, Joined, Oracle, Samples};
use unlearn_curvature::{
    CurvatureError, Engine, FisherDiag, InverseFisher, ParamPath, ParamTree, PerSample, Progress,
};
use unlearn_models::{Classifier, forward_taped};
use unlearn_prune::MaskSet;
use unlearn_train::{Event, Observer};

use crate::DatasetSamples;
use crate::methods::influence_direction;

/// A model whose curvature a method needs, and how it is to be had.
pub(crate) struct Curvature<'a, M> {
    model: &'a M,
    engine: Engine,
    kept: BTreeMap<ParamPath, Vec<bool>>,
    workers: usize,
    observer: RefCell<&'a mut dyn Observer>,
}

/// Which diagonal.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted {
    /// The Fisher diagonal.
    Exact,
    /// The published `fisher_new`, over groups of so many.
    GroupMean(usize),
    /// The published `fisher`, with its ε.
    Shifted(f64),
}

impl<'a, M: Classifier> Curvature<'a, M> {
    pub(crate) fn new(
        model: &'a M,
        engine: Engine,
        mask: Option<&MaskSet>,
        workers: usize,
        observer: &'a mut dyn Observer,
    ) -> Self {
        let kept = mask.into_iter().flat_map(MaskSet::iter).map(|(p, m)| (p.clone(), m.keep().to_vec()));
        Self { model, engine, kept: kept.collect(), workers, observer: RefCell::new(observer) }
    }

    /// A Fisher diagonal over `samples`.
    pub(crate) fn diagonal(
        &self,
        wanted: Wanted,
        samples: &DatasetSamples,
    ) -> Result<Diagonal, CurvatureError> {
        let watch = |progress: &Progress| self.told(progress);
        let tape = || {
            let fisher = match wanted {
                Wanted::Exact => FisherDiag::exact(),
                Wanted::GroupMean(size) => FisherDiag::group_mean(size),
                Wanted::Shifted(epsilon) => FisherDiag::shifted_empirical(epsilon),
            };
            fisher.kept(self.kept.clone()).watch(&watch).run(self.model, forward_taped, samples)
        };
        let autodiff = || {
            let oracle = Oracle::new(self.model, plain::<M>)?.with_workers(self.workers).with_watch(&watch);
            let oracle = oracle.with_kept(&self.kept)?;
            match wanted {
                Wanted::Exact => oracle.exact(samples),
                Wanted::GroupMean(size) => oracle.group_mean(samples, size),
                Wanted::Shifted(epsilon) => oracle.shifted_empirical(samples, epsilon),
            }
        };
        self.engine.run(self.model.taped().is_some(), tape, autodiff)
    }

    /// v = (1/n) Σ_forget g − (n_f/(n·n_r)) Σ_retain g; one pass over both sets.
    pub(crate) fn direction(
        &self,
        forget: &DatasetSamples,
        retain: &DatasetSamples,
        batch: usize,
    ) -> Result<ParamTree, CurvatureError> {
        let watch = |progress: &Progress| self.told(progress);
        let tape = || {
            let (n_f, n_r) = (forget.len() as f64, retain.len() as f64);
            let n = n_f + n_r;
            let mut weights = vec![1.0 / n; forget.len()];
            weights.resize(forget.len() + retain.len(), -n_f / (n * n_r));
            let engine = PerSample::new().kept(self.kept.clone()).batch(batch).watch(&watch);
            engine.weighted_gradient(self.model, forward_taped, &Joined::new(forget, retain), &weights)
        };
        let autodiff = || {
            let oracle = Oracle::new(self.model, plain::<M>)?.with_workers(self.workers).with_watch(&watch);
            influence_direction(&oracle.with_kept(&self.kept)?, forget, retain, batch)
        };
        self.engine.run(self.model.taped().is_some(), tape, autodiff)
    }

    /// (λI + (1/N) Σ g gᵀ)⁻¹ v over `samples`.
    pub(crate) fn inverse(
        &self,
        samples: &DatasetSamples,
        v: &ParamTree,
        damping: Damping,
    ) -> Result<Solution, CurvatureError> {
        let watch = |progress: &Progress| self.told(progress);
        let tape = || {
            let inverse = InverseFisher::woodbury(samples.len().max(1)).damping(damping).watch(&watch);
            inverse.kept(self.kept.clone()).solve(self.model, forward_taped, samples, v)
        };
        let autodiff = || {
            let oracle = Oracle::new(self.model, plain::<M>)?.with_workers(self.workers).with_watch(&watch);
            woodbury(&oracle.with_kept(&self.kept)?, samples, v, damping)
        };
        self.engine.run(self.model.taped().is_some(), tape, autodiff)
    }

    /// What the published recursion makes of v.
    pub(crate) fn recursion(
        &self,
        samples: &DatasetSamples,
        v: &ParamTree,
        batch: usize,
    ) -> Result<ParamTree, CurvatureError> {
        let watch = |progress: &Progress| self.told(progress);
        let tape = || {
            let inverse = InverseFisher::reference_compat().batch(batch).watch(&watch);
            let inverse = inverse.kept(self.kept.clone());
            Ok(inverse.solve(self.model, forward_taped, samples, v)?.direction)
        };
        let autodiff = || {
            let oracle = Oracle::new(self.model, plain::<M>)?.with_workers(self.workers).with_watch(&watch);
            let oracle = oracle.with_kept(&self.kept)?;
            reference_recursion(&oracle, samples, v, ReferenceRecursion::default(), batch)
        };
        self.engine.run(self.model.taped().is_some(), tape, autodiff)
    }

    fn told(&self, progress: &Progress) -> ControlFlow<()> {
        let Progress { stage, done, total } = *progress;
        let mut observer = self.observer.borrow_mut();
        observer.on_event(&Event::Progress { stage, done, total });
        if observer.should_stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

fn plain<M: Classifier>(model: &M, images: Tensor<4>) -> Tensor<2> {
    model.forward(images)
}

#[cfg(test)]
mod tests;
