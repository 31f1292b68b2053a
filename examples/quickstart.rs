//! Train a small ResNet on built-in pictures, let it forget a class in three ways, and compare with
//! retraining. Takes seconds: `cargo run --release --example quickstart`.

#![allow(clippy::print_stdout)]

use serde_json::json;
use unlearn::algos::{Context, TrainingRecipe, by_name};
use unlearn::burn::module::Module;
use unlearn::burn::tensor::Device;
use unlearn::data::source::synthetic::Synthetic;
use unlearn::data::{Augment, Loader, Partition, Seed, Split, SplitRule, Stream};
use unlearn::eval::{EvalConfig, EvaluationData, Report, Row, evaluate};
use unlearn::models::ResNetConfig;
use unlearn::train::{
    CrossEntropy, FitConfig, OptimizerConfig, Schedule, Silent, Unconstrained, fit, keep_freed_memory,
};

fn main() -> anyhow::Result<()> {
    // Training is faster on the CPU of a Linux machine when memory is kept; no result changes.
    let _ = keep_freed_memory();
    // Data: which samples train, which validate, and which of the training samples are to go.
    let data = Synthetic { train: 1000, test: 200, size: 16, ..Synthetic::default() }.generate()?;
    let split = Split::new(&data.train, SplitRule::Stratified { fraction: 0.1, seed: Seed(1) })?;
    let partition = Partition::new(&data.train, &split, &"class:0".parse()?, Seed(2))?;

    // The original model learns from all training samples.
    let normalization = data.train.normalization();
    let initial = ResNetConfig::resnet18(data.train.num_classes()).with_width(4).init(
        &normalization.mean,
        &normalization.std,
        &Device::flex(),
        &mut Seed(1).rng(Stream::Init, 0, 0),
    )?;
    let adam = FitConfig::new(8, 0.01, OptimizerConfig::adam_w());
    let training = TrainingRecipe {
        fit: FitConfig { schedule: Schedule::Cosine, ..adam },
        batch_size: 32,
        augment: Augment::None,
        label_smoothing: 0.0,
    };
    let loader = Loader::new(&data.train, split.train(), training.batch_size)?.with_shuffle(Seed(1));
    let objective = CrossEntropy { label_smoothing: 0.0 };
    let original = fit(initial.valid(), &loader, &objective, &Unconstrained, &training.fit, &mut Silent)?;

    // Every model is judged on the same samples; methods see none of the test data.
    let judged = EvaluationData {
        train: &data.train,
        partition: &partition,
        validation: split.validation(),
        test: &data.test,
    };
    let config = EvalConfig::default();
    let mut report = Report::default();
    let evaluation = evaluate(&original.model, &judged, &config)?;
    report.push(Row::new(0.0, "original", evaluation)?.with_seconds(original.seconds))?;
    for (name, parameters) in [
        ("retrain", json!({})),
        ("finetune", json!({ "epochs": 2, "learning_rate": 0.01 })),
        ("gradient-ascent", json!({ "learning_rate": 1e-3 })),
    ] {
        let mut context = Context {
            dataset: &data.train,
            fresh: &|| initial.valid(),
            training: &training,
            mask: None,
            seed: Seed(1),
            workers: 1,
            directory: None,
            observer: &mut Silent,
        };
        let outcome = by_name(name, parameters)?.unlearn(original.model.valid(), &partition, &mut context)?;
        let evaluation = evaluate(&outcome.model, &judged, &config)?;
        report.push(Row::new(0.0, name, evaluation)?.with_seconds(outcome.seconds))?;
    }
    println!("{}", report.to_markdown());
    Ok(())
}
