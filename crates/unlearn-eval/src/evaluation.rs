//! Everything that is measured of one model, each number with its definition.

use serde::{Deserialize, Serialize};
use unlearn_data::{Dataset, Partition};
use unlearn_models::Classifier;

use crate::EvalError;
use crate::accuracy::{Accuracy, ClassAccuracy, per_class};
use crate::attack::{Feature, MembershipInference, ModifiedEntropy, membership_inference};
use crate::metric::Metric;
use crate::predict::{Predictions, predict};

/// Version of the serialised [`Evaluation`].
pub const EVALUATION_SCHEMA: u32 = 1;

/// How to evaluate. Every field has a default; unknown keys are errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvalConfig {
    /// Samples a forward pass, at least 1. Default 256. Numbers do not depend on it beyond the
    /// device's rounding.
    pub batch_size: usize,
    /// Attacks to run; the others are absent in the result. Default: all five.
    pub attacks: Vec<Feature>,
    /// Which modified entropy. Default: the published formula.
    pub modified_entropy: ModifiedEntropy,
    /// Which retained and test samples the attack learns from. Default: the first ones.
    pub attack_samples: AttackSamples,
    /// Largest violation of the optimality conditions that the attacks' support vector machines may
    /// leave, above zero. Default 10⁻³, as LIBSVM and scikit-learn.
    pub attack_tolerance: f64,
    /// Memory for kernel rows of the attacks' support vector machines, all together, in MiB, at
    /// least 1. Default 256. Results do not depend on it.
    pub kernel_cache_mib: usize,
}

/// Which samples of a set an attack learns from, when it needs fewer than there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AttackSamples {
    /// The first in data-set order, as published. Sound when that order is random, as CIFAR's is.
    #[default]
    First,
    /// Spread evenly over the data-set order; for data sets that are sorted by class.
    Spread,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self {
            batch_size: 256,
            attacks: Feature::ALL.to_vec(),
            modified_entropy: ModifiedEntropy::default(),
            attack_samples: AttackSamples::default(),
            attack_tolerance: 1e-3,
            kernel_cache_mib: 256,
        }
    }
}

impl EvalConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`EvalError::Config`] names the field.
    pub fn validate(&self) -> Result<(), EvalError> {
        for (field, value) in [
            ("evaluation.batch_size", self.batch_size),
            ("evaluation.kernel_cache_mib", self.kernel_cache_mib),
        ] {
            if value == 0 {
                return Err(EvalError::Config {
                    field,
                    got: "0".into(),
                    expected: "at least 1",
                    mend: "leave it out for the default, 256",
                });
            }
        }
        if !(self.attack_tolerance.is_finite() && self.attack_tolerance > 0.0) {
            return Err(EvalError::Config {
                field: "evaluation.attack_tolerance",
                got: self.attack_tolerance.to_string(),
                expected: "a number above zero",
                mend: "leave it out for the default, 0.001",
            });
        }
        Ok(())
    }

    /// The reference switches that are on, by name, for the report.
    pub fn reference_switches(&self) -> Vec<String> {
        match self.modified_entropy {
            ModifiedEntropy::Corrected => Vec::new(),
            ModifiedEntropy::Reference => vec!["modified_entropy".into()],
        }
    }
}

/// The samples that a model is judged on.
#[derive(Debug, Clone, Copy)]
pub struct EvaluationData<'a> {
    /// The data set of training and validation samples; `partition` and `validation` index it.
    pub train: &'a Dataset,
    /// Forget and retain set.
    pub partition: &'a Partition,
    /// Validation samples ([`unlearn_data::Split::validation`]); empty where there are none.
    pub validation: &'a [usize],
    /// The test set.
    pub test: &'a Dataset,
}

/// A model's answers to all samples that it is judged on: what [`Evaluation::of`] computes from,
/// on the host, with no model and no device. A set without samples is an empty table.
#[derive(Debug, Clone, PartialEq)]
pub struct Tables {
    /// Forget set, in data-set order.
    pub forget: Predictions,
    /// Retain set, in data-set order.
    pub retain: Predictions,
    /// Validation samples.
    pub validation: Predictions,
    /// The whole test set, in data-set order.
    pub test: Predictions,
    /// The class, when a whole class is forgotten.
    pub forgotten_class: Option<usize>,
    /// Names of the classes by label.
    pub class_names: Vec<String>,
}

impl Tables {
    /// Runs `model` on all samples of `data`.
    ///
    /// # Errors
    /// Those of [`predict`].
    pub fn predict<M: Classifier>(
        model: &M,
        data: &EvaluationData<'_>,
        batch_size: usize,
    ) -> Result<Self, EvalError> {
        let table = |dataset: &Dataset, indices: &[usize]| match indices {
            [] => Predictions::new(Vec::new(), Vec::new(), model.num_classes()),
            _ => predict(model, dataset, indices, batch_size),
        };
        let all: Vec<usize> = (0..data.test.len()).collect();
        Ok(Self {
            forget: table(data.train, data.partition.forget())?,
            retain: table(data.train, data.partition.retain())?,
            validation: table(data.train, data.validation)?,
            test: table(data.test, &all)?,
            forgotten_class: data.partition.class(),
            class_names: data.train.class_names().to_vec(),
        })
    }

    /// The test samples that count: without the forgotten class, when a class is forgotten.
    pub fn counted_test(&self) -> Predictions {
        match self.forgotten_class {
            Some(class) => self.test.filter(|label| label != class),
            None => self.test.clone(),
        }
    }
}

/// What was measured of one model. Accuracies and shares are in per cent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// [`EVALUATION_SCHEMA`].
    pub schema: u32,
    /// UA: 100 − accuracy on the forget set.
    pub unlearning_accuracy: Metric,
    /// RA: accuracy on the retain set.
    pub retain_accuracy: Metric,
    /// TA: accuracy on the test set, without the forgotten class when a class is forgotten.
    pub test_accuracy: Metric,
    /// Accuracy on the whole test set.
    pub test_accuracy_full: Metric,
    /// Accuracy on the validation samples.
    pub validation_accuracy: Metric,
    /// Right answers of each class on the whole test set.
    pub test_by_class: Vec<ClassAccuracy>,
    /// Membership inference.
    pub membership: MembershipInference,
    /// Switches on which a metric follows the published code instead of the published formula.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reference: Vec<String>,
}

/// Measures `model` on `data`.
///
/// The model may lie on a plain or an autodiff device; it is run as an evaluation snapshot and not
/// changed.
///
/// # Errors
/// [`EvalError::Config`], and those of [`predict`] and [`membership_inference`]. A metric whose set
/// is empty is no error: it is absent, with the reason.
pub fn evaluate<M: Classifier>(
    model: &M,
    data: &EvaluationData<'_>,
    config: &EvalConfig,
) -> Result<Evaluation, EvalError> {
    config.validate()?;
    let tables = Tables::predict(model, data, config.batch_size)?;
    Evaluation::of(&tables, config)
}

impl Evaluation {
    /// Measures a model by its answers; a pure function of them.
    ///
    /// # Errors
    /// [`EvalError::Config`] and those of [`membership_inference`].
    pub fn of(tables: &Tables, config: &EvalConfig) -> Result<Self, EvalError> {
        config.validate()?;
        let (test_definition, test_empty) = match tables.forgotten_class {
            None => ("TA: top-1 accuracy on the test set, in per cent".to_owned(), "the test set is empty"),
            Some(class) => (
                format!(
                    "TA: top-1 accuracy on the test samples that are not of the forgotten class {class}, in per cent"
                ),
                "no test sample is of another class than the forgotten one",
            ),
        };
        Ok(Self {
            schema: EVALUATION_SCHEMA,
            unlearning_accuracy: Accuracy::of(&tables.forget).error_metric(
                "UA: 100 − top-1 accuracy on the forget set, in per cent",
                "the forget set is empty",
            ),
            retain_accuracy: Accuracy::of(&tables.retain)
                .metric("RA: top-1 accuracy on the retain set, in per cent", "the retain set is empty"),
            test_accuracy: Accuracy::of(&tables.counted_test()).metric(&test_definition, test_empty),
            test_accuracy_full: Accuracy::of(&tables.test)
                .metric("top-1 accuracy on the whole test set, in per cent", "the test set is empty"),
            validation_accuracy: Accuracy::of(&tables.validation).metric(
                "top-1 accuracy on the validation samples, all classes, in per cent",
                "the split has no validation samples",
            ),
            test_by_class: per_class(&tables.test, &tables.class_names),
            membership: membership_inference(tables, config)?,
            reference: config.reference_switches(),
        })
    }

    /// The number that papers call "MIA": forget efficacy of the attack on confidence, in per cent.
    pub fn mia(&self) -> &Metric {
        &self.membership.forget_efficacy.confidence
    }
}
