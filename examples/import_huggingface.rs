//! Open a vision transformer of Hugging Face, give it a head for other classes, fine-tune it, and write a folder that
//! transformers opens. `cargo run --release --example import_huggingface -- DIR`; without a folder it makes a small one
//! first, and takes seconds.

#![allow(clippy::print_stdout)]

use std::path::PathBuf;

use unlearn::burn::tensor::Device;
use unlearn::data::source::synthetic::Synthetic;
use unlearn::data::{Loader, Normalization, Seed, Stream};
use unlearn::models::VitConfig;
use unlearn::models::vit::HuggingFaceVit;
use unlearn::prune::{Magnitude, PrunableRule, PruneConfig, one_shot};
use unlearn::train::{CrossEntropy, FitConfig, OptimizerConfig, Schedule, Silent, fit};

fn main() -> anyhow::Result<()> {
    let place = tempfile::tempdir()?;
    let device = Device::flex();
    let mut rng = Seed(1).rng(Stream::Init, 0, 0);
    let folder = if let Some(folder) = std::env::args().nth(1) {
        PathBuf::from(folder)
    } else {
        let tiny = VitConfig { image: 16, hidden: 32, layers: 2, mlp: 64, ..VitConfig::tiny_cifar(5) };
        let model = tiny.init(&[0.5; 3], &[0.5; 3], &device, &mut rng)?;
        HuggingFaceVit::write(place.path().join("theirs"), &model, &tiny)?;
        place.path().join("theirs")
    };

    // What is not built here (another activation, say) is an error that names the key of config.json.
    let theirs = HuggingFaceVit::read(&folder)?;
    println!("{}: {:?}", folder.display(), theirs.config);

    // The pictures in the size and by the constants that the weights were trained with.
    let constants = Normalization { mean: theirs.mean.clone(), std: theirs.std.clone() };
    let side = theirs.config.image;
    let data = Synthetic { train: 200, test: 10, size: 32, ..Synthetic::default() }.generate()?.train;
    let data = data.with_normalization(constants)?.shown_at(side, side)?;
    let theirs = theirs.with_new_head(data.num_classes());
    let config = theirs.config;
    let model = theirs.into_model(&device, &mut rng)?;
    println!("{} parameters with a head for {} classes", config.num_parameters(), config.classes);

    // Half of the weights of all linear layers of the blocks go, and stay away while the rest is tuned.
    let half = PruneConfig { prunable: PrunableRule::Dense.into(), ..PruneConfig::new(0.5) };
    let mask = one_shot(&model, &Magnitude, &half, None)?;
    let model = mask.apply(&model)?;
    let loader = Loader::new(&data, &(0..data.len()).collect::<Vec<_>>(), 20)?.with_shuffle(Seed(1));
    let adam = FitConfig::new(3, 1e-3, OptimizerConfig::adam_w());
    let tuning = FitConfig { schedule: Schedule::CosineSteps, warmup_epochs: 1, ..adam };
    let objective = CrossEntropy::default();
    let constraint = mask.constraint(&model)?;
    let tuned = fit(model, &loader, &objective, &constraint, &tuning, &mut Silent)?;
    for (epoch, record) in tuned.history.iter().enumerate() {
        println!("epoch {}: loss {:.3}, accuracy {:.1} %", epoch + 1, record.loss, 100.0 * record.accuracy);
    }

    let ours = place.path().join("ours");
    HuggingFaceVit::write(&ours, &tuned.model, &config)?;
    let again = HuggingFaceVit::read(&ours)?;
    println!("written and read again: {} tensors, sparsity {:.2}", again.state.len(), mask.sparsity());
    Ok(())
}
