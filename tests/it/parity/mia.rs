//! Membership inference against scikit-learn's `SVC`, as the public unlearning code calls it.

use std::collections::BTreeMap;

use unlearn::eval::attack::{Feature, ModifiedEntropy, Shadow, forget_efficacy, training_privacy};
use unlearn::eval::predict::Predictions;
use unlearn::eval::svm::SvmConfig;

use crate::goldens::{Array, Goldens};

#[derive(serde::Deserialize)]
struct Expected {
    forget_efficacy: BTreeMap<String, f64>,
    training_privacy: BTreeMap<String, f64>,
}

fn table(tensors: &BTreeMap<String, Array>, name: &str) -> Predictions {
    let (p, y) = (&tensors[&format!("{name}.p")], &tensors[&format!("{name}.y")]);
    let labels = y.values.iter().map(|&label| label as usize).collect();
    Predictions::from_probabilities(&p.f32(), labels, p.shape[1]).unwrap()
}

#[test]
fn attacks_agree_with_scikit_learn() {
    let Some(goldens) = Goldens::open() else { return };
    let expected: Expected = goldens.json("mia.json");
    let tensors = goldens.tensors("mia.safetensors");
    let [shadow_train, shadow_test, target_train, target_test] =
        ["shadow_train", "shadow_test", "target_train", "target_test"].map(|name| table(&tensors, name));
    let shadow = Shadow { members: &shadow_train, non_members: &shadow_test };
    let config = SvmConfig::default();

    for (name, feature) in [
        ("correctness", Feature::Correctness),
        ("confidence", Feature::Confidence),
        ("entropy", Feature::Entropy),
        ("m_entropy", Feature::ModifiedEntropy),
        ("prob", Feature::Probabilities),
    ] {
        let reference = ModifiedEntropy::Reference;
        let forgotten = forget_efficacy(shadow, &target_test, feature, reference, &config).unwrap();
        let efficacy = forgotten as f64 / target_test.len() as f64;
        let (members, non_members) =
            training_privacy(shadow, &target_train, &target_test, feature, reference, &config).unwrap();
        let privacy = f64::midpoint(
            members as f64 / target_train.len() as f64,
            non_members as f64 / target_test.len() as f64,
        );
        for (what, got, expected) in [
            ("forget efficacy", efficacy, expected.forget_efficacy[name]),
            ("training privacy", privacy, expected.training_privacy[name]),
        ] {
            eprintln!("{what} on {name}: {got:.5}, scikit-learn {expected:.5}");
            // One sample in a hundred, or one: two solvers that stop at a tolerance may differ on one at the boundary.
            let allowed =
                0.01_f64.max(1.0 / target_test.len().min(target_train.len()) as f64 + 1e-9).min(0.05);
            assert!(
                (got - expected).abs() <= allowed,
                "{what} on {name}: {got}, scikit-learn has {expected}"
            );
        }
    }
}
