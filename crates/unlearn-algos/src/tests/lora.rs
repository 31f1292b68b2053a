//! Iterative methods through adapters.

use super::*;
use unlearn_curvature::oracle::Samples;
use unlearn_models::{ResNet, ResNetConfig, Stem};

const LORA: &str = r#"{"rank": 2, "alpha": 8, "targets": ["conv1", "conv2"], "modules_to_save": ["fc"]}"#;

fn small() -> ResNet {
    let config = ResNetConfig { width: 4, blocks: [1, 1, 1, 1], classes: 3, stem: Stem::Cifar };
    config.init(&[0.5], &[0.5], &Device::flex(), &mut Seed(3).rng(Stream::Init, 0, 0)).unwrap()
}

struct Adaptable {
    dataset: Dataset,
    partition: Partition,
    model: ResNet,
    mask: MaskSet,
}

impl Adaptable {
    fn new() -> Self {
        let dataset = dataset();
        let split = Split::new(&dataset, SplitRule::None).unwrap();
        let partition = Partition::new(&dataset, &split, &ForgetSpec::Class(1), Seed(1)).unwrap();
        let loader = unlearn_data::Loader::new(&dataset, split.train(), 8).unwrap().with_shuffle(Seed(1));
        let config = FitConfig::new(6, 0.05, OptimizerConfig::sgd(0.9, 5e-4));
        let objective = CrossEntropy::default();
        let fit =
            unlearn_train::fit(small(), &loader, &objective, &Unconstrained, &config, &mut Silent).unwrap();
        // The head, which is trained in full, is under the mask too.
        let prunable = unlearn_prune::Prunable {
            rule: unlearn_prune::PrunableRule::AllWeights,
            ..unlearn_prune::Prunable::default()
        };
        let config = PruneConfig { prunable, ..PruneConfig::new(0.5) };
        let mask = one_shot(&fit.model, &unlearn_prune::Magnitude, &config, None).unwrap();
        assert!(mask.get(&"fc.weight".into()).is_some());
        Self { dataset, partition, model: fit.model, mask }
    }

    fn suite(&self) -> Suite<'_, ResNet> {
        Suite {
            fresh: &small,
            model: self.model.clone(),
            dataset: &self.dataset,
            partition: &self.partition,
            training: training(),
            mask: self.mask.clone(),
            dense: false,
        }
    }

    /// What merging is measured on: the first that the method trains on.
    fn pictures_of(&self, indices: &[usize]) -> Tensor<4> {
        let first = indices.iter().copied().take(crate::iterate::COMPARED).collect();
        let samples = crate::DatasetSamples::new(&self.dataset, first).unwrap();
        samples.inputs(0..samples.len(), &Device::flex()).unwrap()
    }

    fn run(&self, name: &str, parameters: &str, mask: Option<&MaskSet>) -> Outcome<ResNet> {
        let method = by_name::<ResNet>(name, serde_json::from_str(parameters).unwrap()).unwrap();
        self.suite().run(method.as_ref(), mask, &self.dataset, 1).unwrap()
    }
}

#[test]
fn methods_keep_the_contract_through_adapters() {
    let adaptable = Adaptable::new();
    for (name, rest) in [
        ("finetune", r#""epochs": 1, "learning_rate": 0.005"#),
        ("finetune-l1", r#""epochs": 1, "gamma": 1e-2, "form": "proximal""#),
        ("gradient-ascent", r#""epochs": 2, "stop_at_accuracy": 0.9, "learning_rate": 1e-2"#),
    ] {
        let parameters = format!(r#"{{{rest}, "lora": {LORA}}}"#);
        let method = by_name::<ResNet>(name, serde_json::from_str(&parameters).unwrap()).unwrap();
        let found = adaptable.suite().violations(method.as_ref());
        assert!(found.is_empty(), "{name}: {found:#?}");
    }
}

#[test]
fn the_report_says_what_was_trained_and_what_merging_changed() {
    let adaptable = Adaptable::new();
    let parameters = format!(r#"{{"epochs": 2, "learning_rate": 0.005, "lora": {LORA}}}"#);
    let dense = adaptable.run("finetune", &parameters, None);
    let pruned = adaptable.run("finetune", &parameters, Some(&adaptable.mask));
    let told = |outcome: &Outcome<ResNet>, name: &str| outcome.diagnostics[&format!("lora_{name}")];
    for outcome in [&dense, &pruned] {
        assert!(outcome.diagnostics.contains_key("final_loss"));
        let share = told(outcome, "trainable_share");
        assert!(share > 0.0 && share < 0.5, "{share}");
        assert!(told(outcome, "trainable_parameters") > 99.0);
    }
    // Merging is exact to rounding, unless a mask cuts something off.
    assert!(told(&dense, "merge_largest_change") < 1e-4, "{:?}", dense.diagnostics);
    assert!(told(&pruned, "merge_mean_change") > 10.0 * told(&dense, "merge_mean_change"));
    assert!(told(&pruned, "merge_largest_change") >= told(&pruned, "merge_mean_change"));

    // Batch norms are the original's, statistics included; adapted weights moved.
    let state = |model: &ResNet| unlearn_models::StateDict::of(model).unwrap();
    let (before, after) = (state(&adaptable.model), state(&dense.model));
    for (name, tensor) in before.iter() {
        let frozen = name.contains("bn") || name.contains("downsample") || name.starts_with("normalize");
        assert_eq!(after.get(name) == Some(tensor), frozen, "{name}");
    }
}

#[test]
fn a_run_through_other_adapters_is_not_gone_on_with() {
    let adaptable = Adaptable::new();
    let folder = tempfile::tempdir().unwrap();
    let run = |alpha: f64| {
        let lora = json!({"epochs": 1, "lora": {"rank": 2, "alpha": alpha, "targets": ["conv1"]}});
        let method = by_name::<ResNet>("finetune", lora).unwrap();
        let training = training();
        let mut observer = unlearn_train::Silent;
        let mut context = crate::Context {
            dataset: &adaptable.dataset,
            fresh: &small,
            training: &training,
            mask: None,
            seed: Seed(1),
            workers: 1,
            directory: Some(folder.path()),
            observer: &mut observer,
        };
        method.unlearn(adaptable.model.clone(), &adaptable.partition, &mut context)
    };
    run(16.0).unwrap();
    run(16.0).unwrap();
    let error = run(32.0).unwrap_err();
    assert!(error.to_string().contains("alpha: 32"), "{error}");
}

#[test]
fn models_without_a_tape_are_refused() {
    let fixture = class_one();
    let lora = json!({"lora": {"rank": 1, "targets": ["head"]}});
    let error = fixture.run("finetune", lora, None).unwrap_err();
    assert!(matches!(error, UnlearnError::Lora(_)), "{error}");
}

#[test]
fn methods_that_take_no_adapters_say_why() {
    for (name, reason) in
        [("retrain", "starts from new weights"), ("fisher", "not iterative"), ("influence", "not iterative")]
    {
        match by_name::<ResNet>(name, json!({"lora": {"targets": ["fc"]}})).map(|_| ()) {
            Err(UnlearnError::Hyperparameter { method, field, expected, .. }) => {
                assert_eq!((method, field), (name, "lora"));
                assert!(expected.contains(reason), "{expected}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn slips_inside_the_table_get_the_nearest_name() {
    match by_name::<ResNet>("finetune", json!({"lora": {"rnak": 4, "targets": ["fc"]}})).map(|_| ()) {
        Err(UnlearnError::UnknownHyperparameter { got, nearest, .. }) => {
            assert_eq!((got.as_str(), nearest.as_deref()), ("lora.rnak", Some("rank")));
        }
        other => panic!("{other:?}"),
    }
    let form = by_name::<ResNet>("finetune", json!({"lora": {"rank": 4}})).map(|_| ()).unwrap_err();
    assert!(form.to_string().contains("targets"), "{form}");
    let rank = by_name::<ResNet>("finetune-l1", json!({"lora": {"rank": 0, "targets": ["fc"]}})).map(|_| ());
    let rank = rank.unwrap_err().to_string();
    assert!(rank.contains("finetune-l1: lora is rank = 0, but must be at least 1"), "{rank}");
}

/// What is kept unmerged is what was merged: the chosen epoch's, not the last one's.
#[test]
fn the_adapters_of_the_result_are_there_too() {
    let adaptable = Adaptable::new();
    let state = |model: &ResNet| unlearn_models::StateDict::of(model).unwrap();
    for (name, rest) in [
        ("finetune", r#""epochs": 2, "learning_rate": 0.005"#),
        ("gradient-ascent", r#""epochs": 3, "stop_at_accuracy": 1.0, "learning_rate": 1e-2"#),
    ] {
        let parameters = format!(r#"{{{rest}, "lora": {LORA}}}"#);
        for mask in [None, Some(&adaptable.mask)] {
            let outcome = adaptable.run(name, &parameters, mask);
            let adapted = outcome.adapted.as_ref().expect(name);
            let kept: unlearn_models::lora::Kept =
                mask.iter().flat_map(|m| m.iter()).map(|(p, m)| (p.clone(), m.keep().to_vec())).collect();
            assert_eq!(state(&adapted.masked_merge(&kept).unwrap()), state(&outcome.model), "{name}");
            let trained_on = match name {
                "gradient-ascent" => adaptable.partition.forget(),
                _ => adaptable.partition.retain(),
            };
            let pictures = adaptable.pictures_of(trained_on);
            let change = adapted.output_change(&outcome.model, pictures).unwrap();
            assert_eq!(outcome.diagnostics["lora_merge_mean_change"], change.mean, "{name}");
            if name == "gradient-ascent" {
                assert_eq!(outcome.diagnostics["epochs"], 1.0, "any accuracy is reached after one epoch");
            }
        }
        let plain = adaptable.run(name, &format!("{{{rest}}}"), None);
        assert!(plain.adapted.is_none());
    }
}
