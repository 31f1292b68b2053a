//! The network, the pictures and the settings that the benches share.
//!
//! | variable | means | unless set |
//! |---|---|---|
//! | `UNLEARN_BENCH_N` | numbers of pictures, `64` or `64,128,256` | 64 |
//! | `UNLEARN_BENCH_M` | numbers of samples of an inverse | 64,256,1000 |
//! | `UNLEARN_BENCH_WIDTHS` | widths of the network | 64,16 |
//! | `UNLEARN_BENCH_SECONDS` | seconds of measurement a figure, or what ten runs take | 20 |
//! | `UNLEARN_BENCH_MEMORY` | `returned`: freed memory goes back to the system, as without `keep_freed_memory` | kept |
//! | `UNLEARN_DEVICE` | `flex`, or `wgpu` or `vulkan` in a build with that feature | flex |
//!
//! Without `--bench` (under `cargo test`) and with `--test` everything runs once on a tiny network and few
//! pictures, to show that it does; the variables then mean nothing.
#![allow(dead_code, reason = "each bench is a program of its own and uses what it needs")]
#![allow(clippy::expect_used, reason = "a bench that cannot be set up has nothing to say")]

pub(crate) mod ratios;

use std::time::Duration;

#[cfg(any(feature = "wgpu", feature = "vulkan"))]
use burn::tensor::DeviceKind;
use burn::tensor::{Device, Tensor, TensorData};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode};
use rand::RngExt;
use unlearn::curvature::Probes;
use unlearn::curvature::oracle::TensorSamples;
use unlearn::curvature::tape::{Tape, Var};
use unlearn::data::{Normalization, Seed, Stream};
use unlearn::models::{ResNet, ResNetConfig, Taped};

pub(crate) const CLASSES: usize = 10;

/// Whether this run measures, rather than show that the bench runs.
pub(crate) fn timed() -> bool {
    let given = |name: &str| std::env::args().any(|argument| argument == name);
    given("--bench") && !given("--test")
}

/// What every bench begins with: before it has threads, memory is set to be kept, as the command has it.
pub(crate) fn keep_memory() {
    match std::env::var("UNLEARN_BENCH_MEMORY").as_deref() {
        Err(_) | Ok("kept") => _ = unlearn::train::keep_freed_memory(),
        Ok("returned") => {}
        Ok(other) => panic!("UNLEARN_BENCH_MEMORY={other}: expected kept or returned"),
    }
}

/// A bench of criterion's, after [`keep_memory`].
pub(crate) fn criterion() -> Criterion {
    keep_memory();
    Criterion::default()
}

/// The numbers in the environment variable `name`, `default` when it is not set, `tiny` when nothing is timed.
fn numbers(name: &str, default: &[usize], tiny: &[usize]) -> Vec<usize> {
    if !timed() {
        return tiny.to_vec();
    }
    let Ok(text) = std::env::var(name) else { return default.to_vec() };
    text.split(',')
        .map(|n| match n.trim().parse() {
            Ok(n) if n > 0 => n,
            _ => panic!("{name}={text}: expected whole numbers above 0 with commas between them"),
        })
        .collect()
}

/// The name of [`device`].
pub(crate) fn device_name() -> String {
    std::env::var("UNLEARN_DEVICE").unwrap_or_else(|_| "flex".to_owned())
}

/// Where the bench runs.
pub(crate) fn device() -> Device {
    match device_name().as_str() {
        "flex" => Device::flex(),
        #[cfg(feature = "wgpu")]
        "wgpu" => Device::wgpu(DeviceKind::DefaultDevice),
        #[cfg(feature = "vulkan")]
        "vulkan" => Device::vulkan(DeviceKind::DefaultDevice),
        other => {
            panic!("UNLEARN_DEVICE={other}: expected flex, or wgpu or vulkan in a build with that feature")
        }
    }
}

/// `result`, once the device has done all that was asked of it: a GPU works on while its caller does.
pub(crate) fn done<T>(result: T) -> T {
    device().sync().expect("a device that answers");
    result
}

/// `name` of a group of figures, with the device where it is not the CPU.
pub(crate) fn on_device(name: String) -> String {
    match device_name().as_str() {
        "flex" => name,
        other => format!("{name}/{other}"),
    }
}

/// Widths of the ResNet-18's first stage.
pub(crate) fn widths() -> Vec<usize> {
    numbers("UNLEARN_BENCH_WIDTHS", &[64, 16], &[4])
}

/// Numbers of pictures, N.
pub(crate) fn picture_counts() -> Vec<usize> {
    numbers("UNLEARN_BENCH_N", &[64], &[4])
}

/// Numbers of samples of an inverse, m.
pub(crate) fn sample_counts() -> Vec<usize> {
    numbers("UNLEARN_BENCH_M", &[64, 256, 1000], &[3])
}

/// A fresh ResNet-18 of `width` for 32×32 pictures of ten classes.
pub(crate) fn network(width: usize) -> ResNet {
    let Normalization { mean, std } = Normalization::cifar10();
    let mut rng = Seed(1).rng(Stream::Init, 0, 0);
    ResNetConfig::resnet18(CLASSES)
        .with_width(width)
        .init(&mean, &std, &device(), &mut rng)
        .expect("a network")
}

/// The forward pass of [`network`] on a tape.
pub(crate) fn forward(model: &ResNet, images: Var<4>, tape: &mut dyn Tape) -> Var<2> {
    model.forward_on(images, tape)
}

/// The same with marked layers and Burn's automatic differentiation between them.
pub(crate) fn marked(model: &ResNet, images: Tensor<4>, probes: &mut Probes) -> Tensor<2> {
    let tape: &mut dyn Tape = probes;
    let images = tape.constant(images);
    model.forward_on(images, tape).into_value()
}

/// `n` pictures of noise, 3×32×32, with labels in turn.
pub(crate) fn pictures(n: usize) -> TensorSamples {
    let mut rng = Seed(2).rng(Stream::Synthetic, 0, 0);
    let shape = [n, 3, 32, 32];
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random()).collect();
    let images = Tensor::from_data(TensorData::new(values, shape), &device());
    TensorSamples::new(images, (0..n).map(|i| i % CLASSES).collect()).expect("one label a picture")
}

/// A group of runs that take seconds each: ten samples, one run a sample where that fills the time.
pub(crate) fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(on_device(name.to_owned()));
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    let seconds = numbers("UNLEARN_BENCH_SECONDS", &[20], &[1])[0] as u64;
    group.warm_up_time(Duration::from_secs(2.min(seconds)));
    group.measurement_time(Duration::from_secs(seconds));
    group
}

/// Bytes for inner products of `m` samples: the default up to a few hundred, else what holds the layer inputs
/// and cotangents of a thousand pictures at width 64 in two blocks.
pub(crate) fn budget(m: usize) -> usize {
    if m <= 256 { unlearn::curvature::plan::DEFAULT_BUDGET } else { 5 << 30 }
}
