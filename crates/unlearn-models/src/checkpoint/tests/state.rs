//! From a module to names and back.

use burn::Tensor;
use burn::module::{Module, Param, ParamId};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Int, TensorData};
use unlearn_curvature::parameters;

use super::*;
use crate::{CifarResNetConfig, Classifier};

fn mismatch(error: CheckpointError) -> Mismatch {
    match error {
        CheckpointError::Mismatch(mismatch) => mismatch,
        other => panic!("{other}"),
    }
}

#[test]
fn a_state_goes_through_a_model_unchanged() {
    let state = StateDict::of(&net(1)).unwrap();
    let other = net(2);
    assert_ne!(StateDict::of(&other).unwrap(), state);
    let loaded = state.load_into(other).unwrap();
    assert_eq!(StateDict::of(&loaded).unwrap(), state);
    assert_eq!(StateDict::of(&loaded).unwrap().fingerprint(), state.fingerprint());
    let autodiff = state.load_into(net(3).train()).unwrap();
    assert!(autodiff.devices()[0].is_autodiff());
    assert_eq!(StateDict::of(&autodiff).unwrap(), state);
}

#[test]
fn loading_never_touches_clones() {
    let model = net(2).train();
    let clone = model.clone();
    let before = StateDict::of(&clone).unwrap();
    let mut state = StateDict::of(&net(1)).unwrap();
    for (name, value) in [("bn1.running_mean", 7.0), ("bn1.running_var", 9.0)] {
        let mut tensor = state.remove(name).unwrap();
        tensor.values.fill(value);
        state.insert(name, tensor).unwrap();
    }
    let loaded = state.load_into(model).unwrap();
    assert_eq!(StateDict::of(&clone).unwrap(), before);
    assert_eq!(StateDict::of(&loaded).unwrap(), state);
}

#[test]
fn an_update_that_burn_holds_back_does_not_overwrite_what_is_loaded() {
    let model = net(2).train();
    let images = Tensor::<4>::ones([4, 3, 8, 8], &Device::flex().autodiff());
    let _ = model.forward(images);
    let state = StateDict::of(&net(1)).unwrap();
    let loaded = state.load_into(model).unwrap();
    assert_eq!(StateDict::of(&loaded).unwrap(), state);
    assert_eq!(StateDict::of(&loaded.valid()).unwrap(), state);
}

#[test]
fn what_trains_stays_so() {
    let mut model = net(2);
    model.conv1 = model.conv1.no_grad();
    let flags =
        |model: &ResNet| parameters(model).into_iter().map(|p| (p.path, p.trainable)).collect::<Vec<_>>();
    let before = flags(&model);
    assert!(before.iter().any(|(path, trainable)| path.as_str() == "conv1.weight" && !trainable));
    let loaded = StateDict::of(&net(1)).unwrap().load_into(model).unwrap();
    assert_eq!(flags(&loaded), before);
}

#[test]
fn everything_that_does_not_fit_is_listed_in_one_error() {
    let model = net(2);
    let clone = model.clone();
    let before = StateDict::of(&clone).unwrap();
    let mut state = StateDict::of(&net(1)).unwrap();
    let bias = state.remove("fc.bias").unwrap();
    state.insert("fc.bais", bias).unwrap();
    state.remove("layer3.0.bn2.running_var").unwrap();
    state.insert("zzz", HostTensor { shape: vec![1], values: vec![0.0] }).unwrap();
    let mut weight = state.remove("fc.weight").unwrap();
    weight.shape.reverse();
    state.insert("fc.weight", weight).unwrap();
    state.insert("bn1.num_batches_tracked", HostTensor { shape: vec![], values: vec![3.0] }).unwrap();

    let error = state.load_into(model).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.code(), "E_CKPT_MISMATCH");
    let found = mismatch(error);
    assert_eq!(
        found.missing,
        [("fc.bias".into(), Some("fc.bais".into())), ("layer3.0.bn2.running_var".into(), None)]
    );
    assert_eq!(found.left_over, [("fc.bais".into(), Some("fc.bias".into())), ("zzz".into(), None)]);
    assert_eq!(found.misshapen, [("fc.weight".into(), vec![16, 3], vec![3, 16])]);
    for part in ["2 missing", "2 left over", "1 of another shape", "fc.bais", "got [16, 3], expected [3, 16]"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(StateDict::of(&clone).unwrap(), before, "nothing is half loaded");
}

#[test]
fn another_architecture_does_not_fit() {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let other = CifarResNetConfig { width: 2, blocks: 1, classes: 3 }
        .init(&[0.5; 3], &[0.25; 3], &Device::flex(), &mut rng)
        .unwrap();
    let found = mismatch(StateDict::of(&net(1)).unwrap().load_into(other).unwrap_err());
    assert!(found.missing.is_empty() && found.left_over.len() > 10 && !found.misshapen.is_empty());
    let found = mismatch(StateDict::new().load_into(net(1)).unwrap_err());
    assert_eq!(found.missing.len(), StateDict::of(&net(1)).unwrap().len());
}

#[test]
fn values_that_are_not_finite_are_refused_by_name_and_number() {
    let mut state = StateDict::of(&net(1)).unwrap();
    for (name, value) in [("conv1.weight", f32::NAN), ("bn1.running_var", f32::INFINITY)] {
        let mut tensor = state.remove(name).unwrap();
        tensor.values[..2].fill(value);
        state.insert(name, tensor).unwrap();
    }
    let error = state.load_into(net(2)).unwrap_err();
    assert_eq!(error.code(), "E_NONFINITE");
    match &error {
        CheckpointError::NonFinite { tensors } => {
            assert_eq!(tensors, &[("bn1.running_var".into(), 2), ("conv1.weight".into(), 2)]);
        }
        other => panic!("{other}"),
    }
    let loaded = state.load_into_with(net(2), NonFinite::Allow).unwrap();
    let again = StateDict::of(&loaded).unwrap();
    assert!(again.get("conv1.weight").unwrap().values[0].is_nan());
}

#[test]
fn values_must_fill_their_shape_and_names_be_new() {
    let mut state = StateDict::new();
    let error = state.insert("w", HostTensor { shape: vec![2, 2], values: vec![1.0; 3] }).unwrap_err();
    assert!(matches!(error, CheckpointError::Length { got: 3, .. }), "{error}");
    let huge = HostTensor { shape: vec![usize::MAX, 2], values: vec![] };
    let error = state.insert("w", huge).unwrap_err();
    assert!(matches!(error, CheckpointError::Length { .. }), "{error}");
    let one = HostTensor { shape: vec![1], values: vec![1.0] };
    state.insert("w", one.clone()).unwrap();
    assert!(matches!(state.insert("w", one), Err(CheckpointError::Duplicate { .. })));
}

#[test]
fn fingerprints_tell_names_shapes_and_values_apart() {
    let with = |name: &str, shape: &[usize], values: &[f32]| {
        let mut state = StateDict::new();
        state.insert(name, HostTensor { shape: shape.to_vec(), values: values.to_vec() }).unwrap();
        state.fingerprint()
    };
    let base = with("a", &[2], &[1.0, 0.0]);
    assert_eq!(base.len(), 64);
    assert_eq!(base, with("a", &[2], &[1.0, 0.0]));
    for other in
        [with("b", &[2], &[1.0, 0.0]), with("a", &[2, 1], &[1.0, 0.0]), with("a", &[2], &[1.0, -0.0])]
    {
        assert_ne!(base, other);
    }
}

#[test]
fn a_checkpoint_without_normalisation_is_completed_from_a_model() {
    let mut state = StateDict::of(&net(1)).unwrap();
    state.remove("normalize.mean");
    state.remove("normalize.std");
    assert_eq!(mismatch(state.load_into(net(2)).unwrap_err()).missing.len(), 2);
    state.complete_from(&StateDict::of(&net(2)).unwrap(), "normalize.");
    let loaded = state.load_into(net(2)).unwrap();
    assert_eq!(StateDict::of(&loaded).unwrap().get("conv1.weight"), state.get("conv1.weight"));
}

#[test]
fn masks_find_their_parameters() {
    let mut masks = MaskMap::default();
    let mask = |shape: &[usize], ones: usize| {
        let n = shape.iter().product();
        Mask { shape: shape.to_vec(), keep: (0..n).map(|i| i < ones).collect() }
    };
    masks.insert("fc.weight".into(), mask(&[3, 16], 16));
    masks.insert("conv1.weight".into(), mask(&[2, 3, 3, 3], 5));
    let found = masks.for_module(&net(0)).unwrap();
    // The first row on disk is the first column in memory.
    let head = &found[&"fc.weight".into()];
    assert_eq!(head.shape, [16, 3]);
    assert!(head.keep.iter().enumerate().all(|(i, &keep)| keep == (i % 3 == 0)));
    assert_eq!(found[&"conv1.weight".into()].keep.iter().filter(|k| **k).count(), 5);

    masks.insert("fc.weights".into(), mask(&[1], 1));
    masks.insert("bn1.bias".into(), mask(&[5], 1));
    masks.insert("fc.weight".into(), Mask { shape: vec![3, 16], keep: vec![true; 47] });
    let found = mismatch(masks.for_module(&net(0)).unwrap_err());
    assert_eq!(found.left_over, [("fc.weights".into(), Some("fc.weight".into()))]);
    let misshapen = [("bn1.bias".into(), vec![5], vec![2]), ("fc.weight".into(), vec![47], vec![3, 16])];
    assert_eq!(found.misshapen, misshapen);
}

#[derive(Module, Debug)]
struct Custom {
    norm: LayerNorm,
    dense: Linear,
}

#[test]
fn layouts_of_other_layers_are_pytorchs() {
    let device = Device::flex();
    let mut custom =
        Custom { norm: LayerNormConfig::new(3).init(&device), dense: LinearConfig::new(3, 2).init(&device) };
    let weight = TensorData::new(vec![1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0], [3, 2]);
    custom.dense.weight = Param::from_data(weight, &device);
    let state = StateDict::of(&custom).unwrap();
    let names: Vec<_> = state.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["dense.bias", "dense.weight", "norm.bias", "norm.weight"]);
    let dense = state.get("dense.weight").unwrap();
    assert_eq!((&dense.shape[..], &dense.values[..]), (&[2, 3][..], &[1.0, 3.0, 5.0, 2.0, 4.0, 6.0][..]));
    let loaded = state.load_into(custom).unwrap();
    let back = loaded.dense.weight.val().into_data().try_into_vec_as::<f32>().unwrap();
    assert_eq!(back, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

#[derive(Module, Debug)]
struct Counting {
    count: Param<Tensor<1, Int>>,
}

#[test]
fn a_parameter_of_integers_is_refused_rather_than_lost() {
    let count = Tensor::<1, Int>::from_data([1, 2], &Device::flex());
    let module = Counting { count: Param::initialized(ParamId::new(), count) };
    let error = StateDict::of(&module).unwrap_err();
    assert!(matches!(&error, CheckpointError::Unsupported { path, .. } if path == "count"), "{error}");
}
