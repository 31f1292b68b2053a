//! Iterative methods: an objective on some samples under the mask.

use std::path::Path;

use unlearn_data::{Augment, Loader};
use unlearn_models::Classifier;
use unlearn_prune::MaskSet;
use unlearn_train::{Constraint, Fit, FitConfig, Objective, Unconstrained, fit, fit_in};

use crate::{Context, UnlearnError};

/// What an iterative method trains on, and how.
pub(crate) struct Task<'a, M> {
    pub(crate) indices: &'a [usize],
    pub(crate) objective: &'a dyn Objective<M>,
    pub(crate) mask: Option<&'a MaskSet>,
    pub(crate) config: FitConfig,
    pub(crate) batch_size: usize,
    pub(crate) augment: Augment,
    pub(crate) directory: Option<&'a Path>,
}

/// Runs the one training loop, in a run directory where there is one. Order and augmentation come
/// from the context's seed.
pub(crate) fn iterate<M: Classifier>(
    task: Task<'_, M>,
    model: M,
    context: &mut Context<'_, M>,
) -> Result<Fit<M>, UnlearnError> {
    let loader = Loader::new(context.dataset, task.indices, task.batch_size)?
        .with_shuffle(context.seed)
        .with_augment(task.augment, context.seed)
        .with_workers(context.workers);
    let masked;
    let constraint: &dyn Constraint<M> = match task.mask {
        Some(mask) => {
            masked = mask.constraint(&model)?;
            &masked
        }
        None => &Unconstrained,
    };
    let config = FitConfig { seed: context.seed, ..task.config };
    Ok(match task.directory {
        None => fit(model, &loader, task.objective, constraint, &config, context.observer)?,
        Some(directory) => {
            fit_in(directory, model, &loader, task.objective, constraint, &config, context.observer)?
        }
    })
}
