//! The slow oracle: curvature of any Burn module, one sample at a time, with nothing clever in it.
//!
//! Every quantity here is made of explicit per-sample gradients. A forward pass of one sample, a
//! backward pass for one class, the gradient read back to the host, and then plain float64
//! arithmetic: what a fast engine computes can be proved against it, and a model that is written
//! without a tape still has every method that needs curvature.
//!
//! The network runs in evaluation mode (running batch-norm statistics, no dropout) on a copy of its
//! own, so neither the parameters nor the statistics of the caller's model move.
//!
//! # Notation
//! n samples, k classes, p parameters; ℓ = −log softmax(z)\[label\]; g_n = ∂ℓ_n/∂θ.
//!
//! # Cost
//! One pass is a forward and a backward of batch size 1 for each sample ([`Oracle::exact`]: for each
//! sample and class), about ten to a hundred times the price of a batched epoch. Passes by
//! quantity: empirical diagonal, norms and dots 1; exact diagonal k; Gram matrix between 1 and
//! (c + 1)/2 for c chunks of gradients that fit the memory given; [`Oracle::group_mean`] k batched
//! passes; [`Oracle::weighted_gradient`] 1 batched pass.

mod blocks;
mod cotangent;
mod diagonal;
mod flat;
mod per_sample;
mod samples;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use burn::Tensor;
use burn::module::{Flag, Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, TensorData};

pub use cotangent::LogitRows;
pub use diagonal::Diagonal;
pub(crate) use diagonal::no_samples;
pub use flat::Layout;
pub use per_sample::Pairs;
pub use samples::{Joined, Samples, TensorSamples};

use crate::sweep::Targets;
use crate::tree::read;
use crate::watch::{Watch, Watched};
use crate::{CurvatureError, ParamPath, ParamTree};

/// Bytes of per-sample gradients held at once unless said otherwise.
const DEFAULT_MEMORY: usize = 1 << 30;

/// Curvature of a module by per-sample automatic differentiation; see the [module](self) page.
///
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor};
/// use unlearn_curvature::oracle::{Oracle, TensorSamples};
///
/// let device = Device::flex();
/// let model: Linear = LinearConfig::new(3, 2).init(&device);
/// let images = Tensor::<4>::from_floats([[[[1.0, 0.5, -1.0]]], [[[0.0, 2.0, 1.0]]]], &device);
/// let samples = TensorSamples::new(images, vec![0, 1])?;
///
/// let oracle = Oracle::new(&model, |model: &Linear, x: Tensor<4>| model.forward(x.flatten::<2>(1, 3)))?;
/// let fisher = oracle.exact(&samples)?.mean();
/// assert_eq!(fisher.num_scalars(), 3 * 2 + 2);
/// # Ok::<(), unlearn_curvature::CurvatureError>(())
/// ```
#[derive(Debug)]
pub struct Oracle<'w, M, F> {
    core: Core<M, F>,
    workers: usize,
    memory: usize,
    watched: Watched<'w>,
}

/// What all threads share.
#[derive(Debug)]
struct Core<M, F> {
    model: M,
    forward: F,
    layout: Layout,
    device: Device,
}

/// One gradient on the host: `scale · values`, `[p]` in the order of the [`Layout`]. Scale is a power of
/// two that keeps the gradients of very confident samples within the range of float32.
#[derive(Debug, Clone)]
pub(crate) struct Gradient {
    pub(crate) values: Vec<f32>,
    pub(crate) scale: f64,
}

impl<'w, M: Module, F> Oracle<'w, M, F> {
    /// An oracle for `model`, whose logits `[n, k]` are `forward(model, inputs)`.
    ///
    /// # Errors
    /// [`CurvatureError::Argument`] when the module has no trainable parameter, [`CurvatureError::Unsupported`] when one
    /// parameter stands at two paths: each would have the gradient of one of its uses.
    pub fn new<I>(model: &M, forward: F) -> Result<Self, CurvatureError>
    where
        F: Fn(&M, I) -> Tensor<2>,
    {
        Targets::of(model)?;
        let layout = Layout::of(model);
        let Some(device) = model.devices().into_iter().next() else {
            return Err(CurvatureError::Argument {
                field: "model",
                got: "a module on no device".into(),
                expected: "a module with a parameter",
            });
        };
        let (model, device) = (evaluation_copy(model), device.without_autodiff());
        Ok(Self {
            core: Core { model, forward, layout, device },
            workers: 1,
            memory: DEFAULT_MEMORY,
            watched: Watched::default(),
        })
    }

    /// Works on `workers` threads (at least one), each with a model of its own. The result does not
    /// depend on the number. Two or more pay on CPUs, where batches of one leave cores idle.
    #[must_use]
    pub fn with_workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// Holds at most about `bytes` of per-sample gradients at once (1 GiB by default); less means more
    /// passes, never another result.
    #[must_use]
    pub fn with_memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// Takes every gradient as zero where `keep` says `false`: the weights that a pruning mask has
    /// removed are no parameters any more. Parameters that are not named keep all entries.
    ///
    /// # Errors
    /// [`CurvatureError::Keys`] for a parameter that the module does not have (or does not train),
    /// [`CurvatureError::Shape`] for another number of entries.
    pub fn with_kept(mut self, keep: &BTreeMap<ParamPath, Vec<bool>>) -> Result<Self, CurvatureError> {
        self.core.layout.set_kept(keep)?;
        Ok(self)
    }

    /// Tells `watch` the progress between pieces of work; it may end the run.
    #[must_use]
    pub fn with_watch(mut self, watch: &'w dyn Watch) -> Self {
        self.watched = Watched::by(watch);
        self
    }

    /// Names, shapes and order of the parameters.
    pub fn layout(&self) -> &Layout {
        &self.core.layout
    }
}

impl<M: Module, F> Core<M, F> {
    /// Pulls a cotangent of the logits back to the parameters. `choose` sees the logits and gives the
    /// cotangent, `[n, k]` in float64; when all of it is zero no backward pass runs and `None`
    /// comes back.
    fn pull<I>(
        &self,
        model: &M,
        inputs: I,
        choose: impl FnOnce(&LogitRows) -> Result<Vec<f64>, CurvatureError>,
    ) -> Result<Option<Gradient>, CurvatureError>
    where
        F: Fn(&M, I) -> Tensor<2>,
    {
        let logits = (self.forward)(model, inputs);
        let shape = logits.dims();
        let rows = LogitRows::new(read(logits.clone().inner().reshape([shape[0] * shape[1]]))?, shape[1])?;
        let cotangent = choose(&rows)?;
        let Some((cotangent, scale)) = cotangent::scaled(&cotangent) else { return Ok(None) };
        let cotangent = Tensor::<2>::from_data(TensorData::new(cotangent, shape), &self.device);
        let gradients = GradientsParams::from_grads(logits.mul(cotangent).sum().backward(), model);
        let values = self.layout.flatten(&ParamTree::of_gradients(model, &gradients))?;
        if values.iter().any(|v| !v.is_finite()) {
            return Err(CurvatureError::NonFinite {
                what: "a gradient".into(),
                mend: "check the weights of the model for values that are far too large",
            });
        }
        Ok(Some(Gradient { values, scale }))
    }

    /// g of sample `index`, or `None` where it is exactly zero.
    fn gradient<S>(&self, model: &M, samples: &S, index: usize) -> Result<Option<Gradient>, CurvatureError>
    where
        S: Samples,
        F: Fn(&M, S::Input) -> Tensor<2>,
    {
        self.pull(model, self.upload(samples, index..index + 1)?, |rows| {
            rows.residual(0, samples.label(index)).map(|(residual, _)| residual)
        })
    }

    fn upload<S: Samples>(
        &self,
        samples: &S,
        range: std::ops::Range<usize>,
    ) -> Result<S::Input, CurvatureError> {
        samples.inputs(range, &self.device.clone().autodiff())
    }
}

/// A copy of `module` that shares nothing with it, tracks gradients and runs as in evaluation.
pub fn evaluation_copy<M: Module>(module: &M) -> M {
    struct EvaluationFlags;
    impl ModuleMapper for EvaluationFlags {
        fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
            flag.with_value(false)
        }
    }
    module.valid().train().map(&mut EvaluationFlags)
}
