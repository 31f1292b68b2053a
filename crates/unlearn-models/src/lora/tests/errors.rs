//! Every refusal, and what it says.

use burn::module::Param;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig};
use unlearn_curvature::tape::{Tape, Var};

use super::*;
use crate::{Classifier, Taped, forward_plain};

fn refused(config: &LoraConfig) -> LoraError {
    add_adapters(base(&Device::flex()), config, &mut rng(1)).map(|_| ()).unwrap_err()
}

#[track_caller]
fn says(error: &LoraError, code: &str, parts: &[&str]) {
    assert_eq!(error.code(), code, "{error}");
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[test]
fn settings_out_of_range() {
    let bad = |change: fn(&mut LoraConfig)| {
        let mut lora = config();
        change(&mut lora);
        refused(&lora)
    };
    says(&bad(|c| c.rank = 0), "E_CONFIG", &["lora.rank is 0", "at least 1"]);
    for alpha in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = refused(&LoraConfig { alpha, ..config() });
        says(&error, "E_CONFIG", &["lora.alpha", "above 0"]);
    }
    says(&bad(|c| c.dropout = 1.0), "E_CONFIG", &["lora.dropout is 1", "not including, 1"]);
    says(&bad(|c| c.targets.clear()), "E_CONFIG", &["lora.targets is empty"]);
    says(&bad(|c| c.targets.push(String::new())), "E_CONFIG", &["lora.targets", "without a name"]);
    says(&bad(|c| c.modules_to_save.push(".".into())), "E_CONFIG", &["lora.modules_to_save"]);
}

#[test]
fn a_rank_that_no_layer_can_have() {
    // The last layer has five classes.
    let error = refused(&LoraConfig::new(6, 6.0, ["fc"]));
    says(&error, "E_CONFIG", &["lora.rank is 6", "`fc`", "5 × 32", "at most 5"]);
    let error = refused(&LoraConfig::new(5, 6.0, ["conv1"]));
    says(&error, "E_CONFIG", &["`conv1`", "4 × 27"]);
}

#[test]
fn patterns_that_match_nothing() {
    let error = refused(&LoraConfig::new(1, 1.0, ["conv1", "conv3"]));
    says(&error, "E_CONFIG", &["targets", "`conv3`", "did you mean `conv", "conv2, downsample, fc"]);
    let error = refused(&LoraConfig::new(1, 1.0, ["query"]));
    says(&error, "E_CONFIG", &["`query` matches no module; there are"]);
    // A batch norm is a module, but no layer for an adapter.
    let error = refused(&LoraConfig::new(1, 1.0, ["bn1"]));
    says(&error, "E_CONFIG", &["targets", "`bn1`"]);
    let error = refused(&LoraConfig {
        modules_to_save: vec!["classifier".into()],
        ..LoraConfig::new(1, 1.0, ["fc"])
    });
    says(&error, "E_CONFIG", &["modules_to_save", "`classifier`", "fc"]);
}

#[test]
fn models_without_a_tape() {
    #[derive(Module, Debug)]
    struct Untaped {
        fc: Linear,
    }
    impl Classifier for Untaped {
        fn forward(&self, images: Tensor<4>) -> Tensor<2> {
            self.fc.forward(images.flatten(1, 3))
        }

        fn num_classes(&self) -> usize {
            2
        }
    }
    let model = Untaped { fc: LinearConfig::new(3, 2).init(&Device::flex()) };
    let error = add_adapters(model, &LoraConfig::new(1, 1.0, ["fc"]), &mut rng(1)).unwrap_err();
    says(&error, "E_LORA_MODEL", &["no forward pass on a tape"]);
}

/// Layers that have an adapter and never run on the tape: one in groups, one that the model calls by itself.
#[test]
fn layers_that_the_tape_does_not_pass() {
    #[derive(Module, Debug)]
    struct Odd {
        grouped: Conv2d,
        aside: Param<Tensor<2>>,
        own: Linear,
        fc: Linear,
    }
    impl Taped for Odd {
        fn forward_on(&self, images: Var<4>, tape: &mut dyn Tape) -> Var<2> {
            let x = tape.conv2d(&self.grouped, images);
            let x = tape.global_avg_pool(x);
            let x = tape.constant(self.own.forward(x.into_value()));
            tape.linear(&self.fc, x)
        }
    }
    impl Classifier for Odd {
        fn forward(&self, images: Tensor<4>) -> Tensor<2> {
            forward_plain(self, images)
        }

        fn num_classes(&self) -> usize {
            2
        }

        fn taped(&self) -> Option<&dyn Taped> {
            Some(self)
        }
    }
    let device = Device::flex();
    let model = Odd {
        grouped: Conv2dConfig::new([3, 6], [3, 3]).with_groups(3).init(&device),
        aside: Param::from_tensor(Tensor::zeros([2, 2], &device)),
        own: LinearConfig::new(6, 4).init(&device),
        fc: LinearConfig::new(4, 2).init(&device),
    };
    let adapted =
        add_adapters(model, &LoraConfig::new(1, 1.0, ["grouped", "own", "fc"]), &mut rng(1)).unwrap();
    let error = adapted.check_reached(images(1, &device)).unwrap_err();
    says(&error, "E_LORA_MODEL", &["`grouped`, `own`:"]);
    let whole = add_adapters(base(&device), &config(), &mut rng(1)).unwrap();
    whole.check_reached(images(1, &device)).unwrap();
}

#[test]
fn tables_with_other_keys() {
    let read = |text: &str| serde_json::from_str::<LoraConfig>(text).unwrap_err().to_string();
    assert!(read(r#"{"rnak": 4, "targets": ["fc"]}"#).contains("rnak"));
    assert!(read(r#"{"rank": 4}"#).contains("targets"));
    let keys = serde_json::to_value(config()).unwrap();
    assert!(keys.as_object().unwrap().keys().map(String::as_str).eq(LoraConfig::KEYS));
}
