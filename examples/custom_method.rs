//! A method of your own in one file: random labels (the model is taught nonsense about what it is
//! to forget), and the suite that says whether it keeps the contract of `Unlearn`.
#![allow(clippy::print_stdout)]

use rand::RngExt;
use unlearn::algos::testing::Suite;
use unlearn::algos::{Context, Outcome, Reads, TrainingRecipe, Unlearn, UnlearnError};
use unlearn::burn::tensor::{Device, Tensor, TensorData};
use unlearn::data::source::synthetic::Synthetic;
use unlearn::data::{Augment, Batch, ForgetSpec, Loader, Partition, Seed, Split, SplitRule, Stream};
use unlearn::models::{Classifier, ResNet, ResNetConfig};
use unlearn::prune::{Magnitude, PruneConfig, one_shot};
use unlearn::train::{
    Constraint, FitConfig, Loss, Moment, Objective, OptimizerConfig, Unconstrained, cross_entropy, fit,
};

/// The hyperparameters are the fields.
struct RandomLabels(FitConfig);

/// The loss: cross-entropy with labels that are drawn anew each epoch, from the seed alone.
struct Nonsense(Seed);

impl<M: Classifier> Objective<M> for Nonsense {
    fn loss(&self, model: &M, batch: &Batch, at: Moment) -> Loss {
        let draw = |&index: &usize| {
            self.0.rng(Stream::Labels, at.epoch, index as u64).random_range(0..model.num_classes()) as i32
        };
        let labels: Vec<i32> = batch.indices.iter().map(draw).collect();
        let targets = Tensor::from_data(TensorData::new(labels, [batch.len()]), &batch.images.device());
        let logits = model.forward(batch.images.clone());
        Loss { value: cross_entropy(logits.clone(), targets, 0.0).mean(), logits }
    }
}

impl<M: Classifier> Unlearn<M> for RandomLabels {
    fn name(&self) -> &'static str {
        "random-labels"
    }

    fn reads(&self) -> Reads {
        Reads::Forget
    }

    fn unlearn(
        &self,
        model: M,
        on: &Partition,
        with: &mut Context<'_, M>,
    ) -> Result<Outcome<M>, UnlearnError> {
        let loader = Loader::new(with.dataset, on.forget(), 16)?.with_shuffle(with.seed);
        let constraint: Box<dyn Constraint<M>> = match with.mask {
            Some(mask) => Box::new(mask.constraint(&model)?),
            None => Box::new(Unconstrained),
        };
        let done = fit(model, &loader, &Nonsense(with.seed), &*constraint, &self.0, with.observer)?;
        Ok(Outcome::new(done.model, done.seconds, with.mask))
    }
}

fn main() -> anyhow::Result<()> {
    let data = Synthetic { train: 60, test: 10, size: 8, ..Synthetic::default() }.generate()?.train;
    let split = Split::new(&data, SplitRule::None)?;
    let partition = Partition::new(&data, &split, &"random:20%".parse::<ForgetSpec>()?, Seed(1))?;
    let config = ResNetConfig { blocks: [1; 4], ..ResNetConfig::resnet18(10).with_width(4) };
    let (half, mut rng) = ([0.5; 3], Seed(1).rng(Stream::Init, 0, 0));
    let model = config.init(&half, &half, &Device::flex(), &mut rng)?;
    let mask = one_shot(&model, &Magnitude, &PruneConfig::new(0.8), None)?;
    let method = RandomLabels(FitConfig::new(2, 0.01, OptimizerConfig::sgd(0.9, 5e-4)));
    let (fit, augment) = (method.0.clone(), Augment::None);
    let training = TrainingRecipe { fit, batch_size: 16, augment, label_smoothing: 0.0 };
    let fresh = || -> ResNet { model.clone() };
    let (dataset, partition) = (&data, &partition);
    let suite = Suite { fresh: &fresh, model: fresh(), dataset, partition, training, mask, dense: false };
    let broken = suite.violations(&method);
    anyhow::ensure!(broken.is_empty(), "the method breaks its contract: {broken:#?}");
    println!("random-labels keeps the contract of every unlearning method");
    Ok(())
}
