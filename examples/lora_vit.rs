//! Prune a vision transformer, fine-tune what is left through adapters, merge them without losing a single zero, and
//! hand them to peft. Takes seconds: `cargo run --release --example lora_vit`.

#![allow(clippy::print_stdout)]

use unlearn::burn::module::Module;
use unlearn::burn::tensor::Device;
use unlearn::curvature::oracle::Samples;
use unlearn::data::source::synthetic::Synthetic;
use unlearn::data::{Loader, Seed, Stream};
use unlearn::models::lora::Kept;
use unlearn::models::{LoraConfig, StateDict, VitConfig, add_adapters, load_peft};
use unlearn::prune::{Magnitude, PrunableRule, PruneConfig, one_shot};
use unlearn::train::{CrossEntropy, FitConfig, OptimizerConfig, Schedule, Silent, Unconstrained, fit};

fn main() -> anyhow::Result<()> {
    let data = Synthetic { train: 300, test: 100, size: 16, ..Synthetic::default() }.generate()?;
    let constants = data.train.normalization();
    let tiny = VitConfig { image: 16, hidden: 32, layers: 2, mlp: 64, ..VitConfig::tiny_cifar(10) };
    let mut rng = Seed(1).rng(Stream::Init, 0, 0);
    let initial = tiny.init(&constants.mean, &constants.std, &Device::flex(), &mut rng)?;

    // Trained in full, then without half of the weights of the blocks' linear layers.
    let everything: Vec<usize> = (0..data.train.len()).collect();
    let loader = Loader::new(&data.train, &everything, 20)?.with_shuffle(Seed(1));
    let adam = FitConfig::new(15, 4e-3, OptimizerConfig::adam_w());
    let config = FitConfig { schedule: Schedule::CosineSteps, warmup_epochs: 1, ..adam };
    let objective = CrossEntropy::default();
    let dense = fit(initial, &loader, &objective, &Unconstrained, &config, &mut Silent)?;
    println!("trained: accuracy {:.1} % in the last epoch", 100.0 * dense.history[14].accuracy);
    let half = PruneConfig { prunable: PrunableRule::Dense.into(), ..PruneConfig::new(0.5) };
    let mask = one_shot(&dense.model, &Magnitude, &half, None)?;
    let pruned = mask.apply(&dense.model)?;

    // peft's names: `dense` ends the paths of three layers of each block. The classifier trains in full.
    let lora = LoraConfig {
        modules_to_save: vec!["classifier".into()],
        ..LoraConfig::new(4, 8.0, ["query", "value", "dense"])
    };
    let adapted = add_adapters(pruned, &lora, &mut Seed(1).rng(Stream::Adapters, 0, 0))?;
    println!("{}", adapted.trainable());
    let tuned = fit(adapted, &loader, &objective, &Unconstrained, &config, &mut Silent)?;
    let (first, last) = (tuned.history[0].loss, tuned.history[14].loss);
    println!("adapters: loss {first:.3} in the first epoch, {last:.3} in the last");

    // Into the weights, but only where a weight was kept; what is cut off moves the logits.
    let kept: Kept = mask.iter().map(|(path, mask)| (path.clone(), mask.keep().to_vec())).collect();
    let samples = unlearn::algos::DatasetSamples::new(&data.test, (0..64).collect())?;
    let pictures = samples.inputs(0..64, &Device::flex())?;
    let merged = tuned.model.masked_merge(&kept)?;
    let change = tuned.model.output_change(&merged, pictures.clone())?;
    let sparse = StateDict::of(&mask.apply(&merged)?)? == StateDict::of(&merged)?;
    println!("merged: logits move by {:.2} on average; every pruned weight zero: {sparse}", change.mean);

    // A folder that `peft.PeftModel.from_pretrained` opens on the pruned network, and back.
    let folder = tempfile::tempdir()?;
    tuned.model.save_peft(folder.path(), None)?;
    let again = load_peft(tuned.model.to_base(), folder.path())?;
    let same = StateDict::of(&again.valid())? == StateDict::of(&tuned.model.valid())?;
    println!("opened again: every tensor the same: {same}");
    Ok(())
}
