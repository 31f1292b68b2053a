//! A plain Burn module of your own: two methods make it a `Classifier`, and training, every
//! unlearning method and evaluation take it. Fisher forgetting and influence unlearning differentiate
//! it one sample at a time: slow, exact, and nothing has to be written for it.
//! `cargo run --release --example custom_model`.

#![allow(clippy::print_stdout)]

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation::relu};
use serde_json::json;
use unlearn::algos::{Context, TrainingRecipe, by_name};
use unlearn::data::source::synthetic::Synthetic;
use unlearn::data::{Augment, Loader, Partition, Seed, Split, SplitRule};
use unlearn::eval::{EvalConfig, EvaluationData, Report, Row, evaluate};
use unlearn::models::Classifier;
use unlearn::train::{CrossEntropy, FitConfig, OptimizerConfig, Silent, Unconstrained, fit};

#[derive(Module, Debug)]
struct TinyNet {
    conv: Conv2d,
    head: Linear,
}

impl Classifier for TinyNet {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let hidden = relu(self.conv.forward(images * 2.0 - 1.0)); // [n, 8, 4, 4]
        self.head.forward(hidden.flatten(1, 3))
    }

    fn num_classes(&self) -> usize {
        10
    }

    // Had it dropout or a scale of its own, `settings` would tell them, so that no run goes on under others.
}

fn main() -> anyhow::Result<()> {
    let device = Device::flex();
    let data = Synthetic { train: 1000, test: 200, size: 8, ..Synthetic::default() }.generate()?;
    let split = Split::new(&data.train, SplitRule::None)?;
    let partition = Partition::new(&data.train, &split, &"class:0".parse()?, Seed(2))?;

    let initial = TinyNet {
        conv: Conv2dConfig::new([3, 8], [2, 2]).with_stride([2, 2]).init(&device),
        head: LinearConfig::new(8 * 4 * 4, 10).init(&device),
    };
    let training = TrainingRecipe {
        fit: FitConfig::new(20, 0.01, OptimizerConfig::adam_w()),
        batch_size: 20,
        augment: Augment::None,
        label_smoothing: 0.0,
    };
    let loader = Loader::new(&data.train, split.train(), training.batch_size)?.with_shuffle(Seed(1));
    let objective = CrossEntropy { label_smoothing: 0.0 };
    let original = fit(initial.valid(), &loader, &objective, &Unconstrained, &training.fit, &mut Silent)?;

    let judged =
        EvaluationData { train: &data.train, partition: &partition, validation: &[], test: &data.test };
    let mut report = Report::default();
    let evaluation = evaluate(&original.model, &judged, &EvalConfig::default())?;
    report.push(Row::new(0.0, "original", evaluation)?.with_seconds(original.seconds))?;
    for (name, parameters) in [
        ("retrain", json!({})),
        ("fisher", json!({ "samples": 100 })),
        ("influence", json!({ "samples": 100, "alpha": 20.0 })),
    ] {
        let fresh = || initial.valid();
        let (dataset, training, observer) = (&data.train, &training, &mut Silent);
        let (mask, seed, workers, directory, fresh) = (None, Seed(1), 1, None, &fresh);
        let mut context = Context { dataset, fresh, training, mask, seed, workers, directory, observer };
        let outcome = by_name(name, parameters)?.unlearn(original.model.valid(), &partition, &mut context)?;
        let evaluation = evaluate(&outcome.model, &judged, &EvalConfig::default())?;
        report.push(Row::new(0.0, name, evaluation)?.with_seconds(outcome.seconds))?;
    }
    println!("{}", report.to_markdown());
    Ok(())
}
