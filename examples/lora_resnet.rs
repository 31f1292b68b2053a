//! Fine-tune a pruned network through adapters, merge them without losing a single zero, and hand them to peft. Takes
//! seconds: `cargo run --release --example lora_resnet`.

#![allow(clippy::print_stdout)]

use unlearn::burn::module::Module;
use unlearn::burn::tensor::Device;
use unlearn::curvature::oracle::Samples;
use unlearn::data::source::synthetic::Synthetic;
use unlearn::data::{Loader, Seed, Stream};
use unlearn::models::lora::Kept;
use unlearn::models::{LoraConfig, ResNetConfig, add_adapters, load_peft};
use unlearn::prune::{Magnitude, MaskSet, PruneConfig, one_shot};
use unlearn::train::{CrossEntropy, FitConfig, OptimizerConfig, Silent, Unconstrained, fit};

fn main() -> anyhow::Result<()> {
    let data = Synthetic { train: 600, test: 100, size: 16, ..Synthetic::default() }.generate()?;
    let normalization = data.train.normalization();
    let initial = ResNetConfig::resnet18(data.train.num_classes()).with_width(4).init(
        &normalization.mean,
        &normalization.std,
        &Device::flex(),
        &mut Seed(1).rng(Stream::Init, 0, 0),
    )?;

    // A network that was trained and then lost half of its convolution weights.
    let everything: Vec<usize> = (0..data.train.len()).collect();
    let loader = Loader::new(&data.train, &everything, 32)?.with_shuffle(Seed(1));
    let (objective, config) = (CrossEntropy::default(), FitConfig::new(4, 0.01, OptimizerConfig::adam_w()));
    let dense = fit(initial, &loader, &objective, &Unconstrained, &config, &mut Silent)?.model;
    let mask: MaskSet = one_shot(&dense, &Magnitude, &PruneConfig::new(0.5), None)?;
    let pruned = mask.apply(&dense)?;

    // Everything else than the branches is frozen, the statistics of the batch norms too.
    let lora = LoraConfig::new(4, 8.0, ["conv1", "conv2", "fc"]);
    let adapted = add_adapters(pruned, &lora, &mut Seed(1).rng(Stream::Adapters, 0, 0))?;
    println!("{}", adapted.trainable());
    let done = fit(adapted, &loader, &objective, &Unconstrained, &config, &mut Silent)?;
    let (first, last) = (done.history[0].loss, done.history[3].loss);
    println!("loss {first:.3} in the first epoch, {last:.3} in the last");

    // Branches into weights: all of them, or only what falls on weights that were kept.
    let kept: Kept = mask.iter().map(|(path, mask)| (path.clone(), mask.keep().to_vec())).collect();
    let samples = unlearn::algos::DatasetSamples::new(&data.test, (0..64).collect())?;
    let pictures = samples.inputs(0..64, &Device::flex())?;
    for (name, merged) in [("merged", done.model.merge()?), ("masked", done.model.masked_merge(&kept)?)] {
        let change = done.model.output_change(&merged, pictures.clone())?;
        let zeros = mask.apply(&merged)?;
        let sparse = unlearn::models::StateDict::of(&zeros)? == unlearn::models::StateDict::of(&merged)?;
        println!("{name}: logits move by {:.1e} at most; every pruned weight zero: {sparse}", change.largest);
    }

    // A folder that `peft.PeftModel.from_pretrained` opens, and back.
    let folder = tempfile::tempdir()?;
    done.model.save_peft(folder.path(), None)?;
    let again = load_peft(done.model.to_base(), folder.path())?;
    let same = again.output_change(&done.model.valid().merge()?, pictures)?;
    println!("adapters from disk: logits within {:.1e}", same.largest);
    Ok(())
}
