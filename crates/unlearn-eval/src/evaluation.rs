//! Everything that is measured of one model, each number with its definition.

use serde::{Deserialize, Serialize};
use unlearn_data::{Dataset, Partition};
use unlearn_models::Classifier;

use crate::EvalError;
use crate::accuracy::{Accuracy, ClassAccuracy, per_class};
use crate::attack::{ByFeature, Feature, MembershipInference, ModifiedEntropy, membership_inference};
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
    /// Spread evenly over the classes and, within each, over the data-set order; for data sets that are sorted by class.
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

const UA: &str = "UA: 100 − top-1 accuracy on the forget set, in per cent";
const RA: &str = "RA: top-1 accuracy on the retain set, in per cent";
const TA: &str = "TA: top-1 accuracy on the test set, in per cent";
const TA_FULL: &str = "top-1 accuracy on the whole test set, in per cent";
const VALIDATION: &str = "top-1 accuracy on the validation samples, all classes, in per cent";

impl Evaluation {
    /// Measures a model by its answers; a pure function of them.
    ///
    /// # Errors
    /// [`EvalError::Config`] and those of [`membership_inference`].
    pub fn of(tables: &Tables, config: &EvalConfig) -> Result<Self, EvalError> {
        config.validate()?;
        let (test_definition, test_empty) = match tables.forgotten_class {
            None => (TA.to_owned(), "the test set is empty"),
            Some(class) => (
                format!(
                    "TA: top-1 accuracy on the test samples that are not of the forgotten class {class}, in per cent"
                ),
                "no test sample is of another class than the forgotten one",
            ),
        };
        Ok(Self {
            schema: EVALUATION_SCHEMA,
            unlearning_accuracy: Accuracy::of(&tables.forget).error_metric(UA, "the forget set is empty"),
            retain_accuracy: Accuracy::of(&tables.retain).metric(RA, "the retain set is empty"),
            test_accuracy: Accuracy::of(&tables.counted_test()).metric(&test_definition, test_empty),
            test_accuracy_full: Accuracy::of(&tables.test).metric(TA_FULL, "the test set is empty"),
            validation_accuracy: Accuracy::of(&tables.validation)
                .metric(VALIDATION, "the split has no validation samples"),
            test_by_class: per_class(&tables.test, &tables.class_names),
            membership: membership_inference(tables, config)?,
            reference: config.reference_switches(),
        })
    }

    /// What stands in the place of a measurement that cannot be made: every number absent, because of
    /// `reason`.
    pub fn absent(reason: &str, config: &EvalConfig) -> Self {
        let absent = |definition: &str| Metric::absent(reason, definition);
        let by_feature = |what: &str| {
            ByFeature::each(|feature| absent(&format!("{what}, attack on {}", feature.describe())))
        };
        Self {
            schema: EVALUATION_SCHEMA,
            unlearning_accuracy: absent(UA),
            retain_accuracy: absent(RA),
            test_accuracy: absent(TA),
            test_accuracy_full: absent(TA_FULL),
            validation_accuracy: absent(VALIDATION),
            test_by_class: Vec::new(),
            membership: MembershipInference {
                forget_efficacy: by_feature("forget efficacy"),
                training_privacy: by_feature("training privacy"),
                forget_test_auc: absent("AUC of confidence, forget against test samples"),
                notes: Vec::new(),
            },
            reference: config.reference_switches(),
        }
    }

    /// The number that papers call "MIA": forget efficacy of the attack on confidence, in per cent.
    pub fn mia(&self) -> &Metric {
        &self.membership.forget_efficacy.confidence
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{table, tables};

    /// Three classes; which sample is right can be read off.
    fn small() -> Tables {
        const ROWS: [[f32; 3]; 3] = [[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 9.0]];
        let right = |y: usize| -> (&[f32], usize) { (&ROWS[y], y) };
        let wrong = |y: usize| -> (&[f32], usize) { (right((y + 1) % 3).0, y) };
        Tables {
            forget: table(&[right(0), wrong(0), wrong(0), wrong(0)]),
            retain: table(&[right(1), right(2), right(1), wrong(2), right(1)]),
            validation: Predictions::new(Vec::new(), Vec::new(), 3).unwrap(),
            test: table(&[wrong(0), wrong(0), right(1), right(1), wrong(2), right(2)]),
            forgotten_class: Some(0),
            class_names: ["a", "b", "c"].map(str::to_owned).to_vec(),
        }
    }

    #[test]
    fn accuracies_are_what_can_be_counted_by_hand() {
        let got = Evaluation::of(&small(), &EvalConfig::default()).unwrap();
        assert_eq!((got.unlearning_accuracy.value(), got.unlearning_accuracy.n()), (Some(75.0), 4));
        assert_eq!((got.retain_accuracy.value(), got.retain_accuracy.n()), (Some(80.0), 5));
        assert_eq!((got.test_accuracy.value(), got.test_accuracy.n()), (Some(75.0), 4));
        assert_eq!((got.test_accuracy_full.value(), got.test_accuracy_full.n()), (Some(50.0), 6));
        assert_eq!(got.validation_accuracy.reason(), Some("the split has no validation samples"));
        let counts: Vec<_> = got.test_by_class.iter().map(|c| (c.name.as_str(), c.correct, c.n)).collect();
        assert_eq!(counts, [("a", 0, 2), ("b", 2, 2), ("c", 1, 2)]);
        assert!(got.test_accuracy.definition().contains("not of the forgotten class 0"));

        let mut random = small();
        random.forgotten_class = None;
        let got = Evaluation::of(&random, &EvalConfig::default()).unwrap();
        assert_eq!(got.test_accuracy.value(), Some(50.0));
    }

    #[test]
    fn a_test_set_of_the_forgotten_class_alone_leaves_ta_absent() {
        let mut tables = small();
        tables.test = tables.test.filter(|label| label == 0);
        let got = Evaluation::of(&tables, &EvalConfig::default()).unwrap();
        assert!(got.test_accuracy.reason().is_some_and(|r| r.contains("forgotten")));
        assert_eq!(got.test_accuracy_full.value(), Some(0.0));
        assert!(got.mia().value().is_none());
    }

    #[test]
    fn accuracies_do_not_depend_on_the_order_of_samples() {
        let one = tables(0.1, 0.6, 0.3);
        let mut other = one.clone();
        for table in [&mut other.forget, &mut other.retain, &mut other.validation, &mut other.test] {
            *table = table.select((0..table.len()).rev());
        }
        let config = EvalConfig { attacks: Vec::new(), ..EvalConfig::default() };
        assert_eq!(Evaluation::of(&one, &config).unwrap(), Evaluation::of(&other, &config).unwrap());
    }

    #[test]
    fn it_reads_back_from_json_to_the_same_bits_and_says_why_numbers_are_absent() {
        let evaluation = Evaluation::of(&small(), &EvalConfig::default()).unwrap();
        let text = serde_json::to_string(&evaluation).unwrap();
        assert!(!text.contains("null"), "{text}");
        assert_eq!(serde_json::from_str::<Evaluation>(&text).unwrap(), evaluation);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["unlearning_accuracy"]["value"], 75.0);
        assert_eq!(value["validation_accuracy"]["absent"], "the split has no validation samples");
        let strange = text.replacen("\"schema\":1", "\"schema\":1,\"mia\":3", 1);
        assert!(serde_json::from_str::<Evaluation>(&strange).is_err());
    }

    #[test]
    fn configurations_are_checked_and_have_defaults() {
        let config: EvalConfig = serde_json::from_str(r#"{"modified_entropy":"reference"}"#).unwrap();
        assert_eq!(config.reference_switches(), ["modified_entropy"]);
        assert_eq!(
            EvalConfig { modified_entropy: ModifiedEntropy::Corrected, ..config },
            EvalConfig::default()
        );
        assert!(serde_json::from_str::<EvalConfig>(r#"{"batchsize":3}"#).is_err());
        let standard = EvalConfig::default;
        for bad in [
            EvalConfig { batch_size: 0, ..standard() },
            EvalConfig { kernel_cache_mib: 0, ..standard() },
            EvalConfig { attack_tolerance: 0.0, ..standard() },
            EvalConfig { attack_tolerance: f64::NAN, ..standard() },
        ] {
            assert_eq!(Evaluation::of(&small(), &bad).unwrap_err().code(), "E_CONFIG");
        }
    }

    #[test]
    fn a_value_that_is_not_finite_becomes_absent() {
        assert!(Metric::measured(f64::NAN, 3, "x").reason().is_some());
        assert!(Metric::measured(f64::INFINITY, 3, "x").value().is_none());
    }
}
