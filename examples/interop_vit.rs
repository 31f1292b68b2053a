//! Write a trained vision transformer as a folder of Hugging Face, and adapters on it as peft's, for transformers and peft
//! to open; `tests/interop/check.py` does so and compares logits. `cargo run --release --example interop_vit -- FOLDER`.

#![allow(clippy::print_stdout)]

use std::path::PathBuf;

use unlearn::burn::module::Module;
use unlearn::burn::tensor::{Device, Tensor, TensorData};
use unlearn::data::source::synthetic::Synthetic;
use unlearn::data::{Loader, Normalization, Seed, Stream};
use unlearn::models::checkpoint::{self, HostTensor, Metadata};
use unlearn::models::vit::HuggingFaceVit;
use unlearn::models::{Classifier, LoraConfig, StateDict, VitConfig, add_adapters};
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
    let data = Synthetic { train: 200, test: 10, size: 16, ..Synthetic::default() }.generate()?.train;
    let data = data.with_normalization(Normalization::half(3))?;
    let constants = data.normalization();
    let config = VitConfig { image: 16, hidden: 48, layers: 3, mlp: 96, ..VitConfig::tiny_cifar(10) };
    let mut rng = Seed(1).rng(Stream::Init, 0, 0);
    let network = config.init(&constants.mean, &constants.std, &Device::flex(), &mut rng)?;
    let indices: Vec<usize> = (0..data.len()).collect();
    let loader = Loader::new(&data, &indices, 20)?.with_shuffle(Seed(1));
    let (objective, training) = (CrossEntropy::default(), FitConfig::new(4, 2e-3, OptimizerConfig::adam_w()));
    let trained = fit(network, &loader, &objective, &Unconstrained, &training, &mut Silent)?.model;
    let lora = LoraConfig {
        modules_to_save: vec!["classifier".into()],
        ..LoraConfig::new(4, 16.0, ["query", "value", "dense"])
    };
    let adapted = add_adapters(trained.valid(), &lora, &mut Seed(1).rng(Stream::Adapters, 0, 0))?;
    let adapted = fit(adapted, &loader, &objective, &Unconstrained, &training, &mut Silent)?.model;

    let shape = [4, 3, 16, 16];
    let values: Vec<f32> =
        (0..shape.iter().product()).map(|i: usize| (i * 37 % 101) as f32 / 100.0).collect();
    let pictures = Tensor::<4>::from_data(TensorData::new(values.clone(), shape), &Device::flex());
    let mut io = StateDict::new();
    io.insert("x", HostTensor { shape: shape.to_vec(), values })?;
    io.insert("logits", logits(&trained, &pictures)?)?;
    io.insert("logits_lora", logits(&adapted, &pictures)?)?;
    checkpoint::write(folder.join("io.safetensors"), &io, &Metadata::new())?;
    HuggingFaceVit::write(folder.join("folder"), &trained, &config)?;
    HuggingFaceVit::write(folder.join("merged"), &adapted.merge()?, &config)?;
    adapted.save_peft(folder.join("adapter"), None)?;
    println!("wrote {}", folder.display());
    Ok(())
}
