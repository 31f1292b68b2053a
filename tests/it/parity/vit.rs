//! The vision transformer against Hugging Face's transformers: logits and curvature. The pictures of the goldens go into
//! the network as they are, so it is built without normalisation.

use std::collections::BTreeMap;

use unlearn::burn::tensor::Device;
use unlearn::curvature::oracle::{Oracle, TensorSamples};
use unlearn::curvature::reduce::Algorithm;
use unlearn::curvature::{FisherDiag, ParamTree, PerSample, parameters};
use unlearn::data::{Seed, Stream};
use unlearn::models::vit::{HuggingFaceVit, from_timm, to_timm};
use unlearn::models::{Classifier, StateDict, Taped, Vit, checkpoint};

use super::resnet::images;
use crate::goldens::{Array, Goldens, assert_close};

const LOGITS: f64 = 1e-4;
const CURVATURE: f64 = 1e-3;

fn folder(goldens: &Goldens) -> HuggingFaceVit {
    let mut folder = HuggingFaceVit::read(goldens.path("vit_hf")).unwrap();
    let channels = folder.mean.len();
    (folder.mean, folder.std) = (vec![0.0; channels], vec![1.0; channels]);
    folder
}

pub(super) fn loaded(goldens: &Goldens, device: &Device) -> Vit {
    folder(goldens).into_model(device, &mut Seed(99).rng(Stream::Init, 0, 0)).unwrap()
}

fn logits(model: &Vit, x: &Array, device: &Device) -> Vec<f32> {
    model.forward(images(x, device)).into_data().try_into_vec_as::<f32>().unwrap()
}

#[test]
fn the_folder_says_what_the_goldens_say() {
    let Some(goldens) = Goldens::open() else { return };
    let (spec, config) = (goldens.vit(), folder(&goldens).config);
    assert_eq!(
        [config.image, config.patch, config.hidden, config.layers, config.heads, config.mlp, config.classes],
        [spec.image, spec.patch, spec.hidden, spec.layers, spec.heads, spec.mlp, spec.classes]
    );
}

#[test]
fn logits_are_transformers() {
    let Some(goldens) = Goldens::open() else { return };
    let io = goldens.tensors("vit_io.safetensors");
    assert_eq!(io["x"].shape[0], goldens.vit().samples);
    let device = Device::flex();
    let model = loaded(&goldens, &device);
    assert_close("logits", &logits(&model, &io["x"], &device), &io["logits"], LOGITS);
    // A training copy on an autodiff device: another path through attention and layer norms.
    let trained = burn::module::Module::train(model.clone());
    let tracked = trained.forward(images(&io["x"], &device.clone().autodiff())).inner();
    let tracked = tracked.into_data().try_into_vec_as::<f32>().unwrap();
    assert_close("logits of the training copy", &tracked, &io["logits"], LOGITS);
    #[allow(deprecated)]
    let other = Device::ndarray();
    let model = loaded(&goldens, &other);
    assert_close("logits on ndarray", &logits(&model, &io["x"], &other), &io["logits"], LOGITS);
}

#[test]
fn every_name_of_the_folder_is_used_and_written_again() {
    let Some(goldens) = Goldens::open() else { return };
    let device = Device::flex();
    let model = loaded(&goldens, &device);
    let state = StateDict::of(&model).unwrap();
    let file = goldens.tensors("vit_hf/model.safetensors");
    for (name, expected) in &file {
        let got = state.get(name).unwrap_or_else(|| panic!("{name} is not used"));
        assert_eq!((&got.shape, &got.values), (&expected.shape, &expected.f32()), "{name}");
    }
    // Nothing of the model comes from elsewhere but the two constants.
    assert_eq!(state.len(), file.len() + 2);
    let place = tempfile::tempdir().unwrap();
    HuggingFaceVit::write(place.path(), &model, &folder(&goldens).config).unwrap();
    let again = checkpoint::read(place.path().join("model.safetensors")).unwrap().state;
    assert_eq!(again, folder(&goldens).state);
    // Through timm's names and back.
    let timm = to_timm(&state).unwrap();
    assert!(timm.get("blocks.0.attn.qkv.weight").is_some());
    assert_eq!(from_timm(&timm).unwrap(), state);
}

/// Every sum of the goldens against the tree's entry of the same name.
///
/// The gradient of the keys' bias is zero: one vector added to all keys changes no attention. What rounding leaves is of
/// the order of the precision, squared: float64 autograd has about 1e-30 of what the keys' weight has, float32 about
/// (2⁻²³)² ≈ 1e-14. So where the goldens hold less than 1e-20 of a layer's weight, at most 1e-10 of it may be in its
/// bias.
#[track_caller]
fn compare(model: &Vit, expected: &BTreeMap<String, Array>, what: &str, got: &ParamTree) {
    let got = StateDict::of(&got.write_into(model).unwrap()).unwrap();
    let mut compared = 0;
    for (full, expected_here) in expected {
        let Some(name) = full.strip_prefix(what).and_then(|rest| rest.strip_prefix('.')) else { continue };
        let tensor = got.get(name).unwrap_or_else(|| panic!("{what}: nothing under {name}"));
        assert_eq!(tensor.shape, expected_here.shape, "{full}");
        compared += 1;
        if let Some(layer) = full.strip_suffix(".bias") {
            let weight = expected[&format!("{layer}.weight")].scale();
            if expected_here.scale() < 1e-20 * weight {
                assert_eq!(layer.rsplit('.').next(), Some("key"), "{full} is zero in the goldens");
                let largest = tensor.values.iter().fold(0.0_f64, |m, v| m.max(f64::from(*v)));
                assert!(largest <= 1e-10 * weight, "{full}: {largest:e} beside a weight's {weight:e}");
                continue;
            }
        }
        assert_close(full, &tensor.values, expected_here, CURVATURE);
    }
    assert_eq!(compared, parameters(model).iter().filter(|p| p.trainable).count(), "{what}");
}

#[test]
fn diagonals_are_float64_autograds() {
    let Some(goldens) = Goldens::open() else { return };
    let expected = goldens.tensors("vit_curvature.safetensors");
    let device = Device::flex();
    let model = loaded(&goldens, &device);
    let x = &goldens.tensors("vit_io.safetensors")["x"];
    let labels: Vec<usize> = expected["y"].values.iter().map(|&y| y as usize).collect();
    let samples = TensorSamples::new(images(x, &device), labels).unwrap();
    let forward = |model: &Vit, x, tape: &mut dyn unlearn::curvature::tape::Tape| model.forward_on(x, tape);
    let empirical = FisherDiag::empirical().run(&model, forward, &samples).unwrap().sum;
    compare(&model, &expected, "empirical_sum", &empirical);
    for run in [
        FisherDiag::exact(),
        FisherDiag::exact().batch(3).columns(2).budget(8 << 20),
        FisherDiag::exact().algorithm(Algorithm::PairMoment),
    ] {
        compare(&model, &expected, "exact_sum", &run.run(&model, forward, &samples).unwrap().sum);
    }
    // The squared norms of the gradients are the sum of all that.
    let norms = PerSample::new().norms_squared(&model, forward, &samples).unwrap();
    let total: f64 = norms.iter().sum();
    let sums = expected.iter().filter(|(name, _)| name.starts_with("empirical_sum."));
    let sum: f64 = sums.flat_map(|(_, array)| &array.values).sum();
    assert!((total - sum).abs() <= CURVATURE * sum, "{total} {sum}");
    // The slow way is an independent one.
    let oracle = Oracle::new(&model, |model: &Vit, x| model.forward(x)).unwrap();
    compare(&model, &expected, "empirical_sum", &oracle.empirical(&samples).unwrap().sum);
}
