//! Iterative methods: an objective on some samples under the mask, on all weights or through adapters.

use std::collections::BTreeMap;
use std::path::Path;

use burn::Tensor;
use burn::module::Module;
use unlearn_curvature::ParamPath;
use unlearn_curvature::oracle::Samples;
use unlearn_data::{Augment, Loader, Stream};
use unlearn_models::lora::Kept;
use unlearn_models::{Adapted, Classifier, LoraConfig, LoraError, add_adapters};
use unlearn_prune::MaskSet;
use unlearn_train::{Constraint, Fit, FitConfig, Objective, Unconstrained, fit, fit_in};

use crate::{Context, DatasetSamples, UnlearnError, check};

/// Pictures on which a merged network is compared with the one that was trained.
pub(crate) const COMPARED: usize = 64;

/// What an iterative method trains on, and how.
pub(crate) struct Task<'a> {
    pub(crate) indices: &'a [usize],
    pub(crate) mask: Option<&'a MaskSet>,
    pub(crate) config: FitConfig,
    pub(crate) batch_size: usize,
    pub(crate) augment: Augment,
    pub(crate) directory: Option<&'a Path>,
    /// Trains adapters instead of the weights, and merges them afterwards.
    pub(crate) lora: Option<&'a LoraConfig>,
}

/// What a run gives: the model, whatever was trained of it, and what is to be told of adapters.
pub(crate) struct Iterated<M> {
    pub(crate) fit: Fit<M>,
    pub(crate) diagnostics: BTreeMap<String, f64>,
    /// The networks before they were merged, where adapters were trained.
    pub(crate) unmerged: Option<Unmerged<M>>,
}

/// Networks that still have their adapters.
pub(crate) struct Unmerged<M> {
    pub(crate) last: Adapted<M>,
    /// After the epochs of [`Fit::snapshots`].
    pub(crate) snapshots: BTreeMap<u64, Adapted<M>>,
    pictures: Tensor<4>,
}

impl<M: Classifier> Unmerged<M> {
    /// How far merging `adapted` into `merged` moves the logits, for the report; what is not finite is left out.
    pub(crate) fn tell_change(
        &self,
        adapted: &Adapted<M>,
        merged: &M,
        diagnostics: &mut BTreeMap<String, f64>,
    ) -> Result<(), UnlearnError> {
        let change = adapted.output_change(merged, self.pictures.clone())?;
        for (name, value) in
            [("lora_merge_largest_change", change.largest), ("lora_merge_mean_change", change.mean)]
        {
            diagnostics.remove(name);
            if value.is_finite() {
                diagnostics.insert(name.into(), value);
            }
        }
        Ok(())
    }
}

/// Runs the one training loop, in a run directory where there is one. Order and augmentation come
/// from the context's seed, and so do the first weights of adapters.
pub(crate) fn iterate<M: Classifier>(
    task: &Task<'_>,
    objective: &(impl Objective<M> + Objective<Adapted<M>>),
    model: M,
    context: &mut Context<'_, M>,
) -> Result<Iterated<M>, UnlearnError> {
    match task.lora {
        None => Ok(Iterated {
            fit: run(task, objective, task.mask, model, context)?,
            diagnostics: BTreeMap::new(),
            unmerged: None,
        }),
        Some(lora) => adapt(task, objective, lora, model, context),
    }
}

/// The loop for any model made of the context's: itself, or with adapters.
fn run<M: Classifier, N: Classifier>(
    task: &Task<'_>,
    objective: &dyn Objective<N>,
    mask: Option<&MaskSet>,
    model: N,
    context: &mut Context<'_, M>,
) -> Result<Fit<N>, UnlearnError> {
    let loader = Loader::new(context.dataset, task.indices, task.batch_size)?
        .with_shuffle(context.seed)
        .with_augment(task.augment, context.seed)
        .with_workers(context.workers);
    let masked;
    let constraint: &dyn Constraint<N> = match mask {
        Some(mask) => {
            masked = mask.constraint(&model)?;
            &masked
        }
        None => &Unconstrained,
    };
    let config = FitConfig { seed: context.seed, ..task.config.clone() };
    Ok(match task.directory {
        None => fit(model, &loader, objective, constraint, &config, context.observer)?,
        Some(directory) => {
            fit_in(directory, model, &loader, objective, constraint, &config, context.observer)?
        }
    })
}

/// Trains adapters on a frozen model and merges them, under the mask where there is one.
fn adapt<M: Classifier>(
    task: &Task<'_>,
    objective: &dyn Objective<Adapted<M>>,
    lora: &LoraConfig,
    model: M,
    context: &mut Context<'_, M>,
) -> Result<Iterated<M>, UnlearnError> {
    let base = check::enter(&model, task.mask)?;
    let adapted = add_adapters(base, lora, &mut context.seed.rng(Stream::Adapters, 0, 0))?;
    let pictures = first_pictures(task, &adapted, context)?;
    adapted.check_reached(pictures.clone().slice_dim(0, 0..1))?;
    let report = adapted.trainable();

    let mask = task.mask.map(of_base).transpose()?;
    let Fit { model, steps, history, snapshots, seconds } =
        run(task, objective, mask.as_ref(), adapted, context)?;
    let kept = task.mask.map(kept);
    let merge = |adapted: &Adapted<M>| match &kept {
        Some(kept) => adapted.masked_merge(kept),
        None => adapted.merge(),
    };
    let merged = merge(&model)?;
    let unmerged = Unmerged { last: model, snapshots, pictures };
    let mut diagnostics = BTreeMap::from([
        ("lora_trainable_parameters".to_owned(), report.trainable as f64),
        ("lora_trainable_share".to_owned(), report.share()),
    ]);
    unmerged.tell_change(&unmerged.last, &merged, &mut diagnostics)?;
    let snapshots = unmerged
        .snapshots
        .iter()
        .map(|(epoch, snapshot)| Ok((*epoch, merge(snapshot)?)))
        .collect::<Result<_, UnlearnError>>()?;
    let fit = Fit { model: merged, steps, history, snapshots, seconds };
    Ok(Iterated { fit, diagnostics, unmerged: Some(unmerged) })
}

/// The first of the pictures that are trained on, unaugmented.
fn first_pictures<M: Classifier>(
    task: &Task<'_>,
    adapted: &Adapted<M>,
    context: &Context<'_, M>,
) -> Result<Tensor<4>, UnlearnError> {
    let indices: Vec<usize> = task.indices.iter().copied().take(COMPARED).collect();
    let count = indices.len();
    let samples = DatasetSamples::new(context.dataset, indices)?;
    let device = adapted.devices().into_iter().next().ok_or(LoraError::Untaped)?;
    Ok(samples.inputs(0..count, &device.without_autodiff())?)
}

/// The mask for the base inside an adapted model.
fn of_base(mask: &MaskSet) -> Result<MaskSet, UnlearnError> {
    let mut inside = MaskSet::new();
    for (path, mask) in mask.iter() {
        inside.insert(ParamPath::new(format!("base.{path}")), mask.shape().to_vec(), mask.keep().to_vec())?;
    }
    Ok(inside)
}

fn kept(mask: &MaskSet) -> Kept {
    mask.iter().map(|(path, mask)| (path.clone(), mask.keep().to_vec())).collect()
}
