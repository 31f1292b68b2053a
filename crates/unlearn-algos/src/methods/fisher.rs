//! Fisher forgetting (FF): drowns what the retain set does not need in noise.
//!
//! # What it does
//! Adds Gaussian noise to every weight, the more the less the retain set cares about it, as its Fisher
//! information says. Nothing is trained.
//!
//! # Needs
//! The retain set (its curvature). The forget set is never read; where a whole class is forgotten, its
//! number is used.
//!
//! # Definition
//! θ ← μ + σ ⊙ N(0, I) with σ_j² = α / (F_j + ε) (Golatkar et al. 2020, §5, with the exponent of the
//! published code), F the diagonal of the Fisher information over the retain set with labels from the
//! model itself, F_j = (1/N) Σ_n Σ_c p_nc (∂ log p_nc/∂θ_j)². μ = θ, but zero for the head's row and bias
//! of a class that is forgotten as a whole. 1/(F_j + ε) is at most `clamp` (`head_clamp` in the head), is
//! averaged over the inputs of each output, and is multiplied by ten in the head, in norms and in biases,
//! all as published.
//!
//! # Hyperparameters
//! | name | default | meaning |
//! |---|---|---|
//! | `alpha` | 3e-8 | α; 1e-9 to 1e-6 is usual, search by factors |
//! | `samples` | all | retain samples for the Fisher information, drawn from the seed |
//! | `epsilon` | 1e-8 | ε |
//! | `clamp`, `head_clamp` | 1e3, 1e2 | largest 1/(F + ε) |
//! | `head_factor`, `vector_factor` | 10, 10 | factors of σ² |
//! | `share_inputs` | true | average σ² over the inputs of an output |
//! | `class_row_variance` | 1e-3 | σ² of a forgotten class's row; `"none"` treats it as any other |
//! | `reference` | none | `fisher_new` or `fisher`: the published code |
//! | `engine` | `auto` | `tape`, `autodiff`, or the first where the model has a tape |
//!
//! # Diagnostics
//! `samples`: how many the Fisher information was taken over. `fisher_trace`: its sum over all parameters. `noise_rms`: root of
//! the mean of σ², what a weight moves by.
//!
//! # Cost
//! With `engine = "tape"` (models written on a tape; all of ours) (1 + 2(k − 1))/3 training epochs by operation
//! counts for k classes: about six for ten (`fisher_new`: about seven; `fisher`: about one). With
//! `engine = "autodiff"`, for any other model, a forward and a backward pass of batch size 1 for each sample and class:
//! about a hundred epochs. Use `samples` to bound it. A request to stop is heard between batches.
//!
//! # Differences from the published code
//! `fisher_new` squares the mean gradient of a batch of 32 and weighs it with the mean probability, which
//! is no Fisher information; when 4,500 of ten classes' samples (450 of a hundred's) are forgotten at
//! random it zeroes the row of the *last* class; and pruned weights, whose information is zero, raise the
//! noise of their neighbours through the average. Here gradients are per sample, a row is zeroed only when
//! a class is forgotten, pruned weights have no part in estimate, average or noise, and the head is the
//! last linear layer instead of any tensor as long as there are classes. `reference = "fisher_new"` brings
//! all of it back; `reference = "fisher"` is the older code, noise min(√(α/F), 1e-3) with the empirical
//! information at the true labels, tenfold where the last dimension is 10 (it was run with α = 1e-6: set it).
//! α does not carry over: per-sample information is one to two orders smaller on a fitted model.
//!
//! # Example
//! ```toml
//! [[method]]
//! name = "fisher"
//! alpha = 3e-8
//! samples = 1000
//! ```
//!
//! # References
//! Golatkar, Achille, Soatto: Eternal Sunshine of the Spotless Net, CVPR 2020, <https://arxiv.org/abs/1911.04933>.
//! Jia et al.: Model Sparsity Can Simplify Machine Unlearning, NeurIPS 2023, <https://arxiv.org/abs/2304.04934>.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use unlearn_curvature::oracle::Samples;
use unlearn_curvature::{Engine, ParamInfo, ParamPath, ParamTree, parameters};
use unlearn_data::{Partition, Seed, Stream};
use unlearn_models::Classifier;

use crate::check;
use crate::curvature::{Curvature, Wanted};
use crate::noise::Normal;
use crate::samples::DatasetSamples;
use crate::variance::{VarianceRule, head, last_dimension, output_of, outputs};
use crate::{Context, Outcome, Reads, Unlearn, UnlearnError};

/// Which published code is reproduced, defects included; see the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FisherReference {
    /// What the tables call FF.
    FisherNew,
    /// The older code.
    Fisher,
}

/// Fisher forgetting; the page is that of this [module](self) and of `unlearn methods fisher`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fisher {
    /// α, above zero.
    pub alpha: f64,
    /// Most retain samples used, at least 1; absent: all.
    pub samples: Option<usize>,
    /// ε, above zero.
    pub epsilon: f64,
    /// Largest 1/(F + ε), above zero.
    pub clamp: f64,
    /// Largest 1/(F + ε) of the head, above zero.
    pub head_clamp: f64,
    /// Factor of σ² in the head, above zero.
    pub head_factor: f64,
    /// Factor of σ² in norms and biases, above zero.
    pub vector_factor: f64,
    /// Whether σ² is averaged over the inputs of each output.
    pub share_inputs: bool,
    /// σ² of the head's row and bias of a forgotten class, whose mean is zero, above zero; absent: no
    /// row is special (`"none"` in a recipe).
    #[serde(deserialize_with = "crate::number_or_none::deserialize")]
    pub class_row_variance: Option<f64>,
    /// The published code instead of the definition; of the fields above only `alpha` and `samples`
    /// then count.
    pub reference: Option<FisherReference>,
    /// How gradients are come by; no result depends on it beyond rounding.
    pub engine: Engine,
}

impl Default for Fisher {
    fn default() -> Self {
        let VarianceRule { alpha, epsilon, clamp, head_clamp, head_factor, vector_factor, share_inputs } =
            VarianceRule::published(3e-8);
        Self {
            alpha,
            samples: None,
            epsilon,
            clamp,
            head_clamp,
            head_factor,
            vector_factor,
            share_inputs,
            class_row_variance: Some(1e-3),
            reference: None,
            engine: Engine::Auto,
        }
    }
}

const NAME: &str = "fisher";

/// Samples a batch in the published `fisher_new`.
const REFERENCE_BATCH: usize = 32;
/// What the published `fisher` adds to every gradient of log p.
const REFERENCE_EPSILON: f64 = 1e-8;

impl Fisher {
    fn check(&self) -> Result<(), UnlearnError> {
        check::positive(NAME, "alpha", self.alpha, "1e-9 to 1e-6 is usual")?;
        check::positive(NAME, "epsilon", self.epsilon, "1e-8 is usual")?;
        check::positive(NAME, "clamp", self.clamp, "1e3 is usual")?;
        check::positive(NAME, "head_clamp", self.head_clamp, "1e2 is usual")?;
        check::positive(NAME, "head_factor", self.head_factor, "use 1 for none")?;
        check::positive(NAME, "vector_factor", self.vector_factor, "use 1 for none")?;
        if let Some(variance) = self.class_row_variance {
            check::positive(NAME, "class_row_variance", variance, "use \"none\" for no special row")?;
        }
        let some = self.samples != Some(0);
        check::require(some, NAME, "samples", 0, "at least 1", "leave it out for all retain samples")
    }

    fn rule(&self) -> VarianceRule {
        if self.reference.is_some() {
            return VarianceRule::published(self.alpha);
        }
        VarianceRule {
            alpha: self.alpha,
            epsilon: self.epsilon,
            clamp: self.clamp,
            head_clamp: self.head_clamp,
            head_factor: self.head_factor,
            vector_factor: self.vector_factor,
            share_inputs: self.share_inputs,
        }
    }

    /// The class whose row is replaced, and the variance it gets.
    fn class_row(&self, partition: &Partition, classes: usize) -> Option<(usize, f64)> {
        match self.reference {
            None => partition.class().zip(self.class_row_variance),
            // By the number of forgotten samples; without a class the published index is −1, the last.
            Some(FisherReference::FisherNew) => {
                let counts = [(10, 4500), (100, 450)];
                let fits = counts.contains(&(classes, partition.forget().len()));
                fits.then(|| (partition.class().unwrap_or(classes - 1), 1e-3))
            }
            Some(FisherReference::Fisher) => None,
        }
    }
}

impl<M: Classifier> Unlearn<M> for Fisher {
    fn name(&self) -> &'static str {
        NAME
    }

    fn reads(&self) -> Reads {
        Reads::Retain
    }

    fn is_reference(&self) -> bool {
        self.reference.is_some()
    }

    fn hyperparameters(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn validate(&self) -> Result<(), UnlearnError> {
        self.check()
    }

    fn unlearn(
        &self,
        model: M,
        partition: &Partition,
        context: &mut Context<'_, M>,
    ) -> Result<Outcome<M>, UnlearnError> {
        self.check()?;
        let started = Instant::now();
        let model = check::enter(&model, context.mask)?;
        let classes = model.num_classes();
        let samples = DatasetSamples::drawn(context.dataset, partition.retain(), self.samples, context.seed)?;
        let wanted = match self.reference {
            None => Wanted::Exact,
            Some(FisherReference::FisherNew) => Wanted::GroupMean(REFERENCE_BATCH),
            Some(FisherReference::Fisher) => Wanted::Shifted(REFERENCE_EPSILON),
        };
        let (mask, workers) = (context.mask, context.workers);
        let curvature = Curvature::new(&model, self.engine, mask, workers, &mut *context.observer);
        let fisher = curvature.diagonal(wanted, &samples)?.mean();

        let all: Vec<ParamInfo> = parameters(&model).into_iter().filter(|p| p.trainable).collect();
        let heads = head(&all, classes);
        let is_head = |p: &ParamInfo| match self.reference {
            None => heads.contains(&p.path),
            Some(_) => outputs(p) == classes,
        };
        let mut variances = match self.reference {
            Some(FisherReference::Fisher) => older_variances(&fisher, &all, self.alpha)?,
            // The published code averages over pruned entries too.
            Some(FisherReference::FisherNew) => self.rule().variances(&fisher, &all, is_head, None)?,
            None => self.rule().variances(&fisher, &all, is_head, context.mask)?,
        };
        let mut means = host(&ParamTree::of_parameters(&model))?;
        if let Some((class, variance)) = self.class_row(partition, classes) {
            if !all.iter().any(is_head) {
                tracing::warn!(class, "no linear layer gives one output a class: the class keeps its row");
            }
            for p in all.iter().filter(|p| is_head(p)) {
                let (Some(mean), Some(own)) = (means.get_mut(&p.path), variances.get_mut(&p.path)) else {
                    continue;
                };
                for index in (0..mean.len()).filter(|&index| output_of(p, index) == class) {
                    mean[index] = 0.0;
                    own[index] = variance;
                }
            }
        }
        let noisy = perturb(&means, &variances, &all, context.seed, &model)?;
        let forgotten = check::enter(&noisy.write_into(&model)?, context.mask)?;
        check::finite(NAME, &forgotten)?;

        let mut outcome = Outcome::new(forgotten, started.elapsed().as_secs_f64(), context.mask);
        let (count, sum) = variances.values().flatten().fold((0_usize, 0.0), |(n, s), v| (n + 1, s + v));
        outcome.diagnostics.insert("samples".into(), samples.len() as f64);
        outcome.diagnostics.insert("noise_rms".into(), (sum / count.max(1) as f64).sqrt());
        outcome.diagnostics.insert("fisher_trace".into(), host(&fisher)?.values().flatten().sum());
        Ok(outcome)
    }
}

/// σ² of the published `fisher`: min(√(α/F), 1e-3), tenfold where the last dimension is 10.
fn older_variances(
    fisher: &ParamTree,
    all: &[ParamInfo],
    alpha: f64,
) -> Result<BTreeMap<ParamPath, Vec<f64>>, UnlearnError> {
    let mut variances = BTreeMap::new();
    for p in all {
        let Some(leaf) = fisher.get(&p.path) else { continue };
        let factor = if last_dimension(p) == 10 { 10.0 } else { 1.0 };
        let deviation = |f: f32| factor * (alpha / f64::from(f)).sqrt().min(1e-3);
        variances.insert(p.path.clone(), leaf.to_vec()?.into_iter().map(|f| deviation(f).powi(2)).collect());
    }
    Ok(variances)
}

/// means + √variances ⊙ N(0, I), each parameter from a stream of its own.
fn perturb<M: Classifier>(
    means: &BTreeMap<ParamPath, Vec<f64>>,
    variances: &BTreeMap<ParamPath, Vec<f64>>,
    all: &[ParamInfo],
    seed: Seed,
    model: &M,
) -> Result<ParamTree, UnlearnError> {
    let mut tree = ParamTree::new();
    let Some(device) = model.devices().into_iter().next() else { return Ok(tree) };
    for (number, (path, mean)) in means.iter().enumerate() {
        let (Some(variance), Some(p)) = (variances.get(path), all.iter().find(|p| p.path == *path)) else {
            continue;
        };
        let mut normal = Normal::new(seed.rng(Stream::Noise, 0, number as u64));
        let values = mean.iter().zip(variance).map(|(m, v)| (m + v.sqrt() * normal.draw()) as f32).collect();
        tree.insert_host(path.clone(), p.shape.clone(), values, &device)?;
    }
    Ok(tree)
}

fn host(tree: &ParamTree) -> Result<BTreeMap<ParamPath, Vec<f64>>, UnlearnError> {
    tree.iter()
        .map(|(path, leaf)| Ok((path.clone(), leaf.to_vec()?.into_iter().map(f64::from).collect())))
        .collect()
}
