//! A network with adapters.

use std::collections::BTreeSet;
use std::sync::Arc;

use burn::Tensor;
use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::Device;
use rand::Rng;
use serde_json::{Map, Value};
use unlearn_curvature::tape::{Plain, Tape, Var};
use unlearn_curvature::{ParamInfo, parameters};

use super::adapter::Place;
use super::freeze::Frozen;
use super::tape::Adapting;
use super::target::{Chosen, Unmatched};
use super::{ConvAdapter, LinearAdapter, LoraConfig, LoraError, TrainableReport};
use crate::classifier::{Classifier, Taped, forward_plain, forward_taped};

/// A network whose layers are frozen, with trainable branches beside some of them.
///
/// A Burn module and a [`Classifier`] like any other: what trains, prunes or measures a classifier does so here.
/// Parameters are named `base.…` (the network's own), `lora.LAYER.a` and `lora.LAYER.b`.
///
/// # Contract
/// Training moves the branches and the modules named in
/// [`modules_to_save`](LoraConfig::modules_to_save), nothing else: all other weights and statistics of the base keep
/// their bits.
#[derive(Debug, Clone)]
pub struct Adapted<M> {
    pub(super) base: M,
    pub(super) convs: Vec<ConvAdapter>,
    pub(super) linears: Vec<LinearAdapter>,
    pub(super) plan: Arc<Plan>,
}

/// What was decided when the adapters were added.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) config: LoraConfig,
    pub(super) full: BTreeSet<String>,
    pub(super) frozen: Frozen,
    /// The description in the folder that they were read from.
    pub(super) described: Map<String, Value>,
    /// Parameters of the base, trained or frozen.
    base_parameters: usize,
}

/// Adds new adapters to `base` as `config` says: A drawn from `rng` in the order in which the module is walked, B zero.
/// The result shares nothing with `base` and lies on its device.
///
/// # Errors
/// [`LoraError::Config`], [`LoraError::NoMatch`], [`LoraError::Rank`], and [`LoraError::Untaped`] for a model that has
/// no forward pass on a tape.
pub fn add_adapters<M: Classifier>(
    base: M,
    config: &LoraConfig,
    rng: &mut impl Rng,
) -> Result<Adapted<M>, LoraError> {
    let infos = parameters(&base);
    let chosen = choose(&infos, config)?;
    let (rank, scale) = (config.rank, config.scale());
    assemble(&base, config, &chosen, &infos, |target, dropout, device| {
        if target.weight.shape.len() == 4 {
            Branch::Conv(ConvAdapter::init(target, rank, scale, dropout, device, rng))
        } else {
            Branch::Linear(LinearAdapter::init(target, rank, scale, dropout, device, rng))
        }
    })
}

/// Checks `config` against a model without adding anything.
///
/// # Errors
/// As [`add_adapters`].
pub fn check<M: Classifier>(model: &M, config: &LoraConfig) -> Result<(), LoraError> {
    choose(&parameters(model), config)?;
    if model.taped().is_some() { Ok(()) } else { Err(LoraError::Untaped) }
}

fn choose(infos: &[ParamInfo], config: &LoraConfig) -> Result<Chosen, LoraError> {
    config.validate()?;
    let chosen = Chosen::of(infos, config, Unmatched::Refuse)?;
    for target in &chosen.targets {
        let matrix = matrix(&target.weight);
        if config.rank > matrix[0].min(matrix[1]) {
            return Err(LoraError::Rank { rank: config.rank, module: target.module.clone(), matrix });
        }
    }
    Ok(chosen)
}

/// Outputs of a weight, and inputs of one output.
fn matrix(weight: &ParamInfo) -> [usize; 2] {
    match weight.shape[..] {
        [inputs, outputs] => [outputs, inputs],
        _ => [weight.shape[0], weight.shape[1..].iter().product()],
    }
}

/// One adapter of either kind.
pub(super) enum Branch {
    Conv(ConvAdapter),
    Linear(LinearAdapter),
}

/// A frozen copy of `base` with a branch for each target, made by `branch`.
pub(super) fn assemble<M: Classifier>(
    base: &M,
    config: &LoraConfig,
    chosen: &Chosen,
    infos: &[ParamInfo],
    mut branch: impl FnMut(&super::target::Target, Option<Dropout>, &Device) -> Branch,
) -> Result<Adapted<M>, LoraError> {
    if base.taped().is_none() {
        return Err(LoraError::Untaped);
    }
    let devices = base.devices();
    let trains = devices.iter().any(Device::is_autodiff);
    let device = devices.into_iter().next().ok_or(LoraError::Untaped)?.without_autodiff();
    let (frozen_base, frozen) = Frozen::freeze(base, &chosen.full_paths);
    let (mut convs, mut linears) = (Vec::new(), Vec::new());
    for target in &chosen.targets {
        let dropout = (config.dropout > 0.0).then(|| DropoutConfig::new(config.dropout).init());
        match branch(target, dropout, &device) {
            Branch::Conv(adapter) => convs.push(adapter),
            Branch::Linear(adapter) => linears.push(adapter),
        }
    }
    let size = |info: &ParamInfo| info.shape.iter().product::<usize>();
    let plan = Plan {
        config: config.clone(),
        full: chosen.full.clone(),
        frozen,
        described: Map::new(),
        base_parameters: infos.iter().filter(|info| is_parameter(info)).map(size).sum(),
    };
    let adapted = Adapted { base: frozen_base, convs, linears, plan: Arc::new(plan) }.valid();
    Ok(if trains { adapted.train() } else { adapted })
}

/// Whether it is learned, now or before it was frozen: running statistics and constants of the data are not.
fn is_parameter(info: &ParamInfo) -> bool {
    let given = |part: &str| matches!(part, "normalize" | "running_mean" | "running_var");
    info.trainable || !info.path.as_str().split('.').any(given)
}

impl<M: Classifier> Adapted<M> {
    /// The frozen network, without the branches.
    pub fn base(&self) -> &M {
        &self.base
    }

    /// A copy of the base on a plain device as it was before the adapters came: it trains again in full. Modules that
    /// were trained in full keep what they have learned.
    pub fn to_base(&self) -> M {
        self.plan.frozen.thaw(&self.base)
    }

    /// The branches of convolutions, in the order of the module's walk.
    pub fn convs(&self) -> &[ConvAdapter] {
        &self.convs
    }

    /// The branches of linear layers, in the order of the module's walk.
    pub fn linears(&self) -> &[LinearAdapter] {
        &self.linears
    }

    /// The names of the layers that have an adapter, convolutions first.
    pub fn modules(&self) -> impl Iterator<Item = &str> {
        self.places().map(|place| place.module.as_str())
    }

    /// What the adapters were made by.
    pub fn config(&self) -> &LoraConfig {
        &self.plan.config
    }

    /// How many parameters train.
    pub fn trainable(&self) -> TrainableReport {
        let size = |info: &ParamInfo| info.shape.iter().product::<usize>();
        let infos = parameters(self);
        let adapters = infos.iter().filter(|info| !info.path.as_str().starts_with("base."));
        TrainableReport {
            trainable: infos.iter().filter(|info| info.trainable).map(size).sum(),
            total: self.plan.base_parameters + adapters.map(size).sum::<usize>(),
        }
    }

    /// Checks that the forward pass of `images` `[n, channels, height, width]` goes through every adapted layer. One
    /// that it does not reach would never learn.
    ///
    /// # Errors
    /// [`LoraError::Unreached`].
    pub fn check_reached(&self, images: Tensor<4>) -> Result<(), LoraError> {
        let mut plain = Plain;
        let tape: &mut dyn Tape = &mut plain;
        let images = tape.constant(images);
        let (_, reached) = self.run(images, tape);
        let missed = self.places().filter(|place| !reached.contains(&place.id));
        let modules: Vec<String> = missed.map(|place| format!("`{}`", place.module)).collect();
        if modules.is_empty() { Ok(()) } else { Err(LoraError::Unreached { modules }) }
    }

    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        let convs = self.convs.iter().map(|adapter| &adapter.place);
        convs.chain(self.linears.iter().map(|adapter| &adapter.place))
    }

    /// The logits, and the identifiers of the weights whose branch has run.
    fn run(&self, images: Var<4>, tape: &mut dyn Tape) -> (Var<2>, BTreeSet<u64>) {
        let mut adapting = Adapting {
            inner: tape,
            convs: self.convs.iter().map(|adapter| (adapter.place.id, adapter)).collect(),
            linears: self.linears.iter().map(|adapter| (adapter.place.id, adapter)).collect(),
            reached: BTreeSet::new(),
        };
        let logits = forward_taped(&self.base, images, &mut adapting);
        (logits, adapting.reached)
    }
}

impl<M: Classifier> Taped for Adapted<M> {
    fn forward_on(&self, images: Var<4>, tape: &mut dyn Tape) -> Var<2> {
        self.run(images, tape).0
    }
}

impl<M: Classifier> Classifier for Adapted<M> {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        forward_plain(self, images)
    }

    fn num_classes(&self) -> usize {
        self.base.num_classes()
    }

    fn taped(&self) -> Option<&dyn Taped> {
        Some(self)
    }

    fn settings(&self) -> String {
        format!("{:?} on a base with {:?}", self.plan.config, self.base.settings())
    }
}
