//! Curvature against float64 autograd, and the published estimators against the published code.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use unlearn::algos::methods::influence_direction;
use unlearn::algos::variance::{VarianceRule, outputs};
use unlearn::burn::tensor::{Device, Tensor};
use unlearn::curvature::inverse::{Damping, ReferenceRecursion, reference_recursion, woodbury};
use unlearn::curvature::oracle::{Oracle, TensorSamples};
use unlearn::curvature::{ParamTree, parameters};
use unlearn::models::{Classifier, ResNet};

use super::resnet::{images, loaded, on_disk};
use crate::goldens::{Array, Goldens, assert_close};

pub(super) struct Case {
    pub(super) model: ResNet,
    pub(super) all: TensorSamples,
    pub(super) forget: TensorSamples,
    pub(super) retain: TensorSamples,
    pub(super) expected: BTreeMap<String, Array>,
    pub(super) classes: usize,
}

/// Read once for all tests here.
pub(super) fn case() -> Option<&'static Case> {
    static CASE: OnceLock<Option<Case>> = OnceLock::new();
    CASE.get_or_init(|| {
        let goldens = Goldens::open()?;
        let (spec, device) = (goldens.resnet(), Device::flex());
        let io = goldens.tensors("resnet_io.safetensors");
        let labels: Vec<usize> = io["y"].values.iter().map(|&y| y as usize).collect();
        assert_eq!(labels.len(), spec.samples);
        let all = TensorSamples::new(images(&io["x"], &device), labels).unwrap();
        Some(Case {
            model: loaded(&goldens, &device),
            forget: all.slice(0..spec.forget_first).unwrap(),
            retain: all.slice(spec.forget_first..spec.samples).unwrap(),
            all,
            expected: goldens.tensors("curvature.safetensors"),
            classes: spec.classes,
        })
    })
    .as_ref()
}

impl Case {
    fn oracle(&self) -> Oracle<'static, ResNet, impl Fn(&ResNet, Tensor<4>) -> Tensor<2> + Sync + use<>> {
        Oracle::new(&self.model, |model: &ResNet, x: Tensor<4>| model.forward(x)).unwrap().with_workers(2)
    }

    /// Every tensor under `what.` against the entry of `got` with the same name in PyTorch.
    #[track_caller]
    pub(super) fn compare(&self, what: &str, got: &ParamTree, tolerance: f64) {
        let got = on_disk(got, &self.model);
        let mut compared = 0;
        for (name, expected) in &self.expected {
            let Some(name) = name.strip_prefix(what).and_then(|rest| rest.strip_prefix('.')) else {
                continue;
            };
            let got = got.get(name).unwrap_or_else(|| panic!("{what}: nothing under {name}"));
            assert_eq!(got.shape, expected.shape, "{what}.{name}");
            assert_close(&format!("{what}.{name}"), &got.values, expected, tolerance);
            compared += 1;
        }
        assert_eq!(compared, parameters(&self.model).iter().filter(|p| p.trainable).count(), "{what}");
    }

    fn direction(&self) -> ParamTree {
        influence_direction(&self.oracle(), &self.forget, &self.retain, 7).unwrap()
    }
}

#[test]
fn empirical_and_exact_diagonals() {
    let Some(case) = case() else { return };
    case.compare("empirical_sum", &case.oracle().empirical(&case.all).unwrap().sum, 1e-4);
    case.compare("exact_sum", &case.oracle().exact(&case.all).unwrap().sum, 1e-4);
}

#[test]
fn gram_matrix_and_norms() {
    let Some(case) = case() else { return };
    let v = case.direction();
    let n = case.expected["norms_sq"].values.len();
    let narrow = |values: &[f64]| values.iter().map(|&v| v as f32).collect::<Vec<_>>();
    // At once, and in chunks of about a fifth of the samples.
    for memory in [1 << 30, case.oracle().layout().len() * 4 * n / 3] {
        let pairs = case.oracle().with_memory(memory).pairs(&case.all, &v).unwrap();
        assert_close("gram", &narrow(&pairs.gram), &case.expected["gram"], 1e-4);
        let diagonal: Vec<f64> = (0..n).map(|i| pairs.gram[i * n + i]).collect();
        assert_close("diagonal of gram", &narrow(&diagonal), &case.expected["norms_sq"], 1e-4);
    }
    let norms = case.oracle().norms_squared(&case.all).unwrap();
    assert_close("norms_sq", &narrow(&norms), &case.expected["norms_sq"], 1e-4);
}

#[test]
fn influence_directions_and_their_exact_solves() {
    let Some(case) = case() else { return };
    let v = case.direction();
    case.compare("iu_v", &v, 1e-4);
    for (name, lambda, tolerance) in
        [("iu_woodbury_lambda1", 1.0, 1e-4), ("iu_woodbury_lambda0.001", 1e-3, 1e-2)]
    {
        let solution = woodbury(&case.oracle(), &case.retain, &v, Damping::Absolute(lambda)).unwrap();
        case.compare(name, &solution.direction, tolerance);
        assert!(solution.residual < 1e-6, "{name}: residual {}", solution.residual);
    }
}

#[test]
fn the_published_recursion() {
    let Some(case) = case() else { return };
    let k = reference_recursion(
        &case.oracle(),
        &case.retain,
        &case.direction(),
        ReferenceRecursion::default(),
        16,
    );
    case.compare("iu_reference", &k.unwrap(), 1e-4);
}

#[test]
fn the_published_fisher_estimates() {
    let Some(case) = case() else { return };
    let older = case.oracle().shifted_empirical(&case.retain, 1e-8).unwrap().mean();
    case.compare("fisher_reference", &older, 1e-4);
    let newer = case.oracle().group_mean(&case.retain, 32).unwrap().mean();
    case.compare("fisher_new_reference", &newer, 1e-4);

    let all: Vec<_> = parameters(&case.model).into_iter().filter(|p| p.trainable).collect();
    let rule = VarianceRule::published(1e-3);
    let variances = rule.variances(&newer, &all, |p| outputs(p) == case.classes, None).unwrap();
    let mut tree = ParamTree::new();
    for p in &all {
        let values = variances[&p.path].iter().map(|&v| v as f32).collect();
        tree.insert_host(p.path.clone(), p.shape.clone(), values, &Device::flex()).unwrap();
    }
    case.compare("fisher_new_var", &tree, 1e-4);
}
