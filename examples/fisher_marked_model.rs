//! The exact Fisher diagonal of a network in plain Burn: its layers with parameters are marked with `Probes`, and
//! anything may stand between them (here SiLU, a concatenation and attention). Gradients come in batches; what cannot
//! be marked goes through the slow oracle, one sample and one class at a time, with the same result.
//! `cargo run --release --example fisher_marked_model`.

#![allow(clippy::print_stdout)]

use std::time::Instant;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::{silu, softmax};
use burn::tensor::{Device, Distribution, Tensor};
use unlearn::curvature::oracle::{Oracle, TensorSamples};
use unlearn::curvature::{FisherDiag, Probes};

#[derive(Module, Debug)]
struct Net {
    conv: Conv2d,
    norm: BatchNorm,
    keys: Linear,
    head: Linear,
}

fn marked(net: &Net, images: Tensor<4>, probes: &mut Probes) -> Tensor<2> {
    let x = probes.conv2d(&net.conv, images.clone());
    let x = silu(probes.batch_norm(&net.norm, x));
    let x = Tensor::cat(vec![x, images], 1).flatten::<3>(2, 3).swap_dims(1, 2);
    let keys = probes.linear(&net.keys, x.clone());
    let x = softmax(keys.clone().matmul(keys.swap_dims(1, 2)), 2).matmul(x);
    probes.linear(&net.head, x.mean_dim(1).squeeze_dim(1))
}

/// The same without marks.
fn plain(net: &Net, images: Tensor<4>) -> Tensor<2> {
    let x = silu(net.norm.forward(net.conv.forward(images.clone())));
    let x = Tensor::cat(vec![x, images], 1).flatten::<3>(2, 3).swap_dims(1, 2);
    let keys = net.keys.forward(x.clone());
    let x = softmax(keys.clone().matmul(keys.swap_dims(1, 2)), 2).matmul(x);
    net.head.forward(x.mean_dim(1).squeeze_dim(1))
}

fn main() -> anyhow::Result<()> {
    let device = Device::flex();
    device.seed(1);
    let same = PaddingConfig2d::Explicit(1, 1, 1, 1);
    let net = Net {
        conv: Conv2dConfig::new([3, 5], [3, 3]).with_padding(same).init(&device),
        norm: BatchNormConfig::new(5).init(&device),
        keys: LinearConfig::new(8, 4).init(&device),
        head: LinearConfig::new(8, 10).init(&device),
    };
    let images = Tensor::random([32, 3, 8, 8], Distribution::Uniform(0.0, 1.0), &device);
    let samples = TensorSamples::new(images, (0..32).map(|i| i % 10).collect())?;

    let began = Instant::now();
    let fast = FisherDiag::exact().marked().run(&net, marked, &samples)?.mean();
    let batched = began.elapsed();
    let slow = Oracle::new(&net, plain)?.exact(&samples)?.mean();
    println!("marked {batched:.1?}, oracle {:.1?}", began.elapsed().saturating_sub(batched));

    for ((path, got), (_, expected)) in fast.iter().zip(slow.iter()) {
        let (got, expected) = (got.to_vec()?, expected.to_vec()?);
        let largest = expected.iter().copied().fold(0.0, f32::max);
        let apart = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("{path:12} largest {largest:.3e}, apart {apart:.1e}");
        assert!(largest > 0.0 && apart <= 1e-4 * largest);
    }
    Ok(())
}
