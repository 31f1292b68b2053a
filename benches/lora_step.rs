//! What does a training step through adapters cost, against one on all weights?
//!
//! ResNet-18 (widths 64 and 16 unless `UNLEARN_BENCH_WIDTHS` says otherwise), batches of 32 pictures of 32×32, SGD with
//! momentum and weight decay, on flex. `full` trains every weight, `lora` branches of rank 8 beside `conv1`, `conv2` and
//! `fc` of a frozen network; both by the library's loop, so by `fit` with its look at losses and gradients.
//!
//! `cargo bench --bench lora_step` prints seconds a step, then `lora` over `full` from runs of both in turn, the share of
//! parameters that train, and the peak memory of each in a process of its own (Linux). A ratio of at most 0.75 is what
//! LoRA is to be worth.
#![allow(missing_docs, clippy::print_stdout, clippy::expect_used)]

mod support;

use std::hint::black_box;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use rand::RngExt;
use unlearn::data::{Dataset, ImageShape, Loader, Normalization, Seed, Stream};
use unlearn::models::{Adapted, Classifier, LoraConfig, ResNet, add_adapters};
use unlearn::train::{CrossEntropy, FitConfig, OptimizerConfig, Silent, Unconstrained, fit};

use support::{group, network, timed, widths};

const RANK: usize = 8;
const PAIRS: usize = 9;

fn batch() -> usize {
    if timed() { 32 } else { 4 }
}

fn loader(batches: usize) -> Loader {
    let shape = ImageShape { channels: 3, height: 32, width: 32 };
    let n = batches * batch();
    let mut rng = Seed(2).rng(Stream::Synthetic, 0, 0);
    let images = (0..n * shape.len()).map(|_| rng.random()).collect();
    let labels = (0..n).map(|i| (i % 10) as u16).collect();
    let names = (0..10).map(|c| c.to_string()).collect();
    let dataset =
        Dataset::new("noise", shape, images, labels, names, Normalization::cifar10()).expect("a data set");
    let indices: Vec<_> = (0..n).collect();
    Loader::new(&dataset, &indices, batch()).expect("a loader")
}

fn adapted(width: usize) -> Adapted<ResNet> {
    let rank = RANK.min(width);
    let config = LoraConfig::new(rank, 2.0 * rank as f64, ["conv1", "conv2", "fc"]);
    add_adapters(network(width), &config, &mut Seed(1).rng(Stream::Adapters, 0, 0))
        .expect("adapters that fit")
}

/// One epoch.
fn run<M: Classifier>(model: &M, loader: &Loader) -> M {
    let config = FitConfig::new(1, 0.001, OptimizerConfig::sgd(0.9, 5e-4));
    let objective = CrossEntropy { label_smoothing: 0.0 };
    fit(model.clone(), loader, &objective, &Unconstrained, &config, &mut Silent).expect("a finite run").model
}

fn steps(criterion: &mut Criterion) {
    for width in widths() {
        let (full, lora, loader) = (network(width), adapted(width), loader(1));
        let name = format!("lora_step/resnet18-w{width}/batch{}/flex", batch());
        let mut group = group(criterion, &name);
        group.bench_function("full", |b| b.iter(|| black_box(run(&full, &loader))));
        group.bench_function("lora", |b| b.iter(|| black_box(run(&lora, &loader))));
        group.finish();
    }
}

/// The median of `lora / full` over runs in turn, each pair in the other order than the last.
fn ratio(_: &mut Criterion) {
    let (pairs, batches) = if timed() { (PAIRS, 4) } else { (1, 1) };
    for width in widths() {
        let (full, lora, loader) = (network(width), adapted(width), loader(batches));
        let seconds = |run: &dyn Fn()| {
            let began = Instant::now();
            run();
            began.elapsed().as_secs_f64()
        };
        let of_full = || seconds(&|| drop(black_box(run(&full, &loader))));
        let of_lora = || seconds(&|| drop(black_box(run(&lora, &loader))));
        let mut ratios: Vec<f64> = (0..pairs)
            .map(|pair| {
                if pair % 2 == 0 {
                    let lora = of_lora();
                    lora / of_full()
                } else {
                    let full = of_full();
                    of_lora() / full
                }
            })
            .collect();
        ratios.sort_by(f64::total_cmp);
        println!(
            "lora_step/resnet18-w{width}/batch{}/flex: a step through adapters takes {:.3} of a full one (median of {pairs} pairs, {:.3} to {:.3}); {}",
            batch(),
            ratios[pairs / 2],
            ratios[0],
            ratios[pairs - 1],
            lora.trainable(),
        );
    }
}

/// Runs this program again for one kind of step only and prints the most memory that it ever held.
fn memory(_: &mut Criterion) {
    const KIND: &str = "UNLEARN_BENCH_LORA_MEMORY";
    if let Ok(kind) = std::env::var(KIND) {
        let width = widths()[0];
        let loader = loader(2);
        if kind == "full" {
            drop(black_box(run(&network(width), &loader)));
        } else {
            drop(black_box(run(&adapted(width), &loader)));
        }
        return;
    }
    if !timed() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    for kind in ["full", "lora"] {
        let mut child = std::process::Command::new(&program);
        child.args(["--bench", "nothing-of-this-name"]).env(KIND, kind).stdout(std::process::Stdio::null());
        let Ok(mut child) = child.spawn() else { return };
        let status = format!("/proc/{}/status", child.id());
        let mut peak = None;
        while let Ok(None) = child.try_wait() {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            peak = line.map(|value| value.trim().to_owned()).or(peak);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        println!("lora_step: peak memory of a {kind} run: {}", peak.unwrap_or_else(|| "unknown".to_owned()));
    }
}

criterion_group!(benches, steps, ratio, memory);
criterion_main!(benches);
