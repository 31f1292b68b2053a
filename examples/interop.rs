//! Write a network and its adapters for PyTorch, torchvision and peft to open; `tests/interop/check.py` does so and
//! compares logits. `cargo run --release --example interop -- FOLDER`.

#![allow(clippy::print_stdout)]

use std::path::PathBuf;

use unlearn::burn::module::Module;
use unlearn::burn::tensor::{Device, Tensor, TensorData};
use unlearn::data::source::synthetic::Synthetic;
use unlearn::data::{Loader, Seed, Stream};
use unlearn::models::checkpoint::{self, HostTensor, Metadata};
use unlearn::models::{Classifier, LoraConfig, ResNetConfig, StateDict, Stem, add_adapters};
use unlearn::train::{CrossEntropy, FitConfig, OptimizerConfig, Silent, Unconstrained, fit};

fn logits(model: &impl Classifier, pictures: &Tensor<4>) -> anyhow::Result<HostTensor> {
    let logits = model.valid().forward(pictures.clone());
    let shape = logits.dims().to_vec();
    let values = logits.into_data().try_into_vec_as::<f32>().map_err(|e| anyhow::anyhow!("{e:?}"))?;
    Ok(HostTensor { shape, values })
}

fn main() -> anyhow::Result<()> {
    // Without an argument it shows that it runs, and leaves nothing behind.
    let scratch = tempfile::tempdir()?;
    let folder = std::env::args().nth(1).map_or_else(|| scratch.path().to_path_buf(), PathBuf::from);
    std::fs::create_dir_all(&folder)?;
    let data = Synthetic { train: 32, test: 10, size: 64, ..Synthetic::default() }.generate()?;
    let normalization = data.train.normalization();
    // torchvision's own resnet18: ImageNet stem, published width.
    let network = ResNetConfig::resnet18(data.train.num_classes()).with_stem(Stem::ImageNet).init(
        &normalization.mean,
        &normalization.std,
        &Device::flex(),
        &mut Seed(1).rng(Stream::Init, 0, 0),
    )?;
    let indices: Vec<usize> = (0..32).collect();
    let loader = Loader::new(&data.train, &indices, 16)?.with_shuffle(Seed(1));
    let (objective, config) =
        (CrossEntropy::default(), FitConfig::new(1, 0.01, OptimizerConfig::sgd(0.9, 0.0)));
    let trained = fit(network, &loader, &objective, &Unconstrained, &config, &mut Silent)?.model;
    let lora =
        LoraConfig { modules_to_save: vec!["fc".into()], ..LoraConfig::new(4, 16.0, ["conv1", "conv2"]) };
    let adapted = add_adapters(trained.valid(), &lora, &mut Seed(1).rng(Stream::Adapters, 0, 0))?;
    let adapted = fit(adapted, &loader, &objective, &Unconstrained, &config, &mut Silent)?.model;

    let shape = [4, 3, 64, 64];
    let values: Vec<f32> =
        (0..shape.iter().product()).map(|i: usize| (i * 37 % 101) as f32 / 100.0).collect();
    let pictures = Tensor::<4>::from_data(TensorData::new(values.clone(), shape), &Device::flex());
    let mut io = StateDict::new();
    io.insert("x", HostTensor { shape: shape.to_vec(), values })?;
    io.insert("logits", logits(&trained, &pictures)?)?;
    io.insert("logits_lora", logits(&adapted, &pictures)?)?;
    checkpoint::write(folder.join("io.safetensors"), &io, &Metadata::new())?;
    let state = StateDict::of(&trained)?;
    checkpoint::write(folder.join("model.safetensors"), &state, &Metadata::new())?;
    checkpoint::write_torch(folder.join("model.pth"), &state)?;
    adapted.save_peft(folder.join("adapter"), None)?;
    println!("wrote {}", folder.display());
    Ok(())
}
