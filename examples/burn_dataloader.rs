//! The data sets work with Burn's own data loader, too: for a training loop of your own, or with
//! `burn-train`.
//!
//! ```text
//! cargo run --release --example burn_dataloader -- [DIR]
//! ```
//!
//! Without DIR the built-in synthetic pictures are used.

#![allow(clippy::print_stdout)]

use std::path::PathBuf;

use unlearn::burn::data::dataloader::DataLoaderBuilder;
use unlearn::burn::tensor::Device;
use unlearn::data::source::{self, SourceKind};
use unlearn::data::{ImageBatcher, Split, SplitRule};

fn main() -> anyhow::Result<()> {
    let dir = std::env::args_os().nth(1).map(PathBuf::from);
    let kind: SourceKind = if dir.is_some() { "auto" } else { "synthetic" }.parse()?;
    let data = source::open(kind, dir.as_deref())?;
    println!(
        "{}: {} pictures in {} classes, fingerprint {}…",
        data.train.name(),
        data.train.len(),
        data.train.num_classes(),
        &data.train.fingerprint()[..12],
    );

    let split = Split::new(&data.train, SplitRule::Reference { fraction: 0.1, seed: 1 })?;
    let train = data.train.subset("train", split.train())?;
    // Any device of Burn; an autodiff one for training.
    let device = Device::flex();
    let loader = DataLoaderBuilder::new(ImageBatcher::of(&train))
        .batch_size(128)
        .shuffle(42)
        .num_workers(2)
        .set_device(device)
        .build(train.clone());

    let (mut batches, mut samples, mut brightness) = (0, 0, 0.0);
    for batch in loader.iter() {
        let batch = batch?;
        batches += 1;
        samples += batch.len();
        brightness += f64::from(batch.images.clone().mean().into_scalar::<f32>()) * batch.len() as f64;
    }
    println!("{batches} batches, {samples} samples, mean brightness {:.3}", brightness / samples as f64);
    anyhow::ensure!(samples == train.len(), "Burn's loader must hand out each sample once");
    Ok(())
}
