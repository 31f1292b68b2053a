//! The exact Fisher diagonal of a residual network of your own. Its forward pass is written once, on a `Tape`:
//! the curvature engine then works in batches. The same network in plain Burn goes through the slow oracle, one
//! sample and one class at a time, with the same result.
//! `cargo run --release --example fisher_custom_model`.

#![allow(clippy::print_stdout)]

use std::time::Instant;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::{Device, Distribution, Tensor, activation::relu};
use unlearn::curvature::FisherDiag;
use unlearn::curvature::oracle::{Oracle, TensorSamples};
use unlearn::curvature::tape::{Tape, Var};

#[derive(Module, Debug)]
struct Net {
    stem: Conv2d,
    norm: BatchNorm,
    conv: Conv2d,
    head: Linear,
}

fn on_tape(net: &Net, images: Var<4>, tape: &mut dyn Tape) -> Var<2> {
    let x = tape.conv2d(&net.stem, images);
    let x = tape.relu(x);
    let y = tape.conv2d(&net.conv, x.clone());
    let y = tape.batch_norm(&net.norm, y);
    let x = tape.add(x, y);
    let x = tape.relu(x);
    let x = tape.global_avg_pool(x);
    tape.linear(&net.head, x)
}

/// The same in plain Burn.
fn plain(net: &Net, images: Tensor<4>) -> Tensor<2> {
    let x = relu(net.stem.forward(images));
    let x = relu(net.norm.forward(net.conv.forward(x.clone())) + x);
    net.head.forward(x.mean_dims(&[2, 3]).flatten(1, 3))
}

fn main() -> anyhow::Result<()> {
    let device = Device::flex();
    device.seed(1);
    let same = || PaddingConfig2d::Explicit(1, 1, 1, 1);
    let net = Net {
        stem: Conv2dConfig::new([3, 8], [3, 3]).with_padding(same()).init(&device),
        norm: BatchNormConfig::new(8).init(&device),
        conv: Conv2dConfig::new([8, 8], [3, 3]).with_padding(same()).with_bias(false).init(&device),
        head: LinearConfig::new(8, 10).init(&device),
    };
    let images = Tensor::random([32, 3, 12, 12], Distribution::Uniform(0.0, 1.0), &device);
    let samples = TensorSamples::new(images, (0..32).map(|i| i % 10).collect())?;

    let began = Instant::now();
    let fast = FisherDiag::exact().run(&net, on_tape, &samples)?.mean();
    let engine = began.elapsed();
    let slow = Oracle::new(&net, plain)?.exact(&samples)?.mean();
    println!("engine {engine:.1?}, oracle {:.1?}", began.elapsed().saturating_sub(engine));

    for ((path, got), (_, expected)) in fast.iter().zip(slow.iter()) {
        let (got, expected) = (got.to_vec()?, expected.to_vec()?);
        let largest = expected.iter().copied().fold(0.0, f32::max);
        let apart = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{path:12} largest {largest:.3e}, apart {apart:.1e}");
        assert!(largest > 0.0 && apart <= 1e-4 * largest);
    }
    Ok(())
}
