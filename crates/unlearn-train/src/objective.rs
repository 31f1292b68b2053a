//! What a run minimises.

use burn::tensor::Tensor;
use unlearn_data::Batch;

use crate::TrainError;

/// Where a run is. All counts start at zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The current epoch.
    pub epoch: u64,
    /// Epochs of the whole run.
    pub epochs: u64,
    /// Optimizer steps done since the run began.
    pub step: u64,
    /// Optimizer steps an epoch.
    pub steps_per_epoch: u64,
}

/// A loss with the logits that it came from.
#[derive(Debug, Clone)]
pub struct Loss {
    /// What is minimised, `[1]`, tracked by autodiff.
    pub value: Tensor<1>,
    /// `[n, classes]`, of which the training accuracy is read.
    pub logits: Tensor<2>,
}

/// What a run minimises: a loss of model and batch, and, where the objective has a part without a
/// gradient, the proximal step for it.
///
/// An iterative unlearning method *is* an objective on a data stream under a constraint; the loop
/// is always [`fit`](crate::fit()).
pub trait Objective<M>: Send + Sync {
    /// The loss of one batch. The batch lies on an autodiff device.
    fn loss(&self, model: &M, batch: &Batch, at: Moment) -> Loss;

    /// Runs after each optimizer step, before the constraint. `rate` is the learning rate of the
    /// step. The default does nothing.
    fn proximal(&self, model: M, rate: f64, at: Moment) -> M {
        let _ = (rate, at);
        model
    }

    /// Checks the objective's own parameters, once, before any work. The default allows all.
    ///
    /// # Errors
    /// [`TrainError::Config`] with the parameter that cannot be.
    fn validate(&self) -> Result<(), TrainError> {
        Ok(())
    }

    /// What tells this objective from another, parameters included (`cross-entropy(0.1)`): a run
    /// directory keeps it and refuses to go on with another one. The default is the name of the
    /// type, so an objective with parameters overrides it.
    fn describe(&self) -> String {
        std::any::type_name::<Self>().to_owned()
    }
}
