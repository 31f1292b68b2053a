//! Curvature against float64 autograd, and the published estimators against the published code.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use unlearn::algos::methods::influence_direction;
use unlearn::algos::variance::{VarianceRule, outputs};
use unlearn::burn::tensor::{Device, Tensor};
use unlearn::curvature::inverse::{Damping, ReferenceRecursion, reference_recursion, woodbury};
use unlearn::curvature::oracle::{Oracle, Samples, TensorSamples};
use unlearn::curvature::{ParamTree, parameters};
use unlearn::models::{Classifier, ResNet};

use super::resnet::{images, loaded, on_disk};
use crate::goldens::{Array, Goldens, Named, assert_close_as_far_as_posed};

pub(super) struct Case {
    pub(super) model: ResNet,
    pub(super) all: TensorSamples,
    pub(super) forget: TensorSamples,
    pub(super) retain: TensorSamples,
    pub(super) expected: BTreeMap<String, Array>,
    pub(super) classes: usize,
    x: Array,
    labels: Vec<usize>,
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
        let all = TensorSamples::new(images(&io["x"], &device), labels.clone()).unwrap();
        Some(Case {
            model: loaded(&goldens, &device),
            forget: all.slice(0..spec.forget_first).unwrap(),
            retain: all.slice(spec.forget_first..spec.samples).unwrap(),
            all,
            expected: goldens.tensors("curvature.safetensors"),
            classes: spec.classes,
            x: io["x"].clone(),
            labels,
        })
    })
    .as_ref()
}

impl Case {
    fn oracle(&self) -> Oracle<'static, ResNet, impl Fn(&ResNet, Tensor<4>) -> Tensor<2> + Sync + use<>> {
        Oracle::new(&self.model, |model: &ResNet, x: Tensor<4>| model.forward(x)).unwrap().with_workers(2)
    }

    /// The same on pictures with other last bits.
    fn nudged(&self, seed: u64) -> Self {
        let x = self.x.with_other_last_bits(seed);
        let all = TensorSamples::new(images(&x, &Device::flex()), self.labels.clone()).unwrap();
        let (forget, n) = (self.forget.len(), all.len());
        Self {
            model: self.model.clone(),
            forget: all.slice(0..forget).unwrap(),
            retain: all.slice(forget..n).unwrap(),
            all,
            expected: self.expected.clone(),
            classes: self.classes,
            x,
            labels: self.labels.clone(),
        }
    }

    /// The condition of K + λn for the Gram matrix K of the n samples of the retain set is at most this.
    pub(super) fn condition(&self, lambda: f64) -> f64 {
        let retain = &self.expected["norms_sq"].values[self.forget.len()..];
        1.0 + retain.iter().sum::<f64>() / (lambda * retain.len() as f64)
    }

    /// A solve in float64 leaves n ε times the condition.
    #[track_caller]
    pub(super) fn check_residual(&self, name: &str, lambda: f64, residual: f64) {
        let allowed = 1e-6_f64.max(self.retain.len() as f64 * f64::EPSILON * self.condition(lambda));
        assert!(residual < allowed, "{name}: residual {residual:.1e}, allowed {allowed:.1e}");
    }

    /// Every tensor under `what.` against the entry with the same name in PyTorch of what `compute` makes of a case, as
    /// far as float32 can tell.
    #[track_caller]
    pub(super) fn compare(&self, what: &str, tolerance: f64, compute: impl Fn(&Self) -> ParamTree) {
        let prefix = format!("{what}.");
        let wanted =
            self.expected.iter().filter_map(|(name, array)| Some((name.strip_prefix(&prefix)?, array)));
        let expected: BTreeMap<String, Array> =
            wanted.map(|(name, a)| (name.to_owned(), a.clone())).collect();
        assert_eq!(expected.len(), parameters(&self.model).iter().filter(|p| p.trainable).count(), "{what}");
        let named = |case: &Self| -> Named {
            let got = on_disk(&compute(case), &case.model);
            let values = expected.iter().map(|(name, expected)| {
                let got = got.get(name).unwrap_or_else(|| panic!("{what}: nothing under {name}"));
                assert_eq!(got.shape, expected.shape, "{what}.{name}");
                (name.clone(), got.values.clone())
            });
            values.collect()
        };
        let again = |seed| named(&self.nudged(seed));
        assert_close_as_far_as_posed(what, &named(self), &expected, |_| tolerance, again);
    }

    /// The same for the one tensor `what`.
    #[track_caller]
    pub(super) fn compare_one(&self, what: &str, tolerance: f64, compute: impl Fn(&Self) -> Vec<f64>) {
        let expected = BTreeMap::from([(what.to_owned(), self.expected[what].clone())]);
        let named = |case: &Self| -> Named {
            BTreeMap::from([(what.to_owned(), compute(case).into_iter().map(|v| v as f32).collect())])
        };
        let again = |seed| named(&self.nudged(seed));
        assert_close_as_far_as_posed("", &named(self), &expected, |_| tolerance, again);
    }

    fn direction(&self) -> ParamTree {
        influence_direction(&self.oracle(), &self.forget, &self.retain, 7).unwrap()
    }
}

#[test]
fn empirical_and_exact_diagonals() {
    let Some(case) = case() else { return };
    case.compare("empirical_sum", 1e-4, |case| case.oracle().empirical(&case.all).unwrap().sum);
    case.compare("exact_sum", 1e-4, |case| case.oracle().exact(&case.all).unwrap().sum);
}

#[test]
fn gram_matrix_and_norms() {
    let Some(case) = case() else { return };
    let n = case.all.len();
    // At once, and in chunks of about a fifth of the samples.
    for memory in [1 << 30, case.oracle().layout().len() * 4 * n / 3] {
        let gram =
            |case: &Case| case.oracle().with_memory(memory).pairs(&case.all, &case.direction()).unwrap().gram;
        case.compare_one("gram", 1e-4, gram);
        case.compare_one("norms_sq", 1e-4, |case| {
            let gram = gram(case);
            (0..n).map(|i| gram[i * n + i]).collect()
        });
    }
    case.compare_one("norms_sq", 1e-4, |case| case.oracle().norms_squared(&case.all).unwrap());
}

#[test]
fn influence_directions_and_their_exact_solves() {
    let Some(case) = case() else { return };
    case.compare("iu_v", 1e-4, Case::direction);
    for (name, lambda, tolerance) in
        [("iu_woodbury_lambda1", 1.0, 1e-4), ("iu_woodbury_lambda0.001", 1e-3, 1e-2)]
    {
        case.compare(name, tolerance, |case| {
            let damping = Damping::Absolute(lambda);
            let solution = woodbury(&case.oracle(), &case.retain, &case.direction(), damping).unwrap();
            case.check_residual(name, lambda, solution.residual);
            solution.direction
        });
    }
}

#[test]
fn the_published_recursion() {
    let Some(case) = case() else { return };
    case.compare("iu_reference", 1e-4, |case| {
        let (v, default) = (case.direction(), ReferenceRecursion::default());
        reference_recursion(&case.oracle(), &case.retain, &v, default, 16).unwrap()
    });
}

#[test]
fn the_published_fisher_estimates() {
    let Some(case) = case() else { return };
    let older = |case: &Case| case.oracle().shifted_empirical(&case.retain, 1e-8).unwrap().mean();
    case.compare("fisher_reference", 1e-4, older);
    let newer = |case: &Case| case.oracle().group_mean(&case.retain, 32).unwrap().mean();
    case.compare("fisher_new_reference", 1e-4, newer);

    let all: Vec<_> = parameters(&case.model).into_iter().filter(|p| p.trainable).collect();
    let rule = VarianceRule::published(1e-3);
    case.compare("fisher_new_var", 1e-4, |case| {
        let variances = rule.variances(&newer(case), &all, |p| outputs(p) == case.classes, None).unwrap();
        let mut tree = ParamTree::new();
        for p in &all {
            let values = variances[&p.path].iter().map(|&v| v as f32).collect();
            tree.insert_host(p.path.clone(), p.shape.clone(), values, &Device::flex()).unwrap();
        }
        tree
    });
}
