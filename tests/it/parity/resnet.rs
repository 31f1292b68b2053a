//! The residual network against PyTorch: evaluation, training mode, gradients, three SGD steps.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};
use unlearn::curvature::{ParamTree, parameters};
use unlearn::data::{Batch, Dataset, ImageShape, Loader, Normalization, Seed, Stream};
use unlearn::models::{Classifier, HostTensor, ResNet, ResNetConfig, StateDict, Stem, checkpoint};
use unlearn::train::{FitConfig, Loss, Moment, Objective, OptimizerConfig, Silent, Unconstrained, fit};

use crate::goldens::{Array, Goldens, Named, assert_close, assert_close_as_far_as_posed};

/// A network of the goldens' sizes with weights of our own.
pub(super) fn fresh(goldens: &Goldens, device: &Device) -> ResNet {
    let spec = goldens.resnet();
    let channels = goldens.tensors("resnet.safetensors")["normalize.mean"].values.len();
    let config =
        ResNetConfig { width: spec.width, blocks: spec.blocks, classes: spec.classes, stem: Stem::Cifar };
    // Other constants than the goldens', so that a file without them cannot pass.
    let (mean, std) = (vec![0.0; channels], vec![1.0; channels]);
    config.init(&mean, &std, device, &mut Seed(99).rng(Stream::Init, 0, 0)).unwrap()
}

pub(super) fn loaded(goldens: &Goldens, device: &Device) -> ResNet {
    let state = StateDict::read_safetensors(goldens.path("resnet.safetensors")).unwrap();
    state.load_into(fresh(goldens, device)).unwrap()
}

pub(super) fn images(x: &Array, device: &Device) -> Tensor<4> {
    let shape: [usize; 4] = x.shape.clone().try_into().unwrap();
    Tensor::from_data(TensorData::new(x.f32(), shape), device)
}

fn targets(y: &Array, device: &Device) -> Tensor<1, Int> {
    let labels: Vec<i32> = y.values.iter().map(|&v| v as i32).collect();
    let n = labels.len();
    Tensor::from_data(TensorData::new(labels, [n]), device)
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec_as::<f32>().unwrap()
}

/// Mean cross-entropy, written out: `−(1/n) Σᵢ log softmax(zᵢ)[yᵢ]`.
fn cross_entropy(logits: Tensor<2>, y: Tensor<1, Int>) -> Tensor<1> {
    let log_p = burn::tensor::activation::log_softmax(logits, 1);
    log_p.gather(1, y.unsqueeze_dim::<2>(1)).mean().neg()
}

/// A tree of Burn paths under PyTorch's names and in its layouts: the tree is written into a copy
/// of the model, of which the state dict is taken.
pub(super) fn on_disk(tree: &ParamTree, model: &ResNet) -> StateDict {
    StateDict::of(&tree.write_into(model).unwrap()).unwrap()
}

/// Logits and gradients, under PyTorch's names, of one batch in training mode.
fn train_mode(goldens: &Goldens, samples: usize, device: &Device) -> (Vec<f32>, StateDict) {
    let io = goldens.tensors("resnet_io.safetensors");
    train_mode_on(goldens, &io["x"].first(samples), &io["y"].first(samples), device)
}

fn train_mode_on(goldens: &Goldens, x: &Array, y: &Array, device: &Device) -> (Vec<f32>, StateDict) {
    let training = device.clone().autodiff();
    let model = loaded(goldens, device).train();
    let logits = model.forward(images(x, &training));
    let host_logits = host(logits.clone().inner());
    let loss = cross_entropy(logits, targets(y, &training));
    let gradients = GradientsParams::from_grads(loss.backward(), &model);
    (host_logits, on_disk(&ParamTree::of_gradients(&model, &gradients), &model))
}

#[test]
fn forward_and_gradients_are_pytorchs() {
    let Some(goldens) = Goldens::open() else { return };
    let io = goldens.tensors("resnet_io.safetensors");
    let device = Device::flex();
    let model = loaded(&goldens, &device);
    let logits = host(model.forward(images(&io["x"], &device)));
    assert_close("logits_eval", &logits, &io["logits_eval"], 1e-4);

    let (logits, gradients) = train_mode(&goldens, io["x"].shape[0], &device);
    assert_close("logits_train", &logits, &io["logits_train"], 1e-4);
    let expected = strip("grad_train.", &io);
    let named = |gradients: &StateDict| -> Named {
        expected.keys().map(|name| (name.clone(), gradients.get(name).unwrap().values.clone())).collect()
    };
    for (name, expected) in &expected {
        assert_eq!(gradients.get(name).unwrap().shape, expected.shape, "{name}");
    }
    let again = |seed| {
        let x = io["x"].with_other_last_bits(seed);
        named(&train_mode_on(&goldens, &x, &io["y"], &device).1)
    };
    assert_close_as_far_as_posed("gradient of", &named(&gradients), &expected, |_| 1e-4, again);
    assert_eq!(expected.len(), parameters(&model).iter().filter(|p| p.trainable).count());
}

/// The tensors under a prefix, without it.
fn strip(prefix: &str, tensors: &BTreeMap<String, Array>) -> BTreeMap<String, Array> {
    let named = tensors
        .iter()
        .filter_map(|(name, array)| name.strip_prefix(prefix).map(|name| (name.to_owned(), array.clone())));
    named.filter(|(name, _)| !name.ends_with("num_batches_tracked")).collect()
}

/// The other CPU backend is an independent oracle, but too slow for all samples.
#[test]
fn forward_and_gradients_are_the_same_on_ndarray() {
    let Some(goldens) = Goldens::open() else { return };
    let io = goldens.tensors("resnet_io.safetensors");
    #[allow(deprecated)]
    let device = Device::ndarray();
    let samples = 8;
    let logits = host(loaded(&goldens, &device).forward(images(&io["x"].first(samples), &device)));
    assert_close("logits_eval", &logits, &io["logits_eval"].first(samples), 1e-4);

    let (logits, gradients) = train_mode(&goldens, samples, &device);
    let (expected_logits, expected) = train_mode(&goldens, samples, &Device::flex());
    let array = |values: &[f32]| Array {
        shape: vec![values.len()],
        values: values.iter().map(|&v| f64::from(v)).collect(),
    };
    assert_close("logits_train", &logits, &array(&expected_logits), 1e-4);
    for info in parameters(&loaded(&goldens, &Device::flex())).iter().filter(|p| p.layer == "Conv2d") {
        let name = info.path.as_str();
        let (got, expected) = (gradients.get(name).unwrap(), expected.get(name).unwrap());
        assert_close(&format!("gradient of {name}"), &got.values, &array(&expected.values), 1e-4);
    }
}

#[test]
fn every_name_of_the_file_is_used() {
    let Some(goldens) = Goldens::open() else { return };
    let model = loaded(&goldens, &Device::flex());
    let state = StateDict::of(&model).unwrap();
    let file = goldens.tensors("resnet.safetensors");
    let mut used = 0;
    for (name, expected) in &file {
        if name.ends_with("num_batches_tracked") {
            continue;
        }
        let got = state.get(name).unwrap_or_else(|| panic!("{name} is not used"));
        assert_eq!((&got.shape, &got.values), (&expected.shape, &expected.f32()), "{name}");
        used += 1;
    }
    assert_eq!(used, state.len());
}

#[test]
fn a_file_that_was_written_and_read_again_has_the_same_bits() {
    let Some(goldens) = Goldens::open() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let model = loaded(&goldens, &Device::flex());
    let state = StateDict::of(&model).unwrap();
    state.write_safetensors(&path).unwrap();
    let again = checkpoint::read(&path).unwrap().state;
    let bits = |t: &HostTensor| t.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    for ((name_a, a), (name_b, b)) in state.iter().zip(again.iter()) {
        assert_eq!((name_a, &a.shape, bits(a)), (name_b, &b.shape, bits(b)));
    }
    assert_eq!(state.len(), again.len());
    assert_eq!(state.fingerprint(), again.fingerprint());
    let fresh = fresh(&goldens, &Device::flex());
    assert_ne!(StateDict::of(&fresh).unwrap(), state);
    assert_eq!(StateDict::of(&again.load_into(fresh).unwrap()).unwrap(), state);
}

/// Cross-entropy on the goldens' pictures, which are no bytes and so fit no data set.
struct OnGoldens {
    x: Array,
    y: Array,
}

impl Objective<ResNet> for OnGoldens {
    fn loss(&self, model: &ResNet, batch: &Batch, _: Moment) -> Loss {
        let device = batch.images.device();
        let logits = model.forward(images(&self.x, &device));
        let value = cross_entropy(logits.clone(), targets(&self.y, &device));
        Loss { value, logits }
    }
}

/// How many places of a batch `x` the normalization `name` sees: stages from the second on halve the
/// pictures.
fn places(name: &str, x: &Array) -> f64 {
    let stage = name.strip_prefix("layer").map_or(1, |rest| rest[..1].parse::<usize>().unwrap());
    let side = |full: usize| (1..stage).fold(full, |side, _| side.div_ceil(2));
    (x.shape[0] * side(x.shape[2]) * side(x.shape[3])) as f64
}

const LOSSES: &str = "losses_train";

#[test]
fn three_sgd_steps_are_pytorchs() {
    let Some(goldens) = Goldens::open() else { return };
    let io = goldens.tensors("resnet_io.safetensors");
    let mut expected = strip("after3.", &io);
    expected.insert(LOSSES.into(), io[LOSSES].clone());
    // Burn moves the running variance by the biased variance of the batch, PyTorch by the unbiased
    // one, which is 1 / (N − 1) larger over N places: at most 1 / N of the result.
    let tolerance =
        |name: &str| 1e-4 + if name.ends_with("running_var") { 1.0 / places(name, &io["x"]) } else { 0.0 };
    let named = |x: &Array| -> Named {
        let (losses, state) = three_steps(&goldens, x, &io["y"]);
        let tensors = state.iter().map(|(name, tensor)| (name.to_owned(), tensor.values.clone()));
        tensors.chain([(LOSSES.to_owned(), losses)]).collect()
    };
    let again = |seed| named(&io["x"].with_other_last_bits(seed));
    let got = named(&io["x"]);
    // Before the first step no weight has moved, and a loss has no kinks to jump at.
    assert_close("first loss", &got[LOSSES][..1], &io[LOSSES].first(1), 1e-4);
    assert_close_as_far_as_posed("after three steps", &got, &expected, tolerance, again);
}

/// Losses, and the network's tensors after three steps of SGD.
fn three_steps(goldens: &Goldens, x: &Array, y: &Array) -> (Vec<f32>, StateDict) {
    let spec = goldens.resnet();
    // One batch an epoch, so that an epoch's loss is a step's.
    let shape = ImageShape { channels: x.shape[1], height: x.shape[2], width: x.shape[3] };
    let labels: Vec<_> = y.values.iter().map(|&v| v as _).collect();
    let names = (0..spec.classes).map(|c| c.to_string()).collect();
    let dataset = Dataset::new(
        "goldens",
        shape,
        vec![0; spec.samples * shape.len()],
        labels,
        names,
        Normalization::half(shape.channels),
    )
    .unwrap();
    let indices: Vec<usize> = (0..spec.samples).collect();
    let loader = Loader::new(&dataset, &indices, spec.samples).unwrap();
    let optimizer = OptimizerConfig::Sgd { momentum: 0.9, weight_decay: 5e-4, nesterov: false };
    let config = FitConfig::new(3, 0.1, optimizer);
    let model = loaded(goldens, &Device::flex());
    let objective = OnGoldens { x: x.clone(), y: y.clone() };
    let result = fit(model, &loader, &objective, &Unconstrained, &config, &mut Silent).unwrap();

    let losses: Vec<f32> = result.history.iter().map(|epoch| epoch.loss as f32).collect();
    (losses, StateDict::of(&result.model).unwrap())
}
