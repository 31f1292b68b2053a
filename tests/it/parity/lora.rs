//! Adapters that peft made, on networks that PyTorch made.

use burn::tensor::Device;
use unlearn::models::lora::WEIGHTS_FILE;
use unlearn::models::{Adapted, Classifier, ResNet, StateDict, Vit, load_peft};

use super::resnet::{images, loaded};
use crate::goldens::{Goldens, assert_close};

/// How the adapters of the goldens were made.
#[derive(serde::Deserialize)]
struct LoraSpec {
    rank: usize,
    alpha: f64,
}

#[derive(serde::Deserialize)]
struct Spec {
    lora: LoraSpec,
}

fn host(logits: burn::Tensor<2>) -> Vec<f32> {
    logits.into_data().try_into_vec_as::<f32>().unwrap()
}

/// Logits with branches and merged, and every tensor of the file in its place.
fn check<M: Classifier>(goldens: &Goldens, base: M, folder: &str, io: &str) -> Adapted<M> {
    let device = Device::flex();
    let io = goldens.tensors(io);
    let plain = host(base.forward(images(&io["x"], &device)));
    let adapted = load_peft(base, goldens.path(folder)).unwrap();
    let spec = goldens.json::<Spec>("spec.json").lora;
    assert_eq!((adapted.config().rank, adapted.config().alpha), (spec.rank, spec.alpha));

    assert_close("logits_lora", &host(adapted.forward(images(&io["x"], &device))), &io["logits_lora"], 1e-4);
    let merged = adapted.merge().unwrap();
    assert_close("merged", &host(merged.forward(images(&io["x"], &device))), &io["logits_lora"], 1e-4);
    // The base alone is far off: agreement is not by chance.
    let expected = &io["logits_lora"];
    let off = plain.iter().zip(&expected.values).map(|(p, e)| (f64::from(*p) - e).abs());
    assert!(off.fold(0.0, f64::max) > 1e-2 * expected.scale(), "the adapters change nothing");

    let file = goldens.tensors(&format!("{folder}/{WEIGHTS_FILE}"));
    assert_eq!(adapted.modules().count() * 2, file.len(), "an adapter has two tensors");
    let saved = tempfile::tempdir().unwrap();
    adapted.save_peft(saved.path(), None).unwrap();
    let state = StateDict::read_safetensors(saved.path().join(WEIGHTS_FILE)).unwrap();
    assert_eq!(state.len(), file.len());
    for (name, expected) in &file {
        let got = state.get(name).unwrap_or_else(|| panic!("{name} is not saved"));
        assert_eq!((&got.shape, &got.values), (&expected.shape, &expected.f32()), "{name}");
    }
    adapted
}

#[test]
fn an_adapted_residual_network_gives_pefts_logits() {
    let Some(goldens) = Goldens::open() else { return };
    let base = loaded(&goldens, &Device::flex());
    let adapted: Adapted<ResNet> = check(&goldens, base, "resnet_lora_peft", "resnet_lora_io.safetensors");
    assert_eq!(adapted.linears().len(), 1);
}

/// `dense` ends the paths of three layers a block; all of them are found.
#[test]
fn an_adapted_vision_transformer_gives_pefts_logits() {
    let Some(goldens) = Goldens::open() else { return };
    let base = super::vit::loaded(&goldens, &Device::flex());
    let adapted: Adapted<Vit> = check(&goldens, base, "vit_lora_peft", "vit_io.safetensors");
    assert!(adapted.convs().is_empty());
}
