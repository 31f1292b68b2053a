//! How many pictures a second does training take in, and does our loop cost anything over a bare
//! one?
//!
//! ResNet-18 at widths 64 and 16, batches of 32 pictures of 32×32, SGD with momentum and weight
//! decay, on flex unless `UNLEARN_DEVICE` says otherwise. `fit` is the library's loop: it looks at
//! every loss, gradient and running statistic. `bare` is the shortest loop that Burn allows, with
//! Burn's own optimizer and no look at anything. The same loader serves both.
//!
//! `cargo bench --bench train_step` prints pictures a second (`elem/s`), then `fit` over `bare` from
//! runs of both in turn, which is steadier than the quotient of two measurements apart;
//! `benches/support` says how sizes are set.
//! `benches/peers/train_step.py` asks PyTorch the same.
#![allow(missing_docs, clippy::print_stdout, clippy::expect_used)]

mod support;

use std::hint::black_box;

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{GradientsParams, SgdConfig};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::RngExt;
use unlearn::data::{Dataset, ImageShape, Loader, Normalization, Seed, Stream};
use unlearn::models::{Classifier, ResNet};
use unlearn::train::{CrossEntropy, FitConfig, OptimizerConfig, Silent, Unconstrained, fit};

use support::ratios::Ratios;
use support::{device, done, group, network, on_device, timed, widths};

const BATCH: usize = 32;

/// Enough for an interval of a few percent on a machine that others share.
const PAIRS: usize = 31;

/// Widths, and batches a run of each: enough that what is done once a run does not count.
fn sizes() -> Vec<(usize, usize)> {
    let batches = |width| match width {
        64.. => 4,
        _ if timed() => 24,
        _ => 1,
    };
    widths().into_iter().map(|width| (width, batches(width))).collect()
}

fn loader(batches: usize) -> Loader {
    let shape = ImageShape { channels: 3, height: 32, width: 32 };
    let n = batches * BATCH;
    let mut rng = Seed(2).rng(Stream::Synthetic, 0, 0);
    let images = (0..n * shape.len()).map(|_| rng.random()).collect();
    let labels = (0..n).map(|i| (i % 10) as u16).collect();
    let names = (0..10).map(|c| c.to_string()).collect();
    let dataset =
        Dataset::new("noise", shape, images, labels, names, Normalization::cifar10()).expect("a data set");
    let indices: Vec<_> = (0..n).collect();
    Loader::new(&dataset, &indices, BATCH).expect("a loader").with_shuffle(Seed(3))
}

/// One epoch by the library.
fn ours(model: &ResNet, loader: &Loader) -> ResNet {
    let config = FitConfig::new(1, 0.01, OptimizerConfig::sgd(0.9, 5e-4));
    let objective = CrossEntropy { label_smoothing: 0.0 };
    fit(model.clone(), loader, &objective, &Unconstrained, &config, &mut Silent).expect("a finite run").model
}

/// One epoch by hand.
fn bare(model: &ResNet, loader: &Loader) -> ResNet {
    let device = device().autodiff();
    let mut model = model.valid().train();
    let mut optimizer = SgdConfig::new()
        .with_momentum(Some(MomentumConfig::new().with_momentum(0.9).with_dampening(0.0)))
        .with_weight_decay(Some(WeightDecayConfig::new(5e-4)))
        .init();
    let objective = CrossEntropyLossConfig::new().init(&device);
    for batch in loader.epoch(0) {
        let batch = batch.to_device(&device);
        let loss = objective.forward(model.forward(batch.images), batch.targets);
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(0.01, model, gradients);
    }
    model.valid()
}

fn name(width: usize) -> String {
    format!("train_step/resnet18-w{width}/batch{BATCH}")
}

fn throughput(c: &mut Criterion) {
    for (width, batches) in sizes() {
        let (model, loader) = (network(width), loader(batches));
        let mut group = group(c, &name(width));
        group.throughput(Throughput::Elements((batches * BATCH) as u64));
        group.bench_function("fit", |b| b.iter(|| black_box(done(ours(&model, &loader)))));
        group.bench_function("bare", |b| b.iter(|| black_box(done(bare(&model, &loader)))));
        group.finish();
    }
}

/// The median of `fit / bare` over runs in turn, each pair in the other order than the last.
fn overhead(_: &mut Criterion) {
    for (width, batches) in sizes() {
        let (model, loader) = (network(width), loader(batches));
        let run = |by: fn(&ResNet, &Loader) -> ResNet| drop(black_box(done(by(&model, &loader))));
        let ratios = Ratios::of(if timed() { PAIRS } else { 1 }, || run(ours), || run(bare));
        println!("{}: fit takes {ratios} of bare", on_device(name(width)));
    }
}

criterion_group! { name = benches; config = support::criterion(); targets = throughput, overhead }
criterion_main!(benches);
