//! Prunes a network to 80 % sparsity, trains it, and forgets one class: the mask holds all along.
//! `cargo run --release --example prune_then_unlearn`

#![allow(clippy::print_stdout)]

use unlearn::algos::{Context, TrainingRecipe, by_name};
use unlearn::burn::tensor::Device;
use unlearn::data::source::synthetic::Synthetic;
use unlearn::data::{Augment, ForgetSpec, Loader, Partition, Seed, Split, SplitRule, Stream};
use unlearn::eval::accuracy::Accuracy;
use unlearn::eval::predict;
use unlearn::models::{ResNet, ResNetConfig, StateDict};
use unlearn::prune::iterative::{IterativeRun, RetrainLength};
use unlearn::prune::{IterativeConfig, Magnitude, PruneConfig, Rewind, iterative};
use unlearn::train::{CrossEntropy, FitConfig, OptimizerConfig, Silent};

fn main() -> anyhow::Result<()> {
    let data = Synthetic { train: 200, test: 100, size: 16, ..Synthetic::default() }.generate()?.train;
    let split = Split::new(&data, SplitRule::None)?;
    let partition = Partition::new(&data, &split, &ForgetSpec::Class(3), Seed(1))?;
    let loader = Loader::new(&data, split.train(), 32)?.with_shuffle(Seed(1));

    let architecture = ResNetConfig { blocks: [1; 4], ..ResNetConfig::resnet18(10).with_width(4) };
    let pixels = data.normalization();
    let mut rng = Seed(1).rng(Stream::Init, 0, 0);
    let initial = architecture.init(&pixels.mean, &pixels.std, &Device::flex(), &mut rng)?;

    // Train, prune four fifths of the convolution weights, go back to epoch 1, train on.
    let training = FitConfig::new(4, 0.05, OptimizerConfig::sgd(0.9, 5e-4));
    let config = IterativeConfig {
        rounds: 1,
        prune: PruneConfig::new(0.8),
        rewind: Rewind::Epoch(1),
        fit: training.clone(),
        retrain: None,
        retrain_length: RetrainLength::Remaining,
    };
    let (objective, score) = (CrossEntropy::default(), Magnitude);
    let run =
        IterativeRun { loader: &loader, objective: &objective, score: &score, mask: None, directory: None };
    let rounds = iterative(initial.clone(), &run, &config, &mut Silent)?;
    let sparse = &rounds[1];
    println!("{}\n", sparse.record.sparsity);

    let accuracy = |model: &ResNet, indices: &[usize]| -> anyhow::Result<f64> {
        let right = Accuracy::of(&predict(model, &data, indices, 64)?);
        Ok(100.0 * right.correct as f64 / right.n as f64)
    };
    let show = |name: &str, model: &ResNet| -> anyhow::Result<()> {
        let (forget, retain) = (accuracy(model, partition.forget())?, accuracy(model, partition.retain())?);
        println!("{name:10} right on the forget set {forget:5.1} %, on the retain set {retain:5.1} %");
        Ok(())
    };
    show("dense", &rounds[0].model)?;
    show("sparse", &sparse.model)?;

    let fresh = || initial.clone();
    let recipe =
        TrainingRecipe { fit: training, batch_size: 32, augment: Augment::None, label_smoothing: 0.0 };
    let mut context = Context {
        dataset: &data,
        fresh: &fresh,
        training: &recipe,
        mask: Some(&sparse.mask),
        seed: Seed(2),
        workers: 1,
        directory: None,
        observer: &mut Silent,
    };
    let method = by_name::<ResNet>("finetune", serde_json::json!({"epochs": 3}))?;
    let forgotten = method.unlearn(sparse.model.clone(), &partition, &mut context)?.model;
    show("finetuned", &forgotten)?;
    // Cut again by the mask, it would be another network if one pruned weight had moved.
    let again = sparse.mask.apply(&forgotten)?;
    anyhow::ensure!(StateDict::of(&again)? == StateDict::of(&forgotten)?, "the mask slipped");
    println!("the mask held: {:.0} % of the convolution weights are zero", 100.0 * sparse.mask.sparsity());
    Ok(())
}
