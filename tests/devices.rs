//! The numerical core on a GPU against the CPU: forward, gradients, masked training, curvature.
//!
//! Built with the feature `wgpu` only. `UNLEARN_DEVICE` chooses `wgpu` (the default, and in CI the
//! software Vulkan of Mesa) or, when that feature is built in as well, `vulkan`.

use std::collections::BTreeMap;

use unlearn::burn::module::{Module, ModuleVisitor, Param};
use unlearn::burn::optim::GradientsParams;
use unlearn::burn::tensor::{Device, DeviceKind, Int, Tensor, TensorData};
use unlearn::curvature::oracle::{Oracle, TensorSamples};
use unlearn::curvature::reduce::Algorithm;
use unlearn::curvature::tape::{Tape, Var};
use unlearn::curvature::{FisherDiag, InverseFisher, ParamTree, PathTracker, PerSample};
use unlearn::data::{Dataset, ImageShape, Loader, Normalization, Seed, Stream};
use unlearn::models::{Classifier, ResNet, ResNetConfig, StateDict, Taped, Vit, VitConfig};
use unlearn::prune::score::Magnitude;
use unlearn::prune::{PruneConfig, one_shot};
use unlearn::train::{CrossEntropy, FitConfig, OptimizerConfig, Silent, cross_entropy, fit};

const CLASSES: usize = 4;
const SAMPLES: usize = 12;
const SIZE: usize = 16;

/// Both devices add the same float32 products in another order. A logit sums about 10⁴ of them
/// through 20 layers; √(10⁴ · 20) · 2⁻²⁴ is 3e-5 of the largest, and a factor of ten is left for
/// cancellation.
const TOLERANCE: f64 = 3e-4;

fn gpu() -> Device {
    match std::env::var("UNLEARN_DEVICE").as_deref() {
        #[cfg(feature = "vulkan")]
        Ok("vulkan") => Device::vulkan(DeviceKind::DefaultDevice),
        Ok("wgpu") | Err(_) => Device::wgpu(DeviceKind::DefaultDevice),
        Ok(other) => panic!("UNLEARN_DEVICE is {other}; this binary knows wgpu (and vulkan, if built in)"),
    }
}

fn model(device: &Device) -> ResNet {
    let config = ResNetConfig { blocks: [1, 1, 1, 1], ..ResNetConfig::resnet18(CLASSES).with_width(4) };
    config.init(&[0.5; 3], &[0.25; 3], device, &mut Seed(3).rng(Stream::Init, 0, 0)).unwrap()
}

fn dataset() -> Dataset {
    let mut state = 12345_u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let shape = ImageShape { channels: 3, height: SIZE, width: SIZE };
    let images = (0..SAMPLES * shape.len()).map(|_| byte()).collect();
    let labels = (0..SAMPLES).map(|i| (i % CLASSES) as u16).collect();
    let names = (0..CLASSES).map(|c| c.to_string()).collect();
    Dataset::new("noise", shape, images, labels, names, Normalization::half(3)).unwrap()
}

fn batch(device: &Device) -> (Tensor<4>, Tensor<1, Int>, Vec<usize>) {
    let data = dataset();
    let indices: Vec<usize> = (0..SAMPLES).collect();
    let host = Loader::new(&data, &indices, SAMPLES).unwrap().epoch(0).next().unwrap();
    let batch = host.to_device(device);
    (batch.images, batch.targets, batch.labels)
}

#[track_caller]
fn assert_close(what: &str, got: &[f32], expected: &[f32], tolerance: f64) {
    assert_close_of(what, got, expected, tolerance, f64::MIN_POSITIVE);
}

/// Differences relative to the largest entry, or to `least` where that is more.
#[track_caller]
fn assert_close_of(what: &str, got: &[f32], expected: &[f32], tolerance: f64, least: f64) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = largest(expected).max(least);
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        let off = f64::from((g - e).abs()) / scale;
        assert!(off <= tolerance, "{what}[{i}]: {g} on the GPU, {e} on the CPU: {off:.1e} of the largest");
    }
}

fn largest(values: &[f32]) -> f64 {
    values.iter().fold(f64::MIN_POSITIVE, |most, v| most.max(f64::from(v.abs())))
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec_as::<f32>().unwrap()
}

fn trees_close(what: &str, got: &ParamTree, expected: &ParamTree, tolerance: f64) {
    assert_eq!(got.len(), expected.len());
    assert!(!got.is_empty());
    let all: Vec<_> = expected.iter().map(|(path, leaf)| (path, leaf.to_vec().unwrap())).collect();
    // Some parameters have no gradient but roundings: softmax does not see the bias of keys.
    let least = 1e-3 * all.iter().map(|(_, values)| largest(values)).fold(0.0, f64::max);
    for (path, values) in &all {
        let gpu = got.get(path).unwrap().to_vec().unwrap();
        assert_close_of(&format!("{what} {path}"), &gpu, values, tolerance, least);
    }
}

#[test]
fn logits_in_evaluation() {
    let run = |device: &Device| host(model(device).valid().forward(batch(device).0));
    assert_close("logits", &run(&gpu()), &run(&Device::flex()), TOLERANCE);
}

#[test]
fn gradients_in_training() {
    let run = |device: &Device| {
        let model = model(device).valid().train();
        let (images, targets, _) = batch(&device.clone().autodiff());
        let loss = cross_entropy(model.forward(images), targets, 0.0).mean();
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        ParamTree::of_gradients(&model, &gradients)
    };
    // Batch norm over twelve noisy pictures divides by small deviations; see the constant.
    trees_close("gradient", &run(&gpu()), &run(&Device::flex()), 10.0 * TOLERANCE);
}

#[test]
fn masked_training_keeps_exact_zeros_and_follows_the_cpu() {
    let run = |device: &Device| {
        let model = model(device).valid();
        let masks = one_shot(&model, &Magnitude, &PruneConfig::new(0.5), None).unwrap();
        let data = dataset();
        let loader = Loader::new(&data, &(0..SAMPLES).collect::<Vec<_>>(), 6).unwrap();
        let sgd = OptimizerConfig::Sgd { momentum: 0.9, weight_decay: 5e-4, nesterov: false };
        let constraint = masks.constraint(&model).unwrap();
        let config = FitConfig::new(2, 0.01, sgd);
        let fit = fit(model, &loader, &CrossEntropy::default(), &constraint, &config, &mut Silent).unwrap();
        let state = StateDict::of(&fit.model).unwrap();
        let weights = Weights::of(&fit.model);
        let mut pruned = 0;
        for (path, mask) in masks.iter() {
            for (keep, weight) in mask.keep().iter().zip(&weights.0[path.as_str()]) {
                if !keep {
                    pruned += 1;
                    assert_eq!(weight.to_bits(), 0, "{path}: a pruned weight moved");
                }
            }
        }
        assert!(pruned > 100);
        (state, fit.history)
    };
    let (gpu, gpu_history) = run(&gpu());
    let (cpu, cpu_history) = run(&Device::flex());
    for (a, b) in gpu_history.iter().zip(&cpu_history) {
        assert!(
            (a.loss - b.loss).abs() <= 1e-2 * b.loss,
            "loss {} on the GPU, {} on the CPU",
            a.loss,
            b.loss
        );
    }
    for (name, tensor) in cpu.iter() {
        assert_close(name, &gpu.get(name).unwrap().values, &tensor.values, 1e-2);
    }
}

#[test]
fn fisher_diagonal_by_the_oracle() {
    let run = |device: &Device| {
        let model = model(device).valid();
        let (images, _, labels) = batch(device);
        let samples = TensorSamples::new(images, labels).unwrap().slice(0..3).unwrap();
        let oracle = Oracle::new(&model, |model: &ResNet, x: Tensor<4>| model.forward(x)).unwrap();
        oracle.exact(&samples).unwrap().mean()
    };
    trees_close("Fisher", &run(&gpu()), &run(&Device::flex()), 10.0 * TOLERANCE);
}

fn on_tape<M: Taped>(model: &M, images: Var<4>, tape: &mut dyn Tape) -> Var<2> {
    model.forward_on(images, tape)
}

/// All estimators of the engine that are deterministic, and both ways to a diagonal that every device has.
fn engine_follows_the_cpu<M: Classifier + Taped>(what: &str, model: impl Fn(&Device) -> M) {
    struct Found {
        trees: Vec<(&'static str, ParamTree)>,
        numbers: Vec<f32>,
    }
    // One batch: every shape costs a GPU seconds of choosing kernels. Batches are for the CPU's tests.
    let run = |device: &Device| {
        let model = model(device).valid();
        let (images, _, labels) = batch(device);
        let samples = TensorSamples::new(images, labels).unwrap().slice(0..5).unwrap();
        let diagonal = |way: FisherDiag| way.run(&model, on_tape, &samples).unwrap().sum;
        let v = PerSample::new().weighted_gradient(&model, on_tape, &samples, &[0.2; 5]).unwrap();
        let inverse = InverseFisher::woodbury(5).damping(1.0).solve(&model, on_tape, &samples, &v).unwrap();
        let gram = PerSample::new().gram(&model, on_tape, &samples).unwrap();
        let norms = PerSample::new().norms_squared(&model, on_tape, &samples).unwrap();
        Found {
            trees: vec![
                ("exact, products", diagonal(FisherDiag::exact().algorithm(Algorithm::BatchedProduct))),
                ("exact, pairs", diagonal(FisherDiag::exact().algorithm(Algorithm::PairMoment))),
                ("empirical", diagonal(FisherDiag::empirical())),
                ("hybrid", diagonal(FisherDiag::hybrid(1, 1).seed(3))),
                ("gradient", v),
                ("inverse product", inverse.direction),
            ],
            numbers: gram.into_iter().chain(norms).map(|x| x as f32).collect(),
        }
    };
    let (gpu, cpu) = (run(&gpu()), run(&Device::flex()));
    for ((name, gpu), (_, cpu)) in gpu.trees.iter().zip(&cpu.trees) {
        // Squares double an error that logits have, and cotangents come through as many layers again.
        trees_close(&format!("{what}, {name}"), gpu, cpu, 10.0 * TOLERANCE);
    }
    assert_close(&format!("{what}, Gram matrix and norms"), &gpu.numbers, &cpu.numbers, 10.0 * TOLERANCE);
}

#[test]
fn the_engine_on_a_residual_network() {
    engine_follows_the_cpu("ResNet", model);
}

#[test]
fn the_engine_on_a_transformer() {
    let config = VitConfig {
        image: SIZE,
        patch: 4,
        hidden: 8,
        layers: 2,
        heads: 2,
        mlp: 16,
        layer_norm_eps: 1e-6,
        ..VitConfig::tiny_cifar(CLASSES)
    };
    let vit = |device: &Device| -> Vit {
        config.init(&[0.5; 3], &[0.25; 3], device, &mut Seed(3).rng(Stream::Init, 0, 0)).unwrap()
    };
    engine_follows_the_cpu("ViT", vit);
}

/// Host copies of all float parameters by path.
struct Weights(BTreeMap<String, Vec<f32>>, PathTracker);

impl Weights {
    fn of<M: Module>(module: &M) -> Self {
        let mut found = Self(BTreeMap::new(), PathTracker::default());
        module.visit(&mut found);
        found
    }
}

impl ModuleVisitor for Weights {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.1.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.1.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let data: TensorData = param.val().into_data();
        self.0.insert(self.1.path().to_string(), data.try_into_vec_as::<f32>().unwrap());
    }
}
