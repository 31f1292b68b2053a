//! The attack that the unlearning literature reports: a support vector machine that learns from
//! retained and test samples what a member looks like.

use rayon::prelude::*;

use super::auc::auc;
use super::feature::values;
use super::{ByFeature, Feature, MembershipInference, ModifiedEntropy};
use crate::EvalError;
use crate::accuracy::Accuracy;
use crate::evaluation::{AttackSamples, EvalConfig, Tables};
use crate::interval::hanley_mcneil;
use crate::metric::Metric;
use crate::predict::Predictions;
use crate::svm::{Svm, SvmConfig};

/// What the attacker learns from: answers to samples that the model was trained on, and to others.
#[derive(Debug, Clone, Copy)]
pub struct Shadow<'a> {
    /// Answers to training samples.
    pub members: &'a Predictions,
    /// Answers to samples that the model never saw.
    pub non_members: &'a Predictions,
}

impl Shadow<'_> {
    fn attack(
        self,
        feature: Feature,
        modified_entropy: ModifiedEntropy,
        config: &SvmConfig,
    ) -> Result<Svm, EvalError> {
        let (members, dimension) = values(self.members, feature, modified_entropy);
        let (non_members, _) = values(self.non_members, feature, modified_entropy);
        Svm::fit(&members, &non_members, dimension, config)
    }
}

/// Number of samples of `forget` that an attack on `feature`, trained on `shadow`, takes for
/// non-members.
///
/// # Errors
/// Those of [`Svm::fit`].
pub fn forget_efficacy(
    shadow: Shadow<'_>,
    forget: &Predictions,
    feature: Feature,
    modified_entropy: ModifiedEntropy,
    config: &SvmConfig,
) -> Result<usize, EvalError> {
    let svm = shadow.attack(feature, modified_entropy, config)?;
    Ok(forget.len() - svm.count_positive(&values(forget, feature, modified_entropy).0))
}

/// Numbers of `members` taken for members and of `non_members` taken for non-members by an attack
/// on `feature`, trained on `shadow`.
///
/// # Errors
/// Those of [`Svm::fit`].
pub fn training_privacy(
    shadow: Shadow<'_>,
    members: &Predictions,
    non_members: &Predictions,
    feature: Feature,
    modified_entropy: ModifiedEntropy,
    config: &SvmConfig,
) -> Result<(usize, usize), EvalError> {
    let svm = shadow.attack(feature, modified_entropy, config)?;
    let count = |table| svm.count_positive(&values(table, feature, modified_entropy).0);
    Ok((count(members), non_members.len() - count(non_members)))
}

/// Runs the attacks that `config` names on `tables`.
///
/// The members are |test| retained samples, or as many as there are: the first, or spread over the classes
/// ([`EvalConfig::attack_samples`]). In class-wise forgetting the test set is without the class, as published.
///
/// # Errors
/// [`EvalError::NotConverged`] when a support vector machine does not reach its tolerance.
pub fn membership_inference(tables: &Tables, config: &EvalConfig) -> Result<MembershipInference, EvalError> {
    let test = tables.counted_test();
    let size = test.len().min(tables.retain.len());
    let how = config.attack_samples;
    let (members, _) = part(&tables.retain, size, how);
    let (non_members, _) = part(&test, size, how);
    let (half_members, rest_members) = part(&tables.retain, size / 2, how);
    let (half_non_members, rest_non_members) = part(&test, size / 2, how);

    let without = tables.forgotten_class.map(|c| format!(" that are not of class {c}")).unwrap_or_default();
    let which = match how {
        AttackSamples::First => "the first of each",
        AttackSamples::Spread => "spread over the classes of each",
    };
    let learns = |feature: Feature, n: usize| {
        format!(
            "a support vector machine (Gaussian kernel, C = 3, γ = 1/dimension) on {} that learned to tell {n} \
             retained samples from {n} test samples{without}, {which},",
            feature.describe()
        )
    };
    let svm = SvmConfig {
        tolerance: config.attack_tolerance,
        cache_bytes: (config.kernel_cache_mib << 20) / rayon::current_num_threads().clamp(1, 10),
        ..SvmConfig::default()
    };
    let efficacy = |feature: Feature| -> Result<Metric, EvalError> {
        let definition = format!(
            "MIA, forget efficacy: share of the forget set that {} takes for non-members, in per cent",
            learns(feature, size)
        );
        if let Some(reason) = not_run(feature, config).or(too_few(tables, size, 1)) {
            return Ok(Metric::absent(reason, definition));
        }
        let shadow = Shadow { members: &members, non_members: &non_members };
        let count = forget_efficacy(shadow, &tables.forget, feature, config.modified_entropy, &svm)?;
        Ok(Accuracy::percent(count, tables.forget.len(), &definition, "the forget set is empty"))
    };
    let privacy = |feature: Feature| -> Result<Metric, EvalError> {
        let definition = format!(
            "MIA, training privacy: mean over the other retained and the other test samples{without} of the share \
             that {} puts on the right side, in per cent; 50 is chance",
            learns(feature, size / 2)
        );
        if let Some(reason) = not_run(feature, config).or(too_few(tables, size, 2)) {
            return Ok(Metric::absent(reason, definition));
        }
        let shadow = Shadow { members: &half_members, non_members: &half_non_members };
        let (right_members, right_non_members) = training_privacy(
            shadow,
            &rest_members,
            &rest_non_members,
            feature,
            config.modified_entropy,
            &svm,
        )?;
        let share = |count: usize, n: usize| 100.0 * count as f64 / n as f64;
        let mean = f64::midpoint(
            share(right_members, rest_members.len()),
            share(right_non_members, rest_non_members.len()),
        );
        Ok(Metric::measured(mean, rest_members.len() + rest_non_members.len(), definition))
    };
    let measured: Vec<(Metric, Metric)> = Feature::ALL
        .par_iter()
        .map(|&feature| {
            let (one, other) = rayon::join(|| efficacy(feature), || privacy(feature));
            Ok((one?, other?))
        })
        .collect::<Result<_, EvalError>>()?;
    let parts = [
        ("the members have", &members, &tables.retain),
        ("the non-members have", &non_members, &test),
        ("the members that privacy learns from have", &half_members, &tables.retain),
        ("the members that judge privacy have", &rest_members, &tables.retain),
        ("the non-members that privacy learns from have", &half_non_members, &test),
        ("the non-members that judge privacy have", &rest_non_members, &test),
    ];
    let place = |feature| Feature::ALL.iter().position(|f| *f == feature).unwrap_or_default();
    Ok(MembershipInference {
        forget_efficacy: ByFeature::each(|feature| measured[place(feature)].0.clone()),
        training_privacy: ByFeature::each(|feature| measured[place(feature)].1.clone()),
        forget_test_auc: forget_test_auc(tables),
        notes: notes(tables, &test, size, if how == AttackSamples::First { &parts } else { &[] }),
    })
}

fn not_run(feature: Feature, config: &EvalConfig) -> Option<&'static str> {
    (!config.attacks.contains(&feature)).then_some("the attack was not asked for")
}

fn too_few(tables: &Tables, size: usize, needed: usize) -> Option<&'static str> {
    match () {
        () if tables.retain.is_empty() => Some("the retain set is empty"),
        () if tables.forget.is_empty() && needed == 1 => Some("the forget set is empty"),
        () if size == 0 => Some("no test sample is left to serve as a non-member"),
        () if size < needed => Some("one sample a side is too few to learn from some and judge by others"),
        () => None,
    }
}

/// `count` rows of `table` and the other rows, both in order. Spread, they are so over the rows class by class: every
/// second row of data whose classes take turns would be every second class.
pub(super) fn part(table: &Predictions, count: usize, how: AttackSamples) -> (Predictions, Predictions) {
    let mut taken = vec![false; table.len()];
    let mut by_class: Vec<usize> = (0..table.len()).collect();
    by_class.sort_by_key(|&row| table.labels()[row]);
    for k in 0..count {
        let row = match how {
            AttackSamples::First => k,
            AttackSamples::Spread => by_class[k * table.len() / count],
        };
        taken[row] = true;
    }
    let rows = |value: bool| table.select((0..table.len()).filter(|&row| taken[row] == value));
    (rows(true), rows(false))
}

/// How well p_y ranks forget samples above test samples. In class-wise forgetting the test samples
/// are those *of* the class, so that the answer is about these samples and not about the class.
fn forget_test_auc(tables: &Tables) -> Metric {
    let (others, test) = match tables.forgotten_class {
        None => ("test samples".to_owned(), tables.test.clone()),
        Some(class) => (format!("test samples of class {class}"), tables.test.filter(|label| label == class)),
    };
    let definition = format!(
        "area under the ROC curve of confidence p_y telling forget samples from {others}, in per cent; 50 is chance, \
         above it forget samples are still answered with more confidence; n counts both"
    );
    let confidence = |table: &Predictions| values(table, Feature::Confidence, ModifiedEntropy::default()).0;
    let (forget, other) = (confidence(&tables.forget), confidence(&test));
    let Some(area) = auc(&forget, &other) else {
        let reason =
            if forget.is_empty() { "the forget set is empty" } else { "the test set has no such sample" };
        return Metric::absent(reason, definition);
    };
    let metric = Metric::measured(100.0 * area, forget.len() + other.len(), definition);
    match hanley_mcneil(area, forget.len(), other.len()) {
        Some([low, high]) => metric.with_interval([100.0 * low, 100.0 * high]),
        None => metric,
    }
}

/// Samples of the attack, what they are called, and what they were taken of.
type Part<'a> = (&'static str, &'a Predictions, &'a Predictions);

fn notes(tables: &Tables, test: &Predictions, size: usize, parts: &[Part<'_>]) -> Vec<String> {
    let mut notes = Vec::new();
    if tables.retain.len() < test.len() {
        notes.push(format!(
            "the retain set has {} samples, fewer than the {} test samples: the attack learned from {} of each",
            tables.retain.len(),
            test.len(),
            size
        ));
    }
    if let Some(class) = tables.forgotten_class {
        notes.push(format!(
            "class-wise: the attack never saw a non-member of class {class}, so that low confidence alone counts as \
             non-member; read forget efficacy against Retrain, and forget_test_auc beside it"
        ));
    }
    let missing: Vec<String> = parts
        .iter()
        .filter_map(|(what, part, whole)| Some(format!("{what} none of class {}", missing(part, whole)?)))
        .collect();
    if !missing.is_empty() {
        notes.push(format!(
            "the data are ordered by class, so that of the attack's samples {}; set attack_samples = \"spread\"",
            missing.join(", ")
        ));
    }
    notes
}

/// The classes of `whole` that `part` should have and has not.
fn missing(part: &Predictions, whole: &Predictions) -> Option<String> {
    if whole.is_empty() {
        return None;
    }
    let count = |table: &Predictions| {
        let mut counts = vec![0_usize; table.num_classes()];
        for &label in table.labels() {
            counts[label] += 1;
        }
        counts
    };
    let (have, all) = (count(part), count(whole));
    let missing: Vec<String> = (0..have.len())
        // Ten expected and none found does not happen by chance.
        .filter(|&c| have[c] == 0 && all[c] * part.len() >= 10 * whole.len())
        .map(|c| c.to_string())
        .collect();
    (!missing.is_empty()).then(|| missing.join(", "))
}
