//! What an unlearning method is.

use std::collections::BTreeMap;
use std::path::Path;

use unlearn_data::{Augment, Dataset, Partition, Seed};
use unlearn_models::Classifier;
use unlearn_prune::MaskSet;
use unlearn_train::{FitConfig, Observer};

use crate::UnlearnError;

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
    /// Threads that prepare batches.
    pub workers: usize,
    /// A folder of the method's own in which an iterative method keeps checkpoints and from which
    /// it goes on after a kill; `None` keeps nothing.
    pub directory: Option<&'a Path>,
    /// Sees the events of iterative methods.
    pub observer: &'a mut dyn Observer,
}

/// What a method gives.
#[derive(Debug, Clone)]
pub struct Outcome<M> {
    /// The model that has forgotten, on a plain device.
    pub model: M,
    /// Wall-clock seconds of the method, its own data handling included.
    pub seconds: f64,
    /// Optimizer steps, when there were any.
    pub steps: u64,
    /// What the method measured of itself (`damping`, `cosine_to_gradient`, …), for the report.
    pub diagnostics: BTreeMap<String, f64>,
}

/// An unlearning method. Its fields are its hyperparameters; `Default` are its paper's.
///
/// # Contract
/// * The model comes and goes on a plain device; the caller's model is never changed (batch-norm
///   statistics included).
/// * A mask in the context holds exactly before and after: pruned weights are `0.0`.
/// * Equal model, partition and context give equal weights on one machine and device.
/// * All results are finite, or the method returns an error.
pub trait Unlearn<M: Classifier>: Send + Sync {
    /// The method's name in recipes and reports (`finetune`).
    fn name(&self) -> &'static str;

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
