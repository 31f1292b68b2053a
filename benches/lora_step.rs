//! What does a training step through adapters cost, against one on all weights?
//!
//! ResNet-18 (widths 64 and 16 unless `UNLEARN_BENCH_WIDTHS` says otherwise; SGD with momentum and weight decay) and the
//! vision transformer `tiny_cifar` (AdamW), batches of 32 pictures of 32×32, on flex unless `UNLEARN_DEVICE` says
//! otherwise. `full` trains every weight, `lora` branches of rank 8 of a frozen network: beside `conv1`, `conv2` and `fc`;
//! of the transformer beside `query` and `value` (Hu et al. 2022, §7.1, and what peft does for it), and once more beside
//! every `dense` too. All by the library's loop, so by `fit` with its look at losses and gradients.
//!
//! `cargo bench --bench lora_step` prints seconds a step, then `lora` over `full` from runs of both in turn, the share of
//! parameters that train, and the peak memory of each in a process of its own (Linux). A ratio of at most 0.75 is what
//! LoRA is to be worth.
#![allow(missing_docs, clippy::print_stdout, clippy::expect_used)]

mod support;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use rand::RngExt;
use unlearn::data::{Dataset, ImageShape, Loader, Normalization, Seed, Stream};
use unlearn::models::{Adapted, Classifier, LoraConfig, ResNet, Vit, VitConfig, add_adapters};
use unlearn::train::{CrossEntropy, FitConfig, OptimizerConfig, Silent, Unconstrained, fit};

use support::ratios::Ratios;
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

/// A network as it is, and frozen with adapters.
struct Pair<M: Classifier> {
    name: String,
    full: M,
    lora: Adapted<M>,
    optimizer: OptimizerConfig,
}

impl<M: Classifier> Pair<M> {
    fn new(name: &str, full: M, rank: usize, targets: &[&str], optimizer: OptimizerConfig) -> Self {
        let config = LoraConfig::new(rank, 2.0 * rank as f64, targets.iter().copied());
        let lora = add_adapters(full.clone(), &config, &mut Seed(1).rng(Stream::Adapters, 0, 0))
            .expect("adapters that fit");
        Self { name: format!("lora_step/{name}/batch{}", batch()), full, lora, optimizer }
    }

    /// One epoch.
    fn run<N: Classifier>(&self, model: &N, loader: &Loader) {
        epoch(model.clone(), loader, self.optimizer);
    }

    fn steps(&self, criterion: &mut Criterion) {
        let loader = loader(1);
        let mut group = group(criterion, &self.name);
        group.bench_function("full", |b| b.iter(|| self.run(&self.full, &loader)));
        group.bench_function("lora", |b| b.iter(|| self.run(&self.lora, &loader)));
        group.finish();
    }

    /// The median of `lora / full` over runs in turn, each pair in the other order than the last.
    fn ratio(&self) {
        let (pairs, batches) = if timed() { (PAIRS, 4) } else { (1, 1) };
        let loader = loader(batches);
        let ratios = Ratios::of(pairs, || self.run(&self.lora, &loader), || self.run(&self.full, &loader));
        println!(
            "{}: a step through adapters takes {ratios} of a full one; {}",
            support::on_device(self.name.clone()),
            self.lora.trainable(),
        );
    }
}

fn epoch<N: Classifier>(model: N, loader: &Loader, optimizer: OptimizerConfig) {
    let config = FitConfig::new(1, 0.001, optimizer);
    let objective = CrossEntropy { label_smoothing: 0.0 };
    let fit = fit(model, loader, &objective, &Unconstrained, &config, &mut Silent);
    drop(black_box(fit.expect("a finite run").model));
}

fn resnet(width: usize) -> Pair<ResNet> {
    let optimizer = OptimizerConfig::sgd(0.9, 5e-4);
    let name = format!("resnet18-w{width}");
    Pair::new(&name, network(width), RANK.min(width), &["conv1", "conv2", "fc"], optimizer)
}

fn transformer(targets: &[&str]) -> Pair<Vit> {
    let Normalization { mean, std } = Normalization::cifar10();
    let config = VitConfig::tiny_cifar(10);
    let (name, config) = if timed() { ("vit-tiny-cifar", config) } else { ("vit", config.with_width(4)) };
    let vit = config
        .init(&mean, &std, &support::device(), &mut Seed(1).rng(Stream::Init, 0, 0))
        .expect("a network");
    let name = format!("{name}/{}", targets.join("-"));
    Pair::new(&name, vit, RANK, targets, OptimizerConfig::adam_w())
}

/// What the transformer has branches beside: first what is usual.
const TARGETS: [&[&str]; 2] = [&["query", "value"], &["query", "value", "dense"]];

fn steps(criterion: &mut Criterion) {
    if measured().is_some() {
        return;
    }
    for width in widths() {
        resnet(width).steps(criterion);
    }
    for targets in TARGETS {
        transformer(targets).steps(criterion);
    }
}

/// Whether a profiler looks at single steps, which the rest would only blur.
fn profiled() -> bool {
    std::env::args().any(|argument| argument == "--profile-time")
}

fn ratio(_: &mut Criterion) {
    if profiled() || measured().is_some() {
        return;
    }
    for width in widths() {
        resnet(width).ratio();
    }
    for targets in TARGETS {
        transformer(targets).ratio();
    }
}

/// The kind of step whose memory this process is to show; then it does nothing else.
const KIND: &str = "UNLEARN_BENCH_LORA_MEMORY";

fn measured() -> Option<String> {
    std::env::var(KIND).ok()
}

/// Runs this program again for one kind of step only and prints the most memory that it ever held.
fn memory(_: &mut Criterion) {
    fn one<M: Classifier>(pair: Pair<M>, kind: &str) {
        let loader = loader(2);
        // Nothing of the other half, and no copy of what trains.
        let Pair { full, lora, optimizer, .. } = pair;
        if kind == "full" {
            drop(lora);
            epoch(full, &loader, optimizer);
        } else {
            drop(full);
            epoch(lora, &loader, optimizer);
        }
    }
    if let Some(kind) = measured() {
        match kind.split_once(' ') {
            Some(("vit", kind)) => one(transformer(TARGETS[0]), kind),
            Some((_, kind)) => one(resnet(widths()[0]), kind),
            None => panic!("{KIND}={kind}"),
        }
        return;
    }
    if !timed() || profiled() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    for kind in ["resnet full", "resnet lora", "vit full", "vit lora"] {
        let mut child = std::process::Command::new(&program);
        child.args(["--bench", "nothing-of-this-name"]).env(KIND, kind).stdout(std::process::Stdio::null());
        let Ok(mut child) = child.spawn() else { return };
        let status = format!("/proc/{}/status", child.id());
        let mut peak = None;
        let well = loop {
            match child.try_wait() {
                Ok(None) => {}
                Ok(Some(ended)) => break ended.success(),
                Err(_) => break false,
            }
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            peak = line.map(|value| value.trim().to_owned()).or(peak);
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        assert!(well, "{kind} did not end well");
        println!("lora_step: peak memory of {kind}: {}", peak.unwrap_or_else(|| "unknown".to_owned()));
    }
}

criterion_group! { name = benches; config = support::criterion(); targets = steps, ratio, memory }
criterion_main!(benches);
