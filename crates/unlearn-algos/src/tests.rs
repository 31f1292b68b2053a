//! Every registered method through the conformance suite, and what each promises beyond it.

mod lora;
mod suite;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use rand::RngExt;
use serde_json::{Value, json};
use unlearn_curvature::{ParamPath, ParamTree, parameters};
use unlearn_data::{
    Augment, Dataset, ForgetSpec, ImageShape, Normalization, Partition, Seed, Split, SplitRule, Stream,
};
use unlearn_models::Classifier;
use unlearn_prune::{MaskSet, PruneConfig, one_shot};
use unlearn_train::{CrossEntropy, FitConfig, OptimizerConfig, Silent, Unconstrained};

use crate::accuracy::accuracy;
use crate::testing::Suite;
use crate::{Outcome, TrainingRecipe, UnlearnError, by_name, cards, registry};

#[derive(Module, Debug)]
struct Net {
    conv: Conv2d,
    norm: BatchNorm,
    deep: Conv2d,
    head: Linear,
}

impl Classifier for Net {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = relu(self.norm.forward(self.conv.forward(images)));
        let x = relu(self.deep.forward(x));
        self.head.forward(x.mean_dims(&[2, 3]).reshape([-1, 6]))
    }

    fn num_classes(&self) -> usize {
        3
    }
}

/// The untrained net, filled on the host: Burn's own initialisation draws from a global generator.
fn fresh() -> Net {
    let device = Device::flex();
    let net = Net {
        conv: Conv2dConfig::new([1, 4], [3, 3]).init(&device),
        norm: BatchNormConfig::new(4).init(&device),
        deep: Conv2dConfig::new([4, 6], [3, 3]).init(&device),
        head: LinearConfig::new(6, 3).init(&device),
    };
    let mut values = ParamTree::of_parameters(&net);
    for (number, (path, leaf)) in values.clone().iter().enumerate() {
        let mut rng = Seed(3).rng(Stream::Init, 0, number as u64);
        let n: usize = leaf.shape.iter().product();
        let drawn = match path.as_str() {
            "norm.gamma" => vec![1.0; n],
            path if leaf.shape.len() == 1 => vec![if path == "norm.beta" { 0.1 } else { 0.0 }; n],
            _ => (0..n).map(|_| rng.random_range(-0.5_f32..0.5)).collect(),
        };
        values.insert_host(path.clone(), leaf.shape.clone(), drawn, &device).unwrap();
    }
    values.write_into(&net).unwrap()
}

/// Three classes of 8 × 8 pictures: a bright band at a height of the class's own, under noise.
fn dataset() -> Dataset {
    let shape = ImageShape { channels: 1, height: 8, width: 8 };
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for index in 0..48_u64 {
        let class = (index % 3) as u16;
        let mut rng = Seed(5).rng(Stream::Synthetic, 0, index);
        for row in 0..8_u16 {
            for _ in 0..8 {
                let band = if row / 3 == class { 100 } else { 20 };
                images.push(band + rng.random_range(0..100_u8));
            }
        }
        labels.push(class);
    }
    let names = ["top", "middle", "bottom"].map(str::to_owned).to_vec();
    Dataset::new("bands", shape, images, labels, names, Normalization::half(1)).unwrap()
}

fn training() -> TrainingRecipe {
    TrainingRecipe {
        fit: FitConfig::new(6, 0.1, OptimizerConfig::sgd(0.9, 5e-4)),
        batch_size: 8,
        augment: Augment::CropFlip,
        label_smoothing: 0.0,
    }
}

struct Fixture {
    dataset: Dataset,
    partition: Partition,
    model: Net,
    mask: MaskSet,
}

impl Fixture {
    fn new(spec: &ForgetSpec) -> Self {
        let dataset = dataset();
        let split = Split::new(&dataset, SplitRule::None).unwrap();
        let partition = Partition::new(&dataset, &split, spec, Seed(1)).unwrap();
        let loader = unlearn_data::Loader::new(&dataset, split.train(), 8).unwrap().with_shuffle(Seed(1));
        let config = FitConfig::new(8, 0.1, OptimizerConfig::sgd(0.9, 5e-4));
        let objective = CrossEntropy::default();
        let fit =
            unlearn_train::fit(fresh(), &loader, &objective, &Unconstrained, &config, &mut Silent).unwrap();
        let mask = one_shot(&fit.model, &unlearn_prune::Magnitude, &PruneConfig::new(0.5), None).unwrap();
        Self { dataset, partition, model: fit.model, mask }
    }

    fn suite(&self) -> Suite<'_, Net> {
        Suite {
            fresh: &fresh,
            model: self.model.clone(),
            dataset: &self.dataset,
            partition: &self.partition,
            training: training(),
            mask: self.mask.clone(),
            dense: false,
        }
    }

    fn run(
        &self,
        name: &str,
        parameters: Value,
        mask: Option<&MaskSet>,
    ) -> Result<Outcome<Net>, UnlearnError> {
        self.suite().run(by_name::<Net>(name, parameters)?.as_ref(), mask, &self.dataset, 1)
    }

    fn accuracies(&self, model: &Net) -> (f64, f64) {
        let of = |indices| accuracy(model, &self.dataset, indices, 16).unwrap();
        (of(self.partition.forget()), of(self.partition.retain()))
    }
}

fn class_one() -> Fixture {
    Fixture::new(&ForgetSpec::Class(1))
}

fn indices(count: usize) -> ForgetSpec {
    ForgetSpec::Indices((0..count).map(|i| i * 3 + i % 3).collect())
}

fn values(model: &Net, path: &str) -> Vec<f32> {
    ParamTree::of_parameters(model).get(&path.into()).unwrap().to_vec().unwrap()
}

fn distance(a: &Net, b: &Net) -> f64 {
    let d = ParamTree::of_parameters(a).sub(&ParamTree::of_parameters(b)).unwrap();
    d.dot(&d).unwrap().sqrt()
}

/// The form of retraining that drops the mask.
const DENSE: &str = r#"{"mask": "none"}"#;

/// Each method, and each of its forms that takes another road.
const FORMS: &[(&str, &str)] = &[
    ("retrain", DENSE),
    ("finetune", r#"{"epochs": 2}"#),
    ("finetune", r#"{"epochs": 1, "batch_norm": "frozen", "augment": "none", "batch_size": 5}"#),
    ("finetune-l1", r#"{"epochs": 2, "gamma": 1e-3}"#),
    ("finetune-l1", r#"{"epochs": 2, "gamma": 1e-2, "form": "proximal"}"#),
    ("finetune-l1", r#"{"epochs": 2, "form": "reference"}"#),
    ("gradient-ascent", r#"{"epochs": 2}"#),
    ("gradient-ascent", r#"{"epochs": 2, "stop_at_accuracy": 0.9, "learning_rate": 1e-2}"#),
    ("fisher", "{}"),
    ("fisher", r#"{"samples": 9, "share_inputs": false, "class_row_variance": "none"}"#),
    ("fisher", r#"{"reference": "fisher_new"}"#),
    ("fisher", r#"{"reference": "fisher", "alpha": 1e-6}"#),
    ("influence", "{}"),
    ("influence", r#"{"damping": {"relative": 0.1}, "samples": 12, "alpha": 0.5}"#),
    ("influence", r#"{"reference": true}"#),
    ("retrain", "{}"),
    ("retrain", r#"{"mask": "reprune"}"#),
];

#[test]
fn every_method_keeps_the_contract() {
    for card in cards() {
        assert!(FORMS.iter().any(|(name, _)| *name == card.name), "{} is not tried", card.name);
    }
    for spec in [ForgetSpec::Class(1), indices(6)] {
        let fixture = Fixture::new(&spec);
        for (name, parameters) in FORMS {
            let method = by_name::<Net>(name, serde_json::from_str(parameters).unwrap()).unwrap();
            assert_eq!(method.name(), *name);
            let mut suite = fixture.suite();
            suite.dense = *parameters == DENSE;
            let found = suite.violations(method.as_ref());
            assert!(found.is_empty(), "{name} {parameters} ({spec}): {found:#?}");
        }
    }
}

#[test]
fn every_diagnostic_is_on_the_page_of_its_method() {
    let fixture = Fixture::new(&indices(6));
    for (name, parameters) in FORMS {
        let outcome = fixture.run(name, serde_json::from_str(parameters).unwrap(), None).unwrap();
        let page = cards().iter().find(|card| card.name == *name).unwrap().page();
        for diagnostic in outcome.diagnostics.keys() {
            // The page of ℓ1 refers to that of fine-tuning for what they share.
            let shared = *name == "finetune-l1" && diagnostic == "final_loss";
            assert!(shared || page.contains(&format!("`{diagnostic}`")), "{name}: `{diagnostic}`");
        }
    }
}

#[test]
fn the_list_is_sorted_and_every_page_is_whole() {
    let names: Vec<_> = cards().iter().map(|card| card.name).collect();
    assert!(names.is_sorted());
    assert_eq!(names, registry::<Net>().iter().map(|(name, _)| *name).collect::<Vec<_>>());
    let folder = std::path::PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("src/methods");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|f| f.unwrap().file_name().into_string().unwrap().replace(".rs", "").replace('_', "-"))
        .filter(|name| name != "mod")
        .collect();
    files.sort();
    assert_eq!(names, files, "one file a method");
    for card in cards() {
        let page = card.page();
        for heading in [
            "# What it does",
            "# Needs",
            "# Definition",
            "# Hyperparameters",
            "# Diagnostics",
            "# Cost",
            "# Differences from the published code",
            "# Example",
            "# References",
        ] {
            assert!(page.contains(heading), "{}: no heading {heading:?}", card.name);
        }
        let Value::Object(defaults) = card.defaults() else { panic!("{}", card.name) };
        for key in defaults.keys() {
            // The page of ℓ1 refers to that of fine-tuning for what they share.
            let shared = card.name == "finetune-l1" && cards()[0].page().contains(&format!("`{key}`"));
            assert!(
                shared || page.contains(&format!("`{key}`")),
                "{}: `{key}` is not on the page",
                card.name
            );
        }
        assert!(by_name::<Net>(card.name, card.defaults()).is_ok(), "{}", card.name);
    }
}

#[test]
fn bad_hyperparameters_are_refused_before_any_work() {
    for (name, parameters, expected) in [
        ("finetune", json!({"epochs": 0}), "epochs is 0"),
        ("finetune", json!({"learning_rate": -0.1}), "learning_rate is -0.1"),
        ("finetune", json!({"batch_size": 0}), "batch_size is 0"),
        ("finetune", json!({"optimizer": {"name": "sgd", "momentum": 1.5}}), "optimizer.momentum is 1.5"),
        (
            "finetune",
            json!({"schedule": {"name": "multi-step", "milestones": [3, 1]}}),
            "schedule.milestones",
        ),
        ("finetune-l1", json!({"gamma": -1.0}), "gamma is -1"),
        ("finetune-l1", json!({"epochs": 3, "free_epochs": 3}), "free_epochs is 3"),
        ("gradient-ascent", json!({"learning_rate": 0.0}), "learning_rate is 0"),
        ("gradient-ascent", json!({"stop_at_accuracy": 68.0}), "stop_at_accuracy is 68"),
        (
            "gradient-ascent",
            json!({"epochs": 1_000_000_000, "stop_at_accuracy": 0.5}),
            "epochs is 1000000000",
        ),
        ("fisher", json!({"alpha": 0.0}), "alpha is 0"),
        ("fisher", json!({"samples": 0}), "samples is 0"),
        ("fisher", json!({"class_row_variance": -1.0}), "class_row_variance is -1"),
        ("influence", json!({"damping": {"absolute": 0.0}}), "damping is 0"),
        ("influence", json!({"samples": 0}), "samples is 0"),
    ] {
        let Err(error) = by_name::<Net>(name, parameters) else { panic!("{name}: {expected} was accepted") };
        assert!(matches!(error, UnlearnError::Hyperparameter { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(expected) && text.starts_with(name), "{text}");
    }
}

#[test]
fn slips_of_the_pen_get_the_nearest_name() {
    let Err(error) = by_name::<Net>("fintune", Value::Null) else { panic!() };
    assert!(error.to_string().contains("Did you mean \"finetune\"?"), "{error}");
    let Err(error) = by_name::<Net>("something else", Value::Null) else { panic!() };
    assert!(matches!(&error, UnlearnError::UnknownMethod { nearest: None, .. }), "{error}");
    let Err(error) = by_name::<Net>("fisher", json!({"alhpa": 1e-8})) else { panic!() };
    assert!(error.to_string().contains("Did you mean \"alpha\"?"), "{error}");
    let Err(error) = by_name::<Net>("fisher", json!({"alpha": "much"})) else { panic!() };
    assert!(matches!(error, UnlearnError::Form { method: "fisher", .. }), "{error}");
    let Err(error) = by_name::<Net>("retrain", json!([1])) else { panic!() };
    assert!(matches!(error, UnlearnError::Form { method: "retrain", .. }), "{error}");
    let Err(error) = by_name::<Net>("retrain", json!({"mask": "gvien"})) else { panic!() };
    assert!(error.to_string().contains("given"), "{error}");
}

#[test]
fn a_retrained_model_does_not_know_the_class() {
    let fixture = class_one();
    let (forget, retain) = fixture.accuracies(&fixture.model);
    assert!(forget > 0.8 && retain > 0.8, "the original knows all: {forget} {retain}");
    let retrained = fixture.run("retrain", Value::Null, None).unwrap().model;
    let (forget, retain) = fixture.accuracies(&retrained);
    assert!(forget == 0.0 && retain > 0.8, "{forget} {retain}");
}

#[test]
fn retraining_on_a_mask_of_its_own_keeps_as_many_weights() {
    let fixture = class_one();
    let given = fixture.run("retrain", Value::Null, Some(&fixture.mask)).unwrap();
    assert_eq!(given.mask.as_ref(), Some(&fixture.mask));
    let own = fixture.run("retrain", json!({"mask": "reprune"}), Some(&fixture.mask)).unwrap();
    let mask = own.mask.unwrap();
    assert_eq!((mask.kept(), mask.total()), (fixture.mask.kept(), fixture.mask.total()));
    assert_eq!(own.steps, 2 * given.steps, "dense, then sparse");
    let paths = |m: &MaskSet| m.iter().map(|(p, _)| p.clone()).collect::<Vec<ParamPath>>();
    assert_eq!(paths(&mask), paths(&fixture.mask));
    let dense = fixture.run("retrain", json!({"mask": "none"}), Some(&fixture.mask)).unwrap();
    assert_eq!(dense.mask, None);
    assert!(values(&dense.model, "deep.weight").iter().all(|w| *w != 0.0));
}

#[test]
fn only_the_proximal_form_makes_exact_zeros() {
    let fixture = class_one();
    let zeros = |form: &str| {
        let parameters = json!({"epochs": 4, "gamma": 0.2, "form": form, "learning_rate": 0.05});
        fixture.run("finetune-l1", parameters, None).unwrap().diagnostics["zero_share"]
    };
    assert!(zeros("proximal") > 0.02, "{}", zeros("proximal"));
    assert_eq!((zeros("subgradient"), zeros("reference")), (0.0, 0.0));
}

#[test]
fn the_penalty_shrinks_weights_and_the_reference_norms_too() {
    let fixture = class_one();
    let run = |name: &str, parameters: Value| fixture.run(name, parameters, None).unwrap().model;
    let plain = run("finetune", json!({"epochs": 3}));
    let sizes = |model: &Net, path: &str| values(model, path).iter().map(|w| w.abs()).sum::<f32>();
    let ours = run("finetune-l1", json!({"epochs": 3, "gamma": 0.1}));
    let theirs = run("finetune-l1", json!({"epochs": 3, "gamma": 0.1, "form": "reference"}));
    assert!(sizes(&ours, "deep.weight") < 0.97 * sizes(&plain, "deep.weight"));
    let (ours, theirs) = (sizes(&ours, "norm.gamma"), sizes(&theirs, "norm.gamma"));
    assert!(theirs < 0.97 * ours, "{theirs} {ours}");
    // Without a penalty it is fine-tuning, to the bit.
    let none = run("finetune-l1", json!({"epochs": 3, "gamma": 0.0}));
    assert_eq!(distance(&none, &plain), 0.0);
}

#[test]
fn ascent_stops_at_its_target() {
    let fixture = class_one();
    let far = json!({"epochs": 6, "learning_rate": 0.05});
    let end = fixture.run("gradient-ascent", far, None).unwrap();
    let forget = fixture.accuracies(&end.model).0;
    assert!(forget < 0.2, "{forget}");
    let stop = json!({"epochs": 6, "learning_rate": 0.05, "stop_at_accuracy": 0.6});
    let stopped = fixture.run("gradient-ascent", stop, None).unwrap();
    let share = stopped.diagnostics["forget_accuracy_at_stop"];
    assert!(share <= 0.6 && (fixture.accuracies(&stopped.model).0 - share).abs() < 1e-12);
    let epochs = stopped.diagnostics["epochs"];
    assert!(epochs < 6.0 && stopped.steps == 2 * epochs as u64, "{epochs} {}", stopped.steps);
    // The epoch before was still above.
    if epochs > 1.0 {
        let before = json!({"epochs": epochs as u64 - 1, "learning_rate": 0.05});
        let before = fixture.run("gradient-ascent", before, None).unwrap();
        assert!(fixture.accuracies(&before.model).0 > 0.6);
    }
}

#[test]
fn ascent_that_diverges_after_its_target_still_stops_there() {
    let fixture = class_one();
    let wild = json!({"epochs": 40, "learning_rate": 10.0});
    let error = fixture.run("gradient-ascent", wild, None).unwrap_err();
    let UnlearnError::Train(unlearn_train::TrainError::Diverged { epoch, .. }) = error else {
        panic!("{error}")
    };
    assert!(epoch > 0, "diverged in the first epoch: there is nothing to stop at");
    let stop = json!({"epochs": 40, "learning_rate": 10.0, "stop_at_accuracy": 1.0});
    let stopped = fixture.run("gradient-ascent", stop, None).unwrap();
    assert!(stopped.diagnostics["epochs"] <= epoch as f64, "{:?}", stopped.diagnostics);
}

#[test]
fn fisher_noise_has_the_variance_it_says() {
    let fixture = Fixture::new(&indices(6));
    let rms = |alpha: f64| {
        let outcome = fixture.run("fisher", json!({"alpha": alpha}), None).unwrap();
        let moved = distance(&outcome.model, &fixture.model);
        let count = ParamTree::of_parameters(&fixture.model).num_scalars() as f64;
        (moved / count.sqrt(), outcome.diagnostics["noise_rms"])
    };
    let (small, said) = rms(1e-9);
    assert!((small / said - 1.0).abs() < 0.3, "{small} {said}");
    // The same draws, scaled.
    let (large, _) = rms(1e-7);
    assert!((large / small - 10.0).abs() < 0.05, "{large} {small}");
}

#[test]
fn a_class_row_is_replaced_only_when_a_class_is_forgotten() {
    let row = |model: &Net, class: usize| -> Vec<f32> {
        let weight = values(model, "head.weight");
        (0..6).map(|input| weight[input * 3 + class]).chain([values(model, "head.bias")[class]]).collect()
    };
    let size = |row: &[f32]| row.iter().map(|w| w.abs()).sum::<f32>();
    let parameters = json!({"alpha": 1e-12, "class_row_variance": 1e-10});
    let of_class = class_one();
    let forgotten = of_class.run("fisher", parameters.clone(), None).unwrap().model;
    assert!(size(&row(&forgotten, 1)) < 1e-3, "{:?}", row(&forgotten, 1));
    for class in [0, 2] {
        assert!(size(&row(&forgotten, class)) > 0.1);
    }
    let at_random = Fixture::new(&indices(6));
    let forgotten = at_random.run("fisher", parameters, None).unwrap().model;
    for class in 0..3 {
        let (before, after) = (row(&at_random.model, class), row(&forgotten, class));
        assert!(before.iter().zip(&after).all(|(b, a)| (b - a).abs() < 1e-3));
    }
}

#[test]
fn influence_moves_along_the_gradient_and_less_with_more_damping() {
    // Untrained: a model that is sure of everything has no curvature.
    let fixture = Fixture { model: fresh(), ..class_one() };
    let run = |damping: f64| {
        let parameters = json!({"damping": {"absolute": damping}});
        let outcome = fixture.run("influence", parameters, None).unwrap();
        (distance(&outcome.model, &fixture.model), outcome.diagnostics)
    };
    let (weak, diagnostics) = run(1e4);
    // So much damping leaves v/λ.
    assert!(diagnostics["cosine_to_gradient"] > 0.999, "{diagnostics:?}");
    let (strong, diagnostics) = run(1e-2);
    assert!(strong > 10.0 * weak && diagnostics["cosine_to_gradient"] < 0.999, "{diagnostics:?}");
    assert!(diagnostics["residual"] < 1e-6);
    // Twice the step goes twice as far.
    let twice = json!({"damping": {"absolute": 1e-2}, "alpha": 2.0});
    let twice = fixture.run("influence", twice, None).unwrap().model;
    let ratio = distance(&twice, &fixture.model) / strong;
    assert!((ratio - 2.0).abs() < 1e-3, "{ratio}");
}

#[test]
fn nothing_else_than_parameters_moves_in_one_shot_methods() {
    let fixture = class_one();
    for (name, parameters) in [("fisher", "{}"), ("influence", "{}")] {
        let parameters = serde_json::from_str(parameters).unwrap();
        let outcome = fixture.run(name, parameters, None).unwrap();
        let mean = |net: &Net| net.norm.running_mean.value_sync().into_data();
        assert_eq!(mean(&outcome.model), mean(&fixture.model));
        assert_eq!(parameters_of(&outcome.model), parameters_of(&fixture.model));
    }
}

fn parameters_of(model: &Net) -> Vec<(ParamPath, bool)> {
    parameters(model).into_iter().map(|p| (p.path, p.trainable)).collect()
}
