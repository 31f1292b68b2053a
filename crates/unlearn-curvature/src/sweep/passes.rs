//! Passes over labelled samples: record a batch, choose its cotangents, sweep them back.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::Range;

use burn::Tensor;
use burn::module::Module;
use burn::tensor::Device;

use super::Targets;
use crate::estimate::Estimator;
use crate::oracle::{LogitRows, Samples};
use crate::plan::{Cost, DEFAULT_BATCH, DEFAULT_BUDGET, Plan};
use crate::reduce::{Algorithm, Reduce, Route};
use crate::tree::read;
use crate::watch::{Counter, Watched};
use crate::way::{Forward, Way};
use crate::{CurvatureError, ParamPath};

/// How a run is cut into pieces, and what is forced. Nothing here changes a result beyond rounding, but for
/// `keep`.
#[derive(Debug, Clone)]
pub struct Settings<'w> {
    /// Most samples recorded together.
    pub batch: usize,
    /// Bytes to hold beside parameters and results.
    pub budget: usize,
    /// Most columns carried back together; all that fit when `None`.
    pub columns: Option<usize>,
    /// Bytes for the temporaries of one layer; an eighth of the budget, at most 256 MiB, when `None`.
    pub chunk: Option<usize>,
    /// The algorithm of every diagonal that can have it.
    pub algorithm: Option<Algorithm>,
    /// The route of every inner product that can have it.
    pub route: Option<Route>,
    /// Entries that are parameters still; see [`Targets::with_kept`].
    pub keep: BTreeMap<ParamPath, Vec<bool>>,
    /// Who sees the progress and may end the run.
    pub watched: Watched<'w>,
}

impl Default for Settings<'_> {
    fn default() -> Self {
        Self {
            batch: DEFAULT_BATCH,
            budget: DEFAULT_BUDGET,
            columns: None,
            chunk: None,
            algorithm: None,
            route: None,
            keep: BTreeMap::new(),
            watched: Watched::default(),
        }
    }
}

/// A model with its forward pass, ready to be recorded batch by batch.
pub(crate) struct Passes<'a, M, F, W> {
    model: M,
    forward: F,
    targets: Targets,
    device: Device,
    settings: Settings<'a>,
    counter: Counter<'a>,
    way: PhantomData<fn() -> W>,
}

impl<'a, M, F, W> Passes<'a, M, F, W>
where
    M: Module,
    F: Forward<M, W>,
    W: Way,
{
    /// A plain copy of `model` in evaluation mode.
    pub(crate) fn new(model: &M, forward: F, settings: &Settings<'a>) -> Result<Self, CurvatureError> {
        for (field, value) in
            [("batch", Some(settings.batch)), ("columns", settings.columns), ("chunk", settings.chunk)]
        {
            if value == Some(0) {
                return Err(CurvatureError::Argument { field, got: "0".into(), expected: "at least 1" });
            }
        }
        let targets = Targets::of(model)?;
        let model = model.valid();
        let device = model.devices().into_iter().next().map(Device::without_autodiff);
        let Some(device) = device else {
            return Err(CurvatureError::Argument {
                field: "model",
                got: "a module on no device".into(),
                expected: "a module with parameters",
            });
        };
        let targets = targets.with_kept(&settings.keep, &device)?;
        // The entries to keep lie in the targets now.
        let &Settings { batch, budget, columns, chunk, algorithm, route, watched, keep: _ } = settings;
        let keep = BTreeMap::new();
        let settings = Settings { batch, budget, columns, chunk, algorithm, route, keep, watched };
        Ok(Self {
            model,
            forward,
            targets,
            device,
            settings,
            counter: Counter::new(watched),
            way: PhantomData,
        })
    }

    /// Begins a stage that takes `total` samples through [`one`](Self::one).
    pub(crate) fn begin(&self, stage: &'static str, total: usize) -> Result<(), CurvatureError> {
        self.counter.begin(stage, total)
    }

    /// An error when the run is to end.
    pub(crate) fn go_on(&self) -> Result<(), CurvatureError> {
        self.counter.add(0)
    }

    pub(crate) fn settings(&self) -> &Settings<'a> {
        &self.settings
    }

    pub(crate) fn targets(&self) -> &Targets {
        &self.targets
    }

    /// The pictures of `range`.
    fn images<S>(&self, samples: &S, range: Range<usize>) -> Result<Tensor<4>, CurvatureError>
    where
        S: Samples<Input = Tensor<4>>,
    {
        let images = samples.inputs(range, &self.device)?;
        Ok(if images.is_autodiff() { images.inner() } else { images })
    }

    /// Takes a batch forward.
    fn record(&self, images: Tensor<4>) -> Result<(LogitRows, W::Batch), CurvatureError> {
        let (logits, batch) = W::record(&self.model, &self.forward, &self.targets, images)?;
        let [n, k] = logits.dims();
        Ok((LogitRows::new(read(logits.reshape([n * k]))?, k)?, batch))
    }

    /// What one sample costs, once the forward pass is seen to be one that can be gone back through.
    pub(crate) fn cost<S>(&self, samples: &S) -> Result<Cost, CurvatureError>
    where
        S: Samples<Input = Tensor<4>>,
    {
        if samples.is_empty() {
            return Err(crate::oracle::no_samples());
        }
        let (rows, batch) = self.record(self.images(samples, 0..1)?)?;
        let (recording, widest) = W::size(&batch);
        drop(batch);
        let few = || self.images(samples, 0..samples.len().min(2));
        W::inspect(&self.model, &self.forward, &self.targets, &few)?;
        Ok(Cost { recording, widest, classes: rows.classes() })
    }

    /// How to cut a run of `estimator` that may take `budget` bytes.
    pub(crate) fn plan(&self, cost: Cost, estimator: &Estimator, budget: usize) -> Plan {
        let columns = (estimator.count(cost.classes), W::COLUMNS);
        let mut plan =
            Plan::new(cost, (self.settings.batch.min(W::BATCH), estimator.group()), columns, budget);
        plan.columns = plan.columns.min(self.settings.columns.unwrap_or(usize::MAX));
        plan.chunk = self.settings.chunk.unwrap_or(plan.chunk);
        plan
    }

    /// Sweeps the estimator's columns of all `samples` to `reducers`, as one stage; the number of units.
    pub(crate) fn all<S>(
        &self,
        stage: &'static str,
        samples: &S,
        estimator: &Estimator,
        plan: Plan,
        reducers: &mut [&mut dyn Reduce],
    ) -> Result<usize, CurvatureError>
    where
        S: Samples<Input = Tensor<4>>,
    {
        self.begin(stage, samples.len())?;
        for range in ranges(samples.len(), plan.batch, estimator.group()) {
            self.one(samples, range, estimator, plan, reducers)?;
        }
        Ok(samples.len().div_ceil(estimator.group()))
    }

    /// Sweeps the estimator's columns of one batch.
    pub(crate) fn one<S>(
        &self,
        samples: &S,
        range: Range<usize>,
        estimator: &Estimator,
        plan: Plan,
        reducers: &mut [&mut dyn Reduce],
    ) -> Result<(), CurvatureError>
    where
        S: Samples<Input = Tensor<4>>,
    {
        tracing::trace!(from = range.start, to = range.end, of = samples.len(), "batch");
        let labels: Vec<usize> = range.clone().map(|n| samples.label(n)).collect();
        let images = self.images(samples, range.clone())?;
        let (rows, batch) = self.record(images.clone())?;
        let mut batch = Some(batch);
        let again = || Ok(self.record(images.clone())?.1);
        let columns = estimator.columns(&rows, &labels, range.start)?;
        let first = range.start / estimator.group();
        for start in (0..columns.count()).step_by(plan.columns) {
            let part = columns.part(start..(start + plan.columns).min(columns.count()));
            W::sweep(&mut batch, &again, (&part, first), &self.targets, &self.device, reducers)?;
            self.go_on()?;
        }
        self.counter.add(range.len())
    }
}

/// Batches of whole groups, and the incomplete last group by itself.
pub(crate) fn ranges(samples: usize, batch: usize, group: usize) -> Vec<Range<usize>> {
    let whole = samples / group * group;
    let mut ranges: Vec<_> =
        (0..whole).step_by(batch).map(|start| start..(start + batch).min(whole)).collect();
    if whole < samples {
        ranges.push(whole..samples);
    }
    ranges
}
