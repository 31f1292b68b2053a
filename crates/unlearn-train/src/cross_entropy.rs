//! The usual objective: cross-entropy, with label smoothing.
//!
//! Indices: n samples, k classes.

use burn::prelude::Int;
use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;
use unlearn_data::Batch;
use unlearn_models::Classifier;

use crate::config::require;
use crate::{Loss, Moment, Objective, TrainError};

/// Mean cross-entropy of the batch.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CrossEntropy {
    /// ε of label smoothing (Szegedy et al. 2016, §7), at least 0 and below 1; 0 for none.
    pub label_smoothing: f64,
}

impl<M: Classifier> Objective<M> for CrossEntropy {
    fn loss(&self, model: &M, batch: &Batch, _at: Moment) -> Loss {
        let logits = model.forward(batch.images.clone());
        let value = cross_entropy(logits.clone(), batch.targets.clone(), self.label_smoothing).mean();
        Loss { value, logits }
    }

    fn validate(&self) -> Result<(), TrainError> {
        require(
            (0.0..1.0).contains(&self.label_smoothing),
            "label_smoothing",
            self.label_smoothing,
            "at least 0 and below 1",
            "0.1 is usual, 0 is none",
        )
    }

    fn describe(&self) -> String {
        format!("cross-entropy(label_smoothing={})", self.label_smoothing)
    }
}

/// The cross-entropy of each sample, `[n]`, for `logits`, `[n, k]`, and `targets`, `[n]`, each below
/// `k` (a GPU does not check it):
///
/// `l_n = −(1 − ε) log p_n(y_n) − (ε / K) Σ_k log p_n(k)`, as PyTorch's `cross_entropy` has it.
///
/// The logarithm is taken of the softmax with the largest logit subtracted first, so that logits of
/// any finite size give a finite loss.
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>, label_smoothing: f64) -> Tensor<1> {
    let log_p = log_softmax(logits, 1); // [n, k]
    let of_target = log_p.clone().gather(1, targets.unsqueeze_dim(1)).squeeze_dim::<1>(1); // [n]
    if label_smoothing == 0.0 {
        return of_target.neg();
    }
    let of_all = log_p.mean_dim(1).squeeze_dim::<1>(1); // [n], (1/K) Σ_k log p
    of_target.mul_scalar(label_smoothing - 1.0) - of_all.mul_scalar(label_smoothing)
}
