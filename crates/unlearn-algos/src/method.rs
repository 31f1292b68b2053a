//! What an unlearning method is.

use std::collections::BTreeMap;
use std::path::Path;

use unlearn_data::{Augment, Dataset, Partition, Seed};
use unlearn_models::{Adapted, Classifier};
use unlearn_prune::MaskSet;
use unlearn_train::{FitConfig, Observer};

use crate::UnlearnError;

/// Which of the two sets a method looks at. A method that says it does not read a set gives the same
/// result whatever lies in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Forget set and retain set.
    Both,
    /// The retain set only.
    Retain,
    /// The forget set only: the method works where the other data are no longer there.
    Forget,
}

/// How the original model was trained, which is how Retrain trains.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingRecipe {
    /// Optimizer, schedule, epochs.
    pub fit: FitConfig,
    /// Samples a step.
    pub batch_size: usize,
    /// What was done to the pictures.
    pub augment: Augment,
    /// Label smoothing, 0 for none.
    pub label_smoothing: f64,
}

impl TrainingRecipe {
    /// Training as `fit` says, `batch_size` samples a step, without augmentation or label smoothing.
    pub fn new(fit: FitConfig, batch_size: usize) -> Self {
        Self { fit, batch_size, augment: Augment::None, label_smoothing: 0.0 }
    }
}

/// Everything a method may use beside the model and the partition. It holds no test data and no
/// metric: a method cannot peek at what it is judged by.
pub struct Context<'a, M> {
    /// The training data; the indices of the partition refer to it.
    pub dataset: &'a Dataset,
    /// Makes the model as it was before its first training step, from the initialisation seed.
    pub fresh: &'a dyn Fn() -> M,
    /// How the original was trained.
    pub training: &'a TrainingRecipe,
    /// The mask that the model is pruned by; every method keeps it exactly.
    pub mask: Option<&'a MaskSet>,
    /// Seed of the method's own randomness: order, augmentation, noise.
    pub seed: Seed,
    /// Threads that prepare batches, or that take samples one by one.
    pub workers: usize,
    /// A folder of the method's own in which an iterative method keeps checkpoints and from which
    /// it goes on after a kill; `None` keeps nothing.
    pub directory: Option<&'a Path>,
    /// Sees what happens and may stop it: the events of training, and how far through the samples curvature is.
    pub observer: &'a mut dyn Observer,
}

impl<'a, M> Context<'a, M> {
    /// A context for a dense model: no mask, no folder, one thread that prepares batches. Change the
    /// fields for more.
    pub fn new(
        dataset: &'a Dataset,
        fresh: &'a dyn Fn() -> M,
        training: &'a TrainingRecipe,
        seed: Seed,
        observer: &'a mut dyn Observer,
    ) -> Self {
        Self { dataset, fresh, training, mask: None, seed, workers: 1, directory: None, observer }
    }
}

/// What a method gives.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Outcome<M> {
    /// The model that has forgotten, on a plain device.
    pub model: M,
    /// Wall-clock seconds of the method, its own data handling included.
    pub seconds: f64,
    /// Optimizer steps, when there were any.
    pub steps: u64,
    /// What the method measured of itself (`damping`, `cosine_to_gradient`, …), for the report.
    pub diagnostics: BTreeMap<String, f64>,
    /// The mask that the result keeps: the one of the context, but for a retrained model that was
    /// asked for another one.
    pub mask: Option<MaskSet>,
    /// The network before its adapters were merged into [`model`](Self::model), when the method trained adapters: the
    /// original, frozen, with the branches beside it. Nothing of them is cut off by a mask here.
    pub adapted: Option<Adapted<M>>,
}

impl<M> Outcome<M> {
    /// A result that took `seconds` and keeps `mask`, with no steps and nothing measured; add those
    /// in the fields.
    pub fn new(model: M, seconds: f64, mask: Option<&MaskSet>) -> Self {
        let (mask, diagnostics) = (mask.cloned(), BTreeMap::new());
        Self { model, seconds, steps: 0, diagnostics, mask, adapted: None }
    }
}

/// An unlearning method. Its fields are its hyperparameters; `Default` are its paper's.
///
/// # Contract
/// * The model comes and goes on a plain device; the caller's model is never changed (batch-norm
///   statistics included).
/// * A mask in the context holds exactly before and after: pruned weights are `0.0`. Where the
///   result keeps another mask, [`Outcome::mask`] is it.
/// * Equal model, partition and context give equal weights on one machine and device.
/// * All results are finite, or the method returns an error.
pub trait Unlearn<M: Classifier>: Send + Sync {
    /// The method's name in recipes and reports (`finetune`).
    fn name(&self) -> &'static str;

    /// Which sets it looks at.
    fn reads(&self) -> Reads {
        Reads::Both
    }

    /// Whether it reproduces a defect of the published code instead of the definition.
    fn is_reference(&self) -> bool {
        false
    }

    /// All hyperparameters, for the report.
    fn hyperparameters(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// Checks the hyperparameters, before any work.
    ///
    /// # Errors
    /// [`UnlearnError::Hyperparameter`] with the first one that cannot be.
    fn validate(&self) -> Result<(), UnlearnError> {
        Ok(())
    }

    /// Makes `model` forget `partition.forget()`.
    ///
    /// # Errors
    /// Bad hyperparameters, divergence, and whatever data and training report.
    fn unlearn(
        &self,
        model: M,
        partition: &Partition,
        context: &mut Context<'_, M>,
    ) -> Result<Outcome<M>, UnlearnError>;
}
