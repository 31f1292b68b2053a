use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::*;
use crate::{CifarResNetConfig, StateDict, stable_id};

const MEAN: [f32; 3] = [0.4914, 0.4822, 0.4465];
const STD: [f32; 3] = [0.2470, 0.2435, 0.2616];

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn small(seed: u64, device: &Device) -> ResNet {
    let config = ResNetConfig { width: 4, blocks: [1, 2, 1, 1], classes: 5, stem: Stem::Cifar };
    config.init(&MEAN, &STD, device, &mut rng(seed)).unwrap()
}

fn trainable<M: Module>(model: &M) -> u64 {
    unlearn_curvature::parameters(model)
        .iter()
        .filter(|p| p.trainable)
        .map(|p| p.shape.iter().product::<usize>() as u64)
        .sum()
}

fn images(n: usize, side: usize) -> Tensor<4> {
    let values: Vec<f32> = (0..n * 3 * side * side).map(|i| ((i * 37 % 101) as f32) / 100.0).collect();
    Tensor::from_data(TensorData::new(values, [n, 3, side, side]), &Device::flex())
}

#[test]
fn parameter_counts_are_the_published_ones() {
    assert_eq!(ResNetConfig::resnet18(10).num_parameters(), 11_173_962);
    assert_eq!(ResNetConfig::resnet18(100).num_parameters(), 11_220_132);
    assert_eq!(ResNetConfig::resnet18(1000).with_stem(Stem::ImageNet).num_parameters(), 11_689_512);
    assert_eq!(ResNetConfig::resnet34(1000).with_stem(Stem::ImageNet).num_parameters(), 21_797_672);
    assert_eq!(CifarResNetConfig::resnet20(10).num_parameters(), 269_722);
    assert_eq!(CifarResNetConfig::resnet32(10).num_parameters(), 464_154);
    assert_eq!(CifarResNetConfig::resnet44(10).num_parameters(), 658_586);
    assert_eq!(CifarResNetConfig::resnet56(10).num_parameters(), 853_018);
}

#[test]
fn built_models_have_as_many_parameters_as_their_configuration_says() {
    let device = Device::flex();
    for config in [
        ResNetConfig::resnet18(10),
        ResNetConfig::resnet34(7).with_width(4).with_stem(Stem::ImageNet),
        ResNetConfig { width: 3, blocks: [1, 3, 2, 1], classes: 2, stem: Stem::Cifar },
    ] {
        let model = config.init(&MEAN, &STD, &device, &mut rng(0)).unwrap();
        assert_eq!(trainable(&model), config.num_parameters(), "{config:?}");
    }
    for config in [CifarResNetConfig::resnet20(10), CifarResNetConfig { width: 4, blocks: 2, classes: 3 }] {
        let model = config.init(&MEAN, &STD, &device, &mut rng(0)).unwrap();
        assert_eq!(trainable(&model), config.num_parameters(), "{config:?}");
    }
}

#[test]
fn prunable_weights_of_resnet18_are_the_published_number() {
    let model = ResNetConfig::resnet18(10).init(&MEAN, &STD, &Device::flex(), &mut rng(0)).unwrap();
    let convolutions: Vec<_> =
        unlearn_curvature::parameters(&model).into_iter().filter(|p| p.layer == "Conv2d").collect();
    assert_eq!(convolutions.len(), 20);
    let weights: usize = convolutions.iter().map(|p| p.shape.iter().product::<usize>()).sum();
    assert_eq!(weights, 11_159_232);
}

#[test]
fn names_are_torchvisions() {
    let state = StateDict::of(&small(0, &Device::flex())).unwrap();
    let names: Vec<_> = state.iter().map(|(name, _)| name).collect();
    for name in [
        "normalize.mean",
        "normalize.std",
        "conv1.weight",
        "bn1.weight",
        "bn1.bias",
        "bn1.running_mean",
        "bn1.running_var",
        "layer1.0.conv1.weight",
        "layer2.0.downsample.0.weight",
        "layer2.0.downsample.1.running_var",
        "layer2.1.bn2.bias",
        "fc.weight",
        "fc.bias",
    ] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    assert!(!names.iter().any(|n| n.starts_with("layer1.0.downsample") || n.starts_with("maxpool")));
    assert_eq!(state.get("fc.weight").unwrap().shape, [5, 32]);
}

#[test]
fn equal_seeds_give_equal_weights_on_plain_and_autodiff_devices() {
    let a = StateDict::of(&small(7, &Device::flex())).unwrap();
    let b = StateDict::of(&small(7, &Device::flex().autodiff())).unwrap();
    let c = StateDict::of(&small(8, &Device::flex())).unwrap();
    assert_eq!(a, b);
    assert_ne!(a, c);
}

#[test]
fn first_weights_have_the_variance_of_their_rule() {
    let model =
        ResNetConfig::resnet18(10).with_width(16).init(&MEAN, &STD, &Device::flex(), &mut rng(3)).unwrap();
    let state = StateDict::of(&model).unwrap();
    let deviation = |values: &[f32]| {
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        (values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n).sqrt()
    };
    // 147,456 draws: the deviation is known to a part in five hundred.
    let conv = &state.get("layer4.1.conv2.weight").unwrap().values;
    let expected = (2.0 / (128.0 * 9.0_f64)).sqrt();
    assert!((deviation(conv) / expected - 1.0).abs() < 0.01, "{} {expected}", deviation(conv));
    let shortcut = &state.get("layer4.0.downsample.0.weight").unwrap().values;
    let expected = (2.0 / 128.0_f64).sqrt();
    assert!((deviation(shortcut) / expected - 1.0).abs() < 0.05, "{} {expected}", deviation(shortcut));
    let bound = 1.0 / 128.0_f32.sqrt();
    let head = &state.get("fc.weight").unwrap().values;
    assert!(head.iter().all(|w| w.abs() <= bound) && head.iter().any(|w| w.abs() > 0.9 * bound));
    assert!(state.get("bn1.weight").unwrap().values.iter().all(|&w| w == 1.0));
}

#[test]
fn identifiers_follow_from_paths() {
    let a = unlearn_curvature::parameters(&small(0, &Device::flex()));
    let b = unlearn_curvature::parameters(&small(1, &Device::flex().autodiff()));
    let mut checked = 0;
    for (a, b) in a.iter().zip(&b).filter(|(a, _)| a.trainable) {
        assert_eq!((&a.path, a.id), (&b.path, b.id));
        assert_eq!(a.id, stable_id(a.path.as_str()));
        checked += 1;
    }
    assert!(checked > 30, "{checked}");
}

#[test]
fn normalisation_constants_never_train() {
    let model = small(0, &Device::flex().autodiff());
    let constants = |model: &ResNet| {
        unlearn_curvature::parameters(model)
            .into_iter()
            .filter(|p| p.path.as_str().starts_with("normalize."))
            .map(|p| p.trainable)
            .collect::<Vec<_>>()
    };
    assert_eq!(constants(&model), [false, false]);
    assert_eq!(constants(&model.valid().train().valid()), [false, false]);
}

#[test]
fn logits_have_the_documented_shape_for_every_stem_and_size() {
    let device = Device::flex();
    assert_eq!(small(0, &device).forward(images(2, 32)).dims(), [2, 5]);
    let config = ResNetConfig::resnet18(4).with_width(4).with_stem(Stem::ImageNet);
    let model = config.init(&MEAN, &STD, &device, &mut rng(0)).unwrap();
    assert_eq!(model.forward(images(2, 64)).dims(), [2, 4]);
    let config = CifarResNetConfig::resnet20(3).with_width(4);
    let model = config.init(&MEAN, &STD, &device, &mut rng(0)).unwrap();
    assert_eq!(model.forward(images(1, 32)).dims(), [1, 3]);
    assert_eq!(model.num_classes(), 3);
}

#[test]
fn a_plain_model_never_moves_its_running_statistics() {
    let model = small(0, &Device::flex());
    let before = StateDict::of(&model).unwrap();
    let _ = model.forward(images(4, 16).autodiff());
    let _ = model.forward(images(4, 16));
    assert_eq!(StateDict::of(&model).unwrap(), before);
}

#[test]
fn a_training_model_moves_its_running_statistics() {
    let model = small(0, &Device::flex().autodiff());
    let before = StateDict::of(&model).unwrap();
    let _ = model.forward(images(4, 16).autodiff());
    let after = StateDict::of(&model).unwrap();
    assert_ne!(before.get("bn1.running_mean"), after.get("bn1.running_mean"));
    assert_eq!(before.get("conv1.weight"), after.get("conv1.weight"));
}

#[test]
fn bad_configurations_name_their_field() {
    let good = ResNetConfig::resnet18(10);
    let field = |config: ResNetConfig| match config.validate() {
        Err(ModelError::Config { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(field(good.with_width(0)), "width");
    assert_eq!(field(good.with_width(4000)), "width");
    assert_eq!(field(ResNetConfig { blocks: [2, 0, 2, 2], ..good }), "blocks");
    assert_eq!(field(ResNetConfig { classes: 1, ..good }), "classes");
    let cifar = CifarResNetConfig::resnet20(10).with_width(5).validate();
    assert!(matches!(cifar, Err(ModelError::Config { field: "width", .. })), "{cifar:?}");
    let device = Device::flex();
    for (mean, std) in [
        (vec![], vec![]),
        (vec![0.5; 3], vec![0.5; 2]),
        (vec![f32::NAN; 3], vec![1.0; 3]),
        (vec![0.5; 3], vec![1.0, 0.0, 1.0]),
    ] {
        let error = good.with_width(4).init(&mean, &std, &device, &mut rng(0)).unwrap_err();
        assert!(error.to_string().contains("normalize"), "{error}");
    }
}

#[test]
fn unknown_keys_are_refused() {
    let text = r#"{"name": "resnet", "blocks": [1,1,1,1], "classes": 3, "widht": 8}"#;
    let error = serde_json::from_str::<ModelConfig>(text).unwrap_err().to_string();
    assert!(error.contains("widht"), "{error}");
    let config = ModelConfig::preset("resnet34", 10).unwrap();
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<ModelConfig>(&text).unwrap(), config);
    let error = ModelConfig::preset("resnet81", 10).unwrap_err().to_string();
    assert!(error.contains("did you mean `resnet18`"), "{error}");
}

/// Counts what runs.
#[derive(Default)]
struct Counting(std::collections::BTreeMap<String, usize>);

impl Tape for Counting {
    fn run(
        &mut self,
        op: unlearn_curvature::tape::Op<'_>,
        inputs: unlearn_curvature::tape::Inputs,
    ) -> unlearn_curvature::tape::ErasedVar {
        if let Some(apart) = op.apart() {
            return apart.run(inputs, self);
        }
        let name = format!("{op:?}").split(['(', ' ']).next().unwrap_or_default().to_owned();
        *self.0.entry(name).or_default() += 1;
        unlearn_curvature::tape::ErasedVar::untracked(op.compute(inputs.into_values()))
    }
}

#[test]
fn the_whole_network_runs_on_any_tape() {
    let device = Device::flex();
    let config = ResNetConfig::resnet18(4).with_width(2).with_stem(Stem::ImageNet);
    let residual = config.init(&MEAN, &STD, &device, &mut rng(0)).unwrap();
    let cifar = CifarResNetConfig { width: 2, blocks: 2, classes: 4 };
    let cifar = cifar.init(&MEAN, &STD, &device, &mut rng(0)).unwrap();
    let count = |model: &ResNet| {
        let mut counting = Counting::default();
        let tape: &mut dyn Tape = &mut counting;
        let x = tape.constant(images(2, 32));
        let logits = model.taped().unwrap().forward_on(x, tape).into_value();
        let same = logits.into_data() == model.forward(images(2, 32)).into_data();
        assert!(same, "another tape, another result");
        let mut of = |name: &str| counting.0.remove(name).unwrap_or_default();
        let counts = ["Conv2d", "BatchNorm", "Relu", "Add", "SubsamplePad", "MaxPool2d"].map(&mut of);
        assert_eq!(["Normalize", "GlobalAvgPool", "Linear"].map(of), [1, 1, 1]);
        counts
    };
    assert_eq!(count(&residual), [20, 20, 17, 8, 0, 1]);
    assert_eq!(count(&cifar), [13, 13, 13, 6, 2, 0]);
}
