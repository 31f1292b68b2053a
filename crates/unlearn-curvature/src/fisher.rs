//! Fisher diagonals.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use burn::Tensor;
use burn::module::Module;

use crate::oracle::{Diagonal, Samples};
use crate::plan::Plan;
use crate::reduce::{Algorithm, Reduce, SumSquares, WeightedGradient};
use crate::sweep::{Passes, Settings};
use crate::tree::read;
use crate::watch::{Watch, Watched};
use crate::way::{Forward, Marked, OnTape, OneByOne, Way};
use crate::{CurvatureError, Estimator, ParamPath, ParamTree};

/// A Fisher diagonal to be estimated: choose the estimator, then [`run`](Self::run), for a model with a forward pass on
/// a tape or, after [`marked`](Self::marked), in plain Burn.
///
/// The model runs in evaluation mode on a plain copy of its own; neither its parameters nor its batch-norm
/// statistics move. Results are sums and counts, so that those of parts of a data set
/// [merge](Diagonal::merge).
///
/// ```
/// use burn::module::Module;
/// use burn::nn::conv::{Conv2d, Conv2dConfig};
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor};
/// use unlearn_curvature::FisherDiag;
/// use unlearn_curvature::oracle::TensorSamples;
/// use unlearn_curvature::tape::{Tape, Var};
///
/// #[derive(Module, Debug)]
/// struct Net {
///     conv: Conv2d,
///     head: Linear,
/// }
///
/// fn forward(net: &Net, images: Var<4>, tape: &mut dyn Tape) -> Var<2> {
///     let x = tape.conv2d(&net.conv, images);
///     let x = tape.relu(x);
///     let x = tape.global_avg_pool(x);
///     tape.linear(&net.head, x)
/// }
///
/// let device = Device::flex();
/// let net = Net {
///     conv: Conv2dConfig::new([1, 4], [3, 3]).init(&device),
///     head: LinearConfig::new(4, 3).init(&device),
/// };
/// let images = Tensor::<4>::ones([5, 1, 8, 8], &device);
/// let samples = TensorSamples::new(images, vec![0, 1, 2, 0, 1])?;
///
/// let exact = FisherDiag::exact().batch(2).run(&net, forward, &samples)?;
/// assert_eq!(exact.count, 5);
/// assert_eq!(exact.mean().num_scalars(), 4 * 9 + 4 + 4 * 3 + 3);
/// # Ok::<(), unlearn_curvature::CurvatureError>(())
/// ```
#[derive(Debug, Clone)]
pub struct FisherDiag<'w, W = OnTape> {
    estimator: Estimator,
    shift: Option<f64>,
    settings: Settings<'w>,
    way: PhantomData<fn() -> W>,
}

impl<'w> FisherDiag<'w> {
    /// The diagonal by `estimator`.
    pub fn new(estimator: Estimator) -> Self {
        Self { estimator, shift: None, settings: Settings::default(), way: PhantomData }
    }

    /// [`Estimator::Empirical`].
    pub fn empirical() -> Self {
        Self::new(Estimator::Empirical)
    }

    /// Σ_n (−g_n + `epsilon`)² at the labels of the data: the empirical diagonal with the published code's ε,
    /// which it adds to the gradient of log p rather than to the square.
    pub fn shifted_empirical(epsilon: f64) -> Self {
        Self { shift: Some(epsilon), ..Self::empirical() }
    }

    /// [`Estimator::Exact`].
    pub fn exact() -> Self {
        Self::new(Estimator::Exact)
    }

    /// [`Estimator::LabelMc`] with `draws` labels a sample and seed 0.
    pub fn sampled(draws: usize) -> Self {
        Self::new(Estimator::LabelMc { draws, seed: 0 })
    }

    /// [`Estimator::SignMc`] with `draws` sign vectors a sample and seed 0.
    pub fn sign(draws: usize) -> Self {
        Self::new(Estimator::SignMc { draws, seed: 0 })
    }

    /// [`Estimator::Hybrid`] with `exact` exact columns, `draws` sign vectors over the rest and seed 0.
    pub fn hybrid(exact: usize, draws: usize) -> Self {
        Self::new(Estimator::Hybrid { exact, draws, seed: 0 })
    }

    /// [`Estimator::GroupMean`] over groups of `size` samples; the count is the number of groups.
    pub fn group_mean(size: usize) -> Self {
        Self::new(Estimator::GroupMean { size })
    }

    /// For forward passes in plain Burn whose layers are marked with [`Probes`](crate::Probes).
    pub fn marked(self) -> FisherDiag<'w, Marked> {
        let Self { estimator, shift, settings, way: _ } = self;
        FisherDiag { estimator, shift, settings, way: PhantomData }
    }

    /// For forward passes in plain Burn in which not every layer can be marked: batches of one sample, slowly. The
    /// forward pass gets [`Probes`](crate::Probes) too, but need not use them.
    pub fn one_by_one(self) -> FisherDiag<'w, OneByOne> {
        let Self { estimator, shift, settings, way: _ } = self;
        FisherDiag { estimator, shift, settings, way: PhantomData }
    }
}

impl<'w, W: Way> FisherDiag<'w, W> {
    /// Another seed, where there is one. What is drawn for a sample follows from the seed and its place in `samples`:
    /// give each shard of a data set a seed of its own, or all of them draw alike and merging them averages less out.
    pub fn seed(mut self, new: u64) -> Self {
        match &mut self.estimator {
            Estimator::LabelMc { seed, .. }
            | Estimator::SignMc { seed, .. }
            | Estimator::Hybrid { seed, .. } => *seed = new,
            Estimator::Empirical | Estimator::Exact | Estimator::GroupMean { .. } => {}
        }
        self
    }

    /// At most `samples` at a time (64 by default), fewer where the budget asks for it.
    pub fn batch(mut self, samples: usize) -> Self {
        self.settings.batch = samples;
        self
    }

    /// Holds about `bytes` beside the parameters and the result (1 GiB by default).
    pub fn budget(mut self, bytes: usize) -> Self {
        self.settings.budget = bytes;
        self
    }

    /// Uses `algorithm` for every weight that can have it, instead of the [choice](Algorithm::choose) by shape.
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.settings.algorithm = Some(algorithm);
        self
    }

    /// Carries at most `columns` cotangent columns back together.
    pub fn columns(mut self, columns: usize) -> Self {
        self.settings.columns = Some(columns);
        self
    }

    /// Holds the temporaries of one layer within `bytes`.
    pub fn chunk(mut self, bytes: usize) -> Self {
        self.settings.chunk = Some(bytes);
        self
    }

    /// Takes every gradient as zero where `keep` says `false`: weights that a pruning mask has removed are no
    /// parameters any more. Parameters that are not named keep all entries.
    pub fn kept(mut self, keep: BTreeMap<ParamPath, Vec<bool>>) -> Self {
        self.settings.keep = keep;
        self
    }

    /// Tells `watch` the progress after every batch; it may end the run.
    pub fn watch(mut self, watch: &'w dyn Watch) -> Self {
        self.settings.watched = Watched::by(watch);
        self
    }

    /// The estimator.
    pub fn estimator(&self) -> Estimator {
        self.estimator
    }

    /// Estimates the diagonal over `samples`, for `model` whose logits `[n, k]` are
    /// `forward(model, images, tape)`, or `forward(model, images, probes)` where layers are
    /// [marked](Self::marked). Sums over samples (groups), one entry a trainable parameter.
    ///
    /// # Errors
    /// [`CurvatureError::Argument`] for a setting out of range, no samples or a label without a logit;
    /// [`CurvatureError::Unsupported`] for what cotangents cannot be carried through;
    /// [`CurvatureError::Unmarked`] for trainable parameters of no marked layer;
    /// [`CurvatureError::NonFinite`]; [`CurvatureError::Keys`] and [`CurvatureError::Shape`] for
    /// [`kept`](Self::kept) entries of another model; [`CurvatureError::Read`].
    pub fn run<M, F, S>(&self, model: &M, forward: F, samples: &S) -> Result<Diagonal, CurvatureError>
    where
        M: Module,
        F: Forward<M, W>,
        S: Samples<Input = Tensor<4>>,
    {
        self.validate()?;
        let passes = Passes::new(model, forward, &self.settings)?;
        let plan = passes.plan(passes.cost(samples)?, &self.estimator, self.settings.budget);
        self.diagonal(&passes, plan, samples)
    }

    /// The diagonals over two sets, say those to be retained and to be forgotten, with the model prepared and the
    /// work planned once.
    ///
    /// # Errors
    /// As [`run`](Self::run), for either set.
    pub fn run_pair<M, F, A, B>(
        &self,
        model: &M,
        forward: F,
        first: &A,
        second: &B,
    ) -> Result<(Diagonal, Diagonal), CurvatureError>
    where
        M: Module,
        F: Forward<M, W>,
        A: Samples<Input = Tensor<4>>,
        B: Samples<Input = Tensor<4>>,
    {
        self.validate()?;
        if second.is_empty() {
            return Err(crate::oracle::no_samples());
        }
        let passes = Passes::new(model, forward, &self.settings)?;
        let plan = passes.plan(passes.cost(first)?, &self.estimator, self.settings.budget);
        Ok((self.diagonal(&passes, plan, first)?, self.diagonal(&passes, plan, second)?))
    }

    fn validate(&self) -> Result<(), CurvatureError> {
        self.estimator.validate()?;
        match self.shift {
            Some(shift) if !shift.is_finite() => Err(CurvatureError::Argument {
                field: "epsilon",
                got: shift.to_string(),
                expected: "a finite number",
            }),
            _ => Ok(()),
        }
    }

    fn diagonal<M, F, S>(
        &self,
        passes: &Passes<'_, M, F, W>,
        plan: Plan,
        samples: &S,
    ) -> Result<Diagonal, CurvatureError>
    where
        M: Module,
        F: Forward<M, W>,
        S: Samples<Input = Tensor<4>>,
    {
        const STAGE: &str = "Fisher diagonal";
        let mut squares = SumSquares::new(plan.chunk, self.settings.algorithm);
        let (sum, count) = if let Some(shift) = self.shift {
            let mut gradient = WeightedGradient::new(vec![1.0; samples.len()], plan.chunk);
            let reducers: &mut [&mut dyn Reduce] = &mut [&mut squares, &mut gradient];
            let count = passes.all(STAGE, samples, &self.estimator, plan, reducers)?;
            (shifted(&squares.finish()?, &gradient.finish()?, shift, count)?, count)
        } else {
            let count = passes.all(STAGE, samples, &self.estimator, plan, &mut [&mut squares])?;
            (squares.finish()?, count)
        };
        finite(&sum, "a sum of squared gradients")?;
        Ok(Diagonal { sum, count })
    }
}

/// Σ (ε − g)² = Σ g² − 2 ε Σ g + n ε², in float64 on the host.
fn shifted(
    squares: &ParamTree,
    gradient: &ParamTree,
    epsilon: f64,
    count: usize,
) -> Result<ParamTree, CurvatureError> {
    let last = count as f64 * epsilon * epsilon;
    squares.zip_host(gradient, |square, sum| (square - 2.0 * epsilon * sum + last).max(0.0))
}

/// # Errors
/// [`CurvatureError::NonFinite`] when a value of `tree` is infinite or not a number.
pub(crate) fn finite(tree: &ParamTree, what: &'static str) -> Result<(), CurvatureError> {
    let largest = tree.iter().map(|(_, leaf)| leaf.values.clone().abs().sum()).collect();
    let largest = read(Tensor::cat(largest, 0))?;
    match tree.iter().zip(largest).find(|(_, largest)| !largest.is_finite()) {
        Some(((path, _), _)) => Err(CurvatureError::NonFinite {
            what: format!("{what} with respect to `{path}`"),
            mend: "check the weights of the model for values that are far too large",
        }),
        None => Ok(()),
    }
}
