mod folders;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use unlearn_curvature::tape::{ErasedVar, Inputs, Op, Tape};

use super::*;
use crate::{Classifier, HostTensor, StateDict, stable_id};

const MEAN: [f32; 3] = [0.5, 0.4, 0.6];
const STD: [f32; 3] = [0.5, 0.25, 0.2];

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// Two blocks of 12 features on pictures of 8×8.
fn small() -> VitConfig {
    VitConfig {
        image: 8,
        patch: 4,
        hidden: 12,
        layers: 2,
        heads: 3,
        mlp: 20,
        classes: 5,
        ..VitConfig::tiny_cifar(5)
    }
}

fn built(config: &VitConfig, seed: u64, device: &Device) -> Vit {
    config.init(&MEAN, &STD, device, &mut rng(seed)).unwrap()
}

fn images(n: usize, side: usize) -> Tensor<4> {
    let values: Vec<f32> = (0..n * 3 * side * side).map(|i| ((i * 37 % 101) as f32) / 100.0).collect();
    Tensor::from_data(TensorData::new(values, [n, 3, side, side]), &Device::flex())
}

fn host<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_into_vec_as::<f32>().unwrap()
}

/// Every value another one, so that no swap goes unseen.
fn numbered(model: Vit) -> Vit {
    let mut state = StateDict::new();
    for (place, (name, tensor)) in StateDict::of(&model).unwrap().iter().enumerate() {
        let shift = if name.starts_with("normalize.") { 1.0 } else { 0.0 };
        let value = |i: usize| shift + ((place * 1009 + i) as f32 * 12.9898).sin() * 0.3;
        let values = (0..tensor.values.len()).map(value).collect();
        state.insert(name, HostTensor { shape: tensor.shape.clone(), values }).unwrap();
    }
    state.load_into(model).unwrap()
}

#[test]
fn parameter_counts_are_the_published_ones() {
    assert_eq!(VitConfig::base_16_224(10).num_parameters(), 85_806_346);
    assert_eq!(VitConfig::base_16_224(1000).num_parameters(), 86_567_656);
    assert_eq!(VitConfig::small_16_224(1000).num_parameters(), 22_050_664);
    assert_eq!(VitConfig::small_16_224(10).num_parameters(), 21_669_514);
    assert_eq!(VitConfig::tiny_cifar(10).num_parameters(), 811_146);
}

#[test]
fn built_models_have_as_many_parameters_as_their_configuration_says() {
    for config in [small(), VitConfig { pooling: Pooling::Mean, ..small() }, VitConfig::tiny_cifar(10)] {
        let parameters = unlearn_curvature::parameters(&built(&config, 0, &Device::flex()));
        let trainable = parameters.iter().filter(|p| p.trainable);
        let count: usize = trainable.map(|p| p.shape.iter().product::<usize>()).sum();
        assert_eq!(count as u64, config.num_parameters(), "{config:?}");
        // What pruning by `dense` is about: six in each block.
        let linears =
            parameters.iter().filter(|p| p.layer == "Linear" && p.path.as_str().ends_with(".weight"));
        assert_eq!(linears.count(), 6 * config.layers + 1);
    }
}

#[test]
fn names_are_hugging_faces() {
    let state = StateDict::of(&built(&small(), 0, &Device::flex())).unwrap();
    let mut expected: Vec<String> =
        ["normalize.mean", "normalize.std", "classifier.weight", "classifier.bias"]
            .map(str::to_owned)
            .to_vec();
    for name in ["cls_token", "position_embeddings"] {
        expected.push(format!("vit.embeddings.{name}"));
    }
    let mut layers = vec!["embeddings.patch_embeddings.projection".to_owned(), "layernorm".to_owned()];
    for block in 0..2 {
        let inner = [
            "attention.attention.query",
            "attention.attention.key",
            "attention.attention.value",
            "attention.output.dense",
            "intermediate.dense",
            "output.dense",
            "layernorm_before",
            "layernorm_after",
        ];
        layers.extend(inner.map(|name| format!("encoder.layer.{block}.{name}")));
    }
    expected.extend(layers.iter().flat_map(|l| ["weight", "bias"].map(|kind| format!("vit.{l}.{kind}"))));
    expected.sort();
    assert_eq!(state.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>(), expected);
    let shape = |name: &str| state.get(name).unwrap().shape.clone();
    assert_eq!(shape("vit.embeddings.position_embeddings"), [1, 5, 12]);
    assert_eq!(shape("vit.encoder.layer.1.intermediate.dense.weight"), [20, 12]);
    let mean = VitConfig { pooling: Pooling::Mean, ..small() };
    let state = StateDict::of(&built(&mean, 0, &Device::flex())).unwrap();
    assert_eq!(state.get("vit.embeddings.position_embeddings").unwrap().shape, [1, 4, 12]);
    assert!(state.get("vit.embeddings.cls_token").is_none());
}

#[test]
fn equal_seeds_give_equal_weights_on_plain_and_autodiff_devices() {
    let of = |seed, device: &Device| StateDict::of(&built(&small(), seed, device)).unwrap();
    let first = of(7, &Device::flex());
    assert_eq!(first, of(7, &Device::flex().autodiff()));
    assert_ne!(first, of(8, &Device::flex()));
    let parameters = |seed, device: &Device| unlearn_curvature::parameters(&built(&small(), seed, device));
    let (a, b) = (parameters(0, &Device::flex()), parameters(1, &Device::flex().autodiff()));
    for (a, b) in a.iter().zip(&b) {
        assert_eq!((&a.path, a.id, a.trainable), (&b.path, b.id, b.trainable));
        assert_eq!(a.id, stable_id(a.path.as_str()));
        assert_eq!(a.trainable, !a.path.as_str().starts_with("normalize."));
    }
}

#[test]
fn first_weights_are_normal_with_a_deviation_of_a_fiftieth() {
    let state = StateDict::of(&built(&VitConfig::tiny_cifar(10), 3, &Device::flex())).unwrap();
    for (name, tensor) in state.iter().filter(|(name, _)| !name.starts_with("normalize.")) {
        let values = &tensor.values;
        if name.ends_with("bias") {
            assert!(values.iter().all(|&v| v == 0.0), "{name}");
        } else if name.contains("layernorm") {
            assert!(values.iter().all(|&v| v == 1.0), "{name}");
        } else {
            let n = values.len() as f64;
            let square = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / n;
            // The mean of n squares of deviation σ has the deviation σ² √(2/n); six of them.
            assert!((square / 4e-4 - 1.0).abs() < 6.0 * (2.0 / n).sqrt(), "{name}: {square}");
        }
    }
}

#[test]
fn logits_have_the_documented_shape_and_see_every_picture_alone() {
    for pooling in [Pooling::ClassToken, Pooling::Mean] {
        let model = numbered(built(&VitConfig { pooling, ..small() }, 0, &Device::flex()));
        let logits = model.forward(images(3, 8));
        assert_eq!((logits.dims(), model.num_classes()), ([3, 5], 5));
        let alone = model.forward(images(3, 8).narrow(0, 1, 1));
        let (logits, alone) = (host(logits.narrow(0, 1, 1)), host(alone));
        assert!(logits.iter().zip(&alone).all(|(a, b)| (a - b).abs() < 1e-5), "{logits:?} {alone:?}");
    }
}

/// Counts what runs.
#[derive(Default)]
struct Counting(std::collections::BTreeMap<String, usize>);

impl Tape for Counting {
    fn run(&mut self, op: Op<'_>, inputs: Inputs) -> ErasedVar {
        let name = format!("{op:?}").split(['(', ' ']).next().unwrap_or_default().to_owned();
        *self.0.entry(name).or_default() += 1;
        ErasedVar::untracked(op.compute(inputs.into_values()))
    }
}

#[test]
fn the_whole_network_runs_on_any_tape() {
    let model = numbered(built(&small(), 0, &Device::flex()));
    let mut counting = Counting::default();
    let tape: &mut dyn Tape = &mut counting;
    let x = tape.constant(images(2, 8));
    let logits = model.taped().unwrap().forward_on(x, tape).into_value();
    assert_eq!(host(logits), host(model.forward(images(2, 8))));
    let expected = [
        ("Add", 4),
        ("Attention", 2),
        ("ClassToken", 1),
        ("Conv2d", 1),
        ("Dropout", 5),
        ("Gelu", 2),
        ("LayerNorm", 5),
        ("Linear", 13),
        ("Normalize", 1),
        ("Pool", 1),
        ("Position", 1),
        ("Tokens", 1),
    ];
    assert_eq!(counting.0, expected.map(|(name, count)| (name.to_owned(), count)).into());
}

#[test]
fn dropout_draws_in_training_only() {
    let config = VitConfig { dropout: 0.5, ..small() };
    let model = numbered(built(&config, 0, &Device::flex().autodiff()));
    let train = || host(model.forward(images(2, 8).autodiff()));
    assert_ne!(train(), train());
    let plain = host(model.valid().forward(images(2, 8)));
    let without = numbered(built(&small(), 0, &Device::flex()));
    assert_eq!(plain, host(without.forward(images(2, 8))));
    // Burn computes layer norms and softmax in another order where gradients are followed.
    let followed = host(model.valid().forward(images(2, 8).autodiff()));
    assert!(plain.iter().zip(&followed).all(|(a, b)| (a - b).abs() < 1e-5), "{plain:?} {followed:?}");
}

#[test]
fn bad_configurations_name_their_field() {
    let good = small();
    good.validate().unwrap();
    let bad = [
        ("image", VitConfig { image: 0, ..good }),
        ("image", VitConfig { image: 10, ..good }),
        ("patch", VitConfig { patch: 0, ..good }),
        ("patch", VitConfig { patch: 9, ..good }),
        ("hidden", VitConfig { hidden: 0, ..good }),
        ("hidden", VitConfig { hidden: 13, ..good }),
        ("layers", VitConfig { layers: 0, ..good }),
        ("heads", VitConfig { heads: 0, ..good }),
        ("heads", VitConfig { heads: 24, ..good }),
        ("mlp", VitConfig { mlp: 0, ..good }),
        ("classes", VitConfig { classes: 1, ..good }),
        ("dropout", VitConfig { dropout: 1.0, ..good }),
        ("dropout", VitConfig { dropout: f64::NAN, ..good }),
        ("layer_norm_eps", VitConfig { layer_norm_eps: 0.0, ..good }),
        ("layer_norm_eps", VitConfig { layer_norm_eps: f64::INFINITY, ..good }),
        ("width", VitConfig { hidden: 60_000, heads: 1, mlp: 100_000, ..good }),
    ];
    for (expected, config) in bad {
        let error = config.init(&MEAN, &STD, &Device::flex(), &mut rng(0)).unwrap_err();
        let ModelError::Config { field, .. } = &error else { panic!("{error:?}") };
        assert_eq!(*field, expected, "{error}");
    }
    let error = good.init(&[0.5; 3], &[0.5; 2], &Device::flex(), &mut rng(0)).unwrap_err();
    assert!(error.to_string().contains("normalize"), "{error}");
}

#[test]
fn a_recipe_names_it_and_a_slip_is_refused() {
    let text = r#"{"name": "vit", "image": 32, "patch": 4, "hidden": 64, "layers": 2, "heads": 4, "mlp": 128, "classes": 10"#;
    let read = |rest: &str| serde_json::from_str::<ModelConfig>(&format!("{text}{rest}}}"));
    let ModelConfig::Vit(config) = read("").unwrap() else { panic!("another model") };
    assert_eq!((config.pooling, config.dropout, config.layer_norm_eps), (Pooling::ClassToken, 0.0, 1e-12));
    let whole = r#", "pooling": "mean", "dropout": 0.1, "layer_norm_eps": 1e-6, "activation": "gelu""#;
    let config = read(whole).unwrap();
    assert_eq!(
        serde_json::from_str::<ModelConfig>(&serde_json::to_string(&config).unwrap()).unwrap(),
        config
    );
    for (slip, said) in [
        (r#", "activation": "relu""#, "relu"),
        (r#", "pooling": "max""#, "max"),
        (r#", "headz": 4"#, "headz"),
    ] {
        let error = read(slip).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    for name in ["vit-tiny-cifar", "vit-small-16-224", "vit-base-16-224"] {
        let preset = ModelConfig::preset(name, 7).unwrap();
        preset.validate().unwrap();
        assert_eq!(preset.classes(), 7);
        preset.with_width(2).validate().unwrap();
    }
    let error = ModelConfig::preset("vit-tiny-cifer", 7).unwrap_err().to_string();
    assert!(error.contains("did you mean `vit-tiny-cifar`"), "{error}");
}
