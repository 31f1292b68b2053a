//! Forgets one class of the built-in pictures by four methods and prints how close each comes to
//! retraining. `cargo run --release --example forget_class`
#![allow(clippy::print_stdout)]

use serde_json::json;
use unlearn::algos::{Context, TrainingRecipe, by_name};
use unlearn::burn::tensor::Device;
use unlearn::data::source::synthetic::Synthetic;
use unlearn::data::{Augment, ForgetSpec, Loader, Partition, Seed, Split, SplitRule, Stream};
use unlearn::eval::{EvalConfig, EvaluationData, Feature, Metric, evaluate};
use unlearn::models::{ResNet, ResNetConfig};
use unlearn::train::{CrossEntropy, FitConfig, OptimizerConfig, Silent, Unconstrained, fit};

fn main() -> anyhow::Result<()> {
    // Data, and what is to be forgotten: every picture of class 3.
    let data = Synthetic { train: 300, test: 100, size: 16, ..Synthetic::default() }.generate()?;
    let split = Split::new(&data.train, SplitRule::None)?;
    let partition = Partition::new(&data.train, &split, &ForgetSpec::Class(3), Seed(1))?;

    // A small residual network, trained on everything.
    let device = Device::flex();
    let config = ResNetConfig { blocks: [1; 4], ..ResNetConfig::resnet18(10).with_width(4) };
    let pixels = data.train.normalization();
    let mut rng = Seed(1).rng(Stream::Init, 0, 0);
    let initial = config.init(&pixels.mean, &pixels.std, &device, &mut rng)?;
    let fresh = || -> ResNet { initial.clone() };
    let training = TrainingRecipe {
        fit: FitConfig::new(8, 0.05, OptimizerConfig::sgd(0.9, 5e-4)),
        batch_size: 32,
        augment: Augment::None,
        label_smoothing: 0.0,
    };
    let loader = Loader::new(&data.train, split.train(), 32)?.with_shuffle(Seed(1));
    let original =
        fit(fresh(), &loader, &CrossEntropy::default(), &Unconstrained, &training.fit, &mut Silent)?.model;

    let judged = EvaluationData {
        train: &data.train,
        partition: &partition,
        validation: split.validation(),
        test: &data.test,
    };
    let config = EvalConfig { attacks: vec![Feature::Confidence], ..EvalConfig::default() };
    println!("{:16} {:>6} {:>6} {:>6} {:>6} {:>8}", "method", "UA", "RA", "TA", "MIA", "seconds");
    let show = |name: &str, model: &ResNet, seconds: f64| -> anyhow::Result<()> {
        let e = evaluate(model, &judged, &config)?;
        let cell = |m: &Metric| m.value().map_or_else(|| "-".into(), |v| format!("{v:.1}"));
        let (ua, ra, ta) = (&e.unlearning_accuracy, &e.retain_accuracy, &e.test_accuracy);
        println!(
            "{name:16} {:>6} {:>6} {:>6} {:>6} {seconds:>8.1}",
            cell(ua),
            cell(ra),
            cell(ta),
            cell(e.mia())
        );
        Ok(())
    };
    show("original", &original, 0.0)?;
    for (name, parameters) in [
        ("retrain", json!({})),
        ("finetune", json!({"epochs": 3})),
        ("gradient-ascent", json!({"epochs": 3, "learning_rate": 4e-3})),
        ("influence", json!({"samples": 50, "alpha": 1.0})),
    ] {
        let mut context = Context {
            dataset: &data.train,
            fresh: &fresh,
            training: &training,
            mask: None,
            seed: Seed(2),
            workers: 2,
            directory: None,
            observer: &mut Silent,
        };
        let method = by_name::<ResNet>(name, parameters)?;
        let outcome = method.unlearn(original.clone(), &partition, &mut context)?;
        show(name, &outcome.model, outcome.seconds)?;
    }
    Ok(())
}
