//! Masks and scores against PyTorch.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use unlearn::burn::tensor::Device;
use unlearn::curvature::{ParamInfo, ParamPath};
use unlearn::data::{HostBatch, ImageShape};
use unlearn::models::{ResNet, ResNetConfig, StateDict, checkpoint};
use unlearn::prune::{
    Grasp, Magnitude, MaskSet, Prunable, PruneConfig, Score, Scores, ScoringData, Snip, SynFlow, one_shot,
};

use crate::goldens::{Array, Goldens, Named, assert_close, assert_close_as_far_as_posed};

type Tensors = BTreeMap<String, Array>;

fn model(goldens: &Goldens, device: &Device) -> ResNet {
    let spec = goldens.resnet();
    let config =
        ResNetConfig { width: spec.width, blocks: spec.blocks, ..ResNetConfig::resnet18(spec.classes) };
    let channels = goldens.tensors("resnet.safetensors")["normalize.mean"].values.len();
    let half = vec![0.5; channels];
    let fresh = config.init(&half, &half, device, &mut SmallRng::seed_from_u64(0)).unwrap();
    StateDict::read_safetensors(goldens.path("resnet.safetensors")).unwrap().load_into(fresh).unwrap()
}

/// The entries `prefix.NAME`, by name. For convolutions the names on disk are the paths here.
fn under<'a>(tensors: &'a Tensors, prefix: &'a str) -> BTreeMap<ParamPath, &'a Array> {
    let rest = |name: &str| name.strip_prefix(prefix)?.strip_prefix('.').map(ParamPath::from);
    let found: BTreeMap<_, _> = tensors.iter().filter_map(|(n, a)| Some((rest(n)?, a))).collect();
    assert!(!found.is_empty(), "nothing under {prefix}");
    found
}

fn masks(tensors: &Tensors, prefix: &str) -> MaskSet {
    let mut set = MaskSet::new();
    for (path, array) in under(tensors, prefix) {
        set.insert(path, array.shape.clone(), array.values.iter().map(|v| *v == 1.0).collect()).unwrap();
    }
    set
}

fn assert_same(what: &str, got: &MaskSet, expected: &MaskSet) {
    assert_eq!(
        (got.len(), got.kept(), got.total()),
        (expected.len(), expected.kept(), expected.total()),
        "{what}"
    );
    for ((path, a), (name, b)) in got.iter().zip(expected.iter()) {
        assert_eq!((path, a.shape()), (name, b.shape()), "{what}");
        let differ = a.keep().iter().zip(b.keep()).filter(|(a, b)| a != b).count();
        assert_eq!(differ, 0, "{what}: {path} differs in {differ} of {} places", a.total());
    }
}

fn magnitude_masks_on(device: &Device) {
    let Some(goldens) = Goldens::open() else { return };
    let (model, tensors) = (model(&goldens, device), goldens.tensors("prune.safetensors"));
    let mut mask: Option<MaskSet> = None;
    for round in 1..=3 {
        let next = one_shot(&model, &Magnitude, &PruneConfig::new(0.2), mask.as_ref()).unwrap();
        let name = format!("l1_round{round}");
        assert_same(&name, &next, &masks(&tensors, &name));
        // What is pruned already has score zero in the sparse model; it must not be counted again.
        let sparse = next.apply(&model).unwrap();
        let on = one_shot(&sparse, &Magnitude, &PruneConfig::new(0.2), Some(&next)).unwrap();
        assert_eq!(on.kept(), next.kept() - (0.2 * next.kept() as f64).round_ties_even() as usize);
        mask = Some(next);
    }
    let once = one_shot(&model, &Magnitude, &PruneConfig::new(0.95), None).unwrap();
    assert_same("l1_95", &once, &masks(&tensors, "l1_95"));
}

#[test]
fn magnitude_masks_are_pytorchs() {
    magnitude_masks_on(&Device::flex());
}

#[test]
#[allow(deprecated)]
fn magnitude_masks_are_pytorchs_on_ndarray() {
    magnitude_masks_on(&Device::ndarray());
}

/// All samples of the folder.
fn samples(goldens: &Goldens) -> ScoringData {
    let io = goldens.tensors("resnet_io.safetensors");
    samples_of(&io["x"], &io["y"])
}

fn samples_of(x: &Array, y: &Array) -> ScoringData {
    let shape = ImageShape { channels: x.shape[1], height: x.shape[2], width: x.shape[3] };
    let labels: Vec<usize> = y.values.iter().map(|y| *y as usize).collect();
    let indices = (0..labels.len()).collect();
    ScoringData::of(vec![HostBatch { pixels: x.f32(), shape, labels, indices }]).unwrap()
}

fn prunable(model: &ResNet) -> Vec<ParamInfo> {
    Prunable::default().select(model).unwrap()
}

fn assert_scores(scores: &Scores, tensors: &Tensors, prefix: &str, sign: f32, tolerance: f64) {
    let expected = under(tensors, prefix);
    let paths: Vec<_> = scores.iter().map(|(path, _)| path).collect();
    assert_eq!(paths, expected.keys().collect::<Vec<_>>(), "{prefix}");
    for (path, values) in scores.iter() {
        let got: Vec<f32> = values.iter().map(|s| sign * s).collect();
        assert_close(&format!("{prefix}.{path}"), &got, expected[path], tolerance);
    }
}

#[test]
fn snip_scores_are_pytorchs() {
    let Some(goldens) = Goldens::open() else { return };
    let model = model(&goldens, &Device::flex());
    let (io, tensors) = (goldens.tensors("resnet_io.safetensors"), goldens.tensors("prune.safetensors"));
    let wanted =
        under(&tensors, "snip_score").into_iter().map(|(path, array)| (path.to_string(), array.clone()));
    let scores = |x: &Array| -> Named {
        let scores = Snip::new(samples_of(x, &io["y"])).scores(&model, &prunable(&model)).unwrap();
        scores.iter().map(|(path, values)| (path.to_string(), values.to_vec())).collect()
    };
    let again = |seed| scores(&io["x"].with_other_last_bits(seed));
    assert_close_as_far_as_posed("snip_score", &scores(&io["x"]), &wanted.collect(), |_| 1e-3, again);
}

#[test]
fn grasp_scores_are_pytorchs() {
    let Some(goldens) = Goldens::open() else { return };
    let model = model(&goldens, &Device::flex());
    // The file holds −w·(Hg), of which the largest go; a weight is worth the opposite. Second
    // derivatives that come of differences may be 2e-2 off, as ours do: a ReLU may switch between the two points.
    let scores = Grasp::new(samples(&goldens)).scores(&model, &prunable(&model)).unwrap();
    assert_scores(&scores, &goldens.tensors("prune.safetensors"), "grasp_score", -1.0, 2e-2);
}

#[test]
fn synflow_scores_are_pytorchs() {
    let Some(goldens) = Goldens::open() else { return };
    let model = model(&goldens, &Device::flex());
    let x = &goldens.tensors("resnet_io.safetensors")["x"];
    let input = ImageShape { channels: x.shape[1], height: x.shape[2], width: x.shape[3] };
    let scores = SynFlow::new(input).scores(&model, &prunable(&model)).unwrap();
    assert_scores(&scores, &goldens.tensors("prune.safetensors"), "synflow_score", 1.0, 1e-3);
}

/// The masks that PyTorch's pruning leaves in a checkpoint hold on the model here.
#[test]
fn masks_come_out_of_a_pytorch_checkpoint() {
    let Some(goldens) = Goldens::open() else { return };
    let model = model(&goldens, &Device::flex());
    let read = checkpoint::read(goldens.path("pruned_checkpoint.pth.tar")).unwrap();
    let loaded = read.state.load_into(model).unwrap();
    let mask = MaskSet::from_torch(&read.masks, &loaded).unwrap();
    assert_eq!(mask.len(), read.masks.len());
    assert!(mask.sparsity() > 0.0 && mask.kept() > 0, "{}", mask.report());
    let sparse = StateDict::of(&mask.apply(&loaded).unwrap()).unwrap();
    assert_eq!(sparse, StateDict::of(&loaded).unwrap(), "a masked weight was not zero");
    for (path, m) in mask.iter() {
        let values = &sparse.get(path.as_str()).unwrap().values;
        let zeros = values.iter().filter(|w| **w == 0.0).count();
        assert_eq!(zeros, m.total() - m.kept(), "{path}");
    }
    let wider = ResNetConfig { width: goldens.resnet().width + 1, ..ResNetConfig::resnet18(2) };
    let wider = wider.init(&[0.5; 3], &[0.5; 3], &Device::flex(), &mut SmallRng::seed_from_u64(0)).unwrap();
    assert!(MaskSet::from_torch(&read.masks, &wider).unwrap_err().to_string().contains("conv1.weight"));
}
