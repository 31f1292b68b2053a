//! How far are the cheap estimators of a Fisher diagonal from the exact one, on a trained network?
//!
//! Without arguments: a small network trained here on built-in pictures, in seconds. With the model of a run
//! and a folder of pictures (ResNet-18 at the width given):
//! `cargo run --release --example estimator_accuracy -- runs/class0/base/model.safetensors DIR 16`.

#![allow(clippy::print_stdout)]

use std::time::Instant;

use unlearn::burn::tensor::Device;
use unlearn::curvature::oracle::TensorSamples;
use unlearn::curvature::tape::{Tape, Var};
use unlearn::curvature::{FisherDiag, ParamTree};
use unlearn::data::source::synthetic::Synthetic;
use unlearn::data::source::{self, SourceKind};
use unlearn::data::{Dataset, Loader, Seed, Stream};
use unlearn::models::{ResNet, ResNetConfig, Taped, checkpoint};
use unlearn::train::{CrossEntropy, FitConfig, OptimizerConfig, Silent, Unconstrained, fit};

fn forward(model: &ResNet, images: Var<4>, tape: &mut dyn Tape) -> Var<2> {
    model.forward_on(images, tape)
}

/// Pictures to estimate over.
const PICTURES: usize = 1000;

fn initial(data: &Dataset, width: usize) -> anyhow::Result<ResNet> {
    let normalization = data.normalization();
    let mut rng = Seed(1).rng(Stream::Init, 0, 0);
    let config = ResNetConfig::resnet18(data.num_classes()).with_width(width);
    Ok(config.init(&normalization.mean, &normalization.std, &Device::flex(), &mut rng)?)
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (model, data, pictures) = if let [weights, folder, width] = arguments.as_slice() {
        let data = source::open(SourceKind::Auto, Some(folder.as_ref()))?.train;
        let model = checkpoint::read(weights)?.state.load_into(initial(&data, width.parse()?)?)?;
        (model, data, PICTURES)
    } else {
        let data = Synthetic { train: 400, test: 20, size: 16, ..Synthetic::default() }.generate()?.train;
        let everything: Vec<usize> = (0..data.len()).collect();
        let loader = Loader::new(&data, &everything, 32)?.with_shuffle(Seed(1));
        let objective = CrossEntropy { label_smoothing: 0.0 };
        let config = FitConfig::new(4, 0.01, OptimizerConfig::adam_w());
        let trained = fit(initial(&data, 4)?, &loader, &objective, &Unconstrained, &config, &mut Silent)?;
        (trained.model, data, 64)
    };
    // Evenly over the set: folders are sorted by class.
    let indices: Vec<usize> = (0..pictures).map(|i| i * data.len() / pictures).collect();
    let labels = indices.iter().filter_map(|&i| data.label(i)).collect();
    let loader = Loader::new(&data, &indices, pictures)?;
    let Some(batch) = loader.epoch(0).next() else { anyhow::bail!("no pictures") };
    let samples = TensorSamples::new(batch.to_device(&Device::flex()).images, labels)?;

    let size = |tree: &ParamTree| tree.dot(tree).map(f64::sqrt);
    let began = Instant::now();
    let exact = FisherDiag::exact().run(&model, forward, &samples)?.sum;
    println!("exact over {pictures} pictures: {:.1?}", began.elapsed());
    for run in [
        FisherDiag::hybrid(1, 1),
        FisherDiag::hybrid(2, 1),
        FisherDiag::sign(1),
        FisherDiag::sign(4),
        FisherDiag::sampled(1),
        FisherDiag::sampled(10),
        FisherDiag::empirical(),
    ] {
        let began = Instant::now();
        let estimate = run.run(&model, forward, &samples)?.sum;
        let error = size(&estimate.sub(&exact)?)? / size(&exact)?;
        println!("{:?}: relative error {error:.4}, {:.1?}", run.estimator(), began.elapsed());
    }
    Ok(())
}
