//! Retraining from scratch (Retrain): the model that never saw the forget set, which the others are judged by.
//!
//! # What it does
//! Initialises the model as the original was and trains it, as the original was, on the retain set alone.
//! On dense models this is exact unlearning.
//!
//! # Needs
//! The retain set and the time of a whole training. The forget set is never read, but see the mask.
//!
//! # Definition
//! θ = A(D_r), A being the original's training algorithm (Cao and Yang 2015; Jia et al. 2023, "Retrain"). First weights
//! come from the context's `fresh`; order, augmentation and dropout from its `seed`. The command passes the seeds of the
//! original. The seed inside `TrainingRecipe` is not used.
//!
//! # Hyperparameters
//! | name | default | meaning |
//! |---|---|---|
//! | `mask` | `given` | which weights a pruned model keeps |
//!
//! `given` trains on the mask of the original, as published. That mask was found with the forget set in
//! the training data, so it carries some of it: no exact unlearning. `reprune` finds a mask of its own from
//! the retain set: a dense model is trained on it, pruned once by magnitude to the same number of weights
//! over the same parameters, and a fresh model is trained on that mask. `none` trains a dense model.
//! With no mask in the context all three train a dense model.
//!
//! # Diagnostics
//! None.
//!
//! # Cost
//! One training on the retain set; two for `reprune`.
//!
//! # Differences from the published code
//! It knows only `given`, and calls the result exact.
//!
//! # Example
//! ```toml
//! [[method]]
//! name = "retrain"
//! mask = "reprune"
//! ```
//!
//! # References
//! Cao, Yang: Towards Making Systems Forget with Machine Unlearning, S&P 2015, <https://doi.org/10.1109/SP.2015.35>.
//! Jia et al.: Model Sparsity Can Simplify Machine Unlearning, NeurIPS 2023, <https://arxiv.org/abs/2304.04934>.

use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use unlearn_curvature::parameters;
use unlearn_data::Partition;
use unlearn_models::Classifier;
use unlearn_prune::{EmptyLayers, Magnitude, MaskSet, Prunable, PrunableRule, PruneConfig, Scope, one_shot};
use unlearn_train::{CrossEntropy, Fit, FitConfig};

use crate::check;
use crate::iterate::{Task, iterate};
use crate::{Context, Outcome, Reads, Unlearn, UnlearnError};

/// Which weights a retrained model keeps; see the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RetrainMask {
    /// Those of the original.
    #[default]
    Given,
    /// As many, chosen anew from the retain set.
    Reprune,
    /// All.
    None,
}

/// Retraining from scratch; the page is that of this [module](self) and of `unlearn methods retrain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retrain {
    /// Which weights it keeps.
    pub mask: RetrainMask,
}

const NAME: &str = "retrain";

impl<M: Classifier> Unlearn<M> for Retrain {
    fn name(&self) -> &'static str {
        NAME
    }

    fn reads(&self) -> Reads {
        Reads::Retain
    }

    fn hyperparameters(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn unlearn(
        &self,
        _model: M,
        partition: &Partition,
        context: &mut Context<'_, M>,
    ) -> Result<Outcome<M>, UnlearnError> {
        let started = Instant::now();
        let own = context.directory.map(PathBuf::from);
        let part = |name: &str| own.as_ref().map(|directory| directory.join(name));
        let (mut spent, mut steps) = (0.0, 0);
        let mut count = |fit: Fit<M>| {
            spent += fit.seconds;
            steps += fit.steps;
            fit.model
        };
        let (model, mask) = match (self.mask, context.mask) {
            (RetrainMask::Given, Some(mask)) => {
                (count(train(own.clone(), Some(mask), partition, context)?), Some(mask.clone()))
            }
            (RetrainMask::Reprune, Some(like)) => {
                let dense = count(train(part("dense"), None, partition, context)?);
                let mask = reprune(&dense, like)?;
                let model = count(train(part("sparse"), Some(&mask), partition, context)?);
                (model, Some(mask))
            }
            (RetrainMask::None, _) | (_, None) => {
                (count(train(own.clone(), None, partition, context)?), None)
            }
        };
        check::finite(NAME, &model)?;
        let mut outcome = Outcome::new(model, started.elapsed().as_secs_f64().max(spent), mask.as_ref());
        outcome.steps = steps;
        Ok(outcome)
    }
}

fn train<M: Classifier>(
    directory: Option<PathBuf>,
    mask: Option<&MaskSet>,
    partition: &Partition,
    context: &mut Context<'_, M>,
) -> Result<Fit<M>, UnlearnError> {
    let training = context.training;
    let task = Task {
        indices: partition.retain(),
        mask,
        config: FitConfig { snapshot_epochs: Vec::new(), ..training.fit.clone() },
        batch_size: training.batch_size,
        augment: training.augment,
        directory: directory.as_deref(),
        lora: None,
    };
    let objective = CrossEntropy { label_smoothing: training.label_smoothing };
    let fresh = (context.fresh)();
    Ok(iterate(&task, &objective, fresh, context)?.fit)
}

/// A magnitude mask of `model` over the same parameters as `like` and with as many weights kept.
fn reprune<M: Classifier>(model: &M, like: &MaskSet) -> Result<MaskSet, UnlearnError> {
    let pruned = like.total() - like.kept();
    if pruned == 0 {
        return Ok(like.clone());
    }
    let masked = like.iter().map(|(path, _)| path.to_string()).collect();
    let others = parameters(model)
        .into_iter()
        .filter(|p| like.get(&p.path).is_none())
        .map(|p| p.path.to_string())
        .collect();
    let config = PruneConfig {
        rate: pruned as f64 / like.total() as f64,
        scope: Scope::default(),
        prunable: Prunable { rule: PrunableRule::AllWeights, include: masked, exclude: others },
        empty_layers: EmptyLayers::Allow,
    };
    Ok(one_shot(model, &Magnitude, &config, None)?)
}
