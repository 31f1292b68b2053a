use super::feature::values;
use super::*;
use crate::evaluation::{AttackSamples, EvalConfig};
use crate::predict::Predictions;
use crate::svm::SvmConfig;
use crate::testing::{draw, table, tables};

fn feature(p: &[f32], y: usize, feature: Feature) -> f64 {
    let predictions = Predictions::from_probabilities(p, vec![y], p.len()).unwrap();
    values(&predictions, feature, ModifiedEntropy::Corrected).0[0]
}

#[test]
fn features_are_their_formulas() {
    let p = [0.7_f32, 0.2, 0.1];
    let close = |got: f64, expected: f64| assert!((got - expected).abs() < 1e-6, "{got} {expected}");
    assert_eq!(feature(&p, 0, Feature::Correctness), 1.0);
    assert_eq!(feature(&p, 1, Feature::Correctness), 0.0);
    close(feature(&p, 1, Feature::Confidence), 0.2);
    let ln = f64::ln;
    close(feature(&p, 1, Feature::Entropy), -(0.7 * ln(0.7) + 0.2 * ln(0.2) + 0.1 * ln(0.1)));
    close(feature(&p, 0, Feature::ModifiedEntropy), -(0.3 * ln(0.7) + 0.2 * ln(0.8) + 0.1 * ln(0.9)));
    close(feature(&p, 1, Feature::ModifiedEntropy), -(0.8 * ln(0.2) + 0.7 * ln(0.3) + 0.1 * ln(0.9)));
    let predictions = Predictions::from_probabilities(&p, vec![0], 3).unwrap();
    let (vector, dimension) = values(&predictions, Feature::Probabilities, ModifiedEntropy::Corrected);
    assert_eq!(dimension, 3);
    vector.iter().zip(p).for_each(|(got, expected)| close(*got, f64::from(expected)));
}

#[test]
fn modified_entropy_keeps_its_digits_when_confidence_rounds_to_one() {
    // Two classes, logits ±20: 1 − p = e⁻⁴⁰ (to its square). Right: 2 e⁻⁸⁰. Wrong: 40 + 40.
    let one =
        |y| values(&table(&[(&[20.0, -20.0], y)]), Feature::ModifiedEntropy, ModifiedEntropy::Corrected).0[0];
    let right = 2.0 * (-80.0_f64).exp();
    assert!((one(0) / right - 1.0).abs() < 1e-6, "{} {right}", one(0));
    assert!((one(1) - 80.0).abs() < 1e-5, "{}", one(1));
    // A probability that is exactly zero costs nothing and is no NaN.
    assert_eq!(feature(&[1.0, 0.0, 0.0], 0, Feature::ModifiedEntropy), 0.0);
    assert_eq!(feature(&[1.0, 0.0, 0.0], 0, Feature::Entropy), 0.0);
}

#[test]
fn corrected_modified_entropy_is_the_samples_own_and_the_reference_is_not() {
    let alone = Predictions::from_probabilities(&[0.7, 0.2, 0.1], vec![0], 3).unwrap();
    let pair = Predictions::from_probabilities(&[0.7, 0.2, 0.1, 0.3, 0.3, 0.4], vec![0, 1], 3).unwrap();
    let first = |table: &Predictions, variant| values(table, Feature::ModifiedEntropy, variant).0[0];
    assert_eq!(first(&alone, ModifiedEntropy::Corrected), first(&pair, ModifiedEntropy::Corrected));
    let ln = f64::ln;
    let expected = [
        (&alone, -(0.3 * ln(0.7) + 0.2 * ln(0.2) + 0.1 * ln(0.1))),
        (&pair, -(0.3 * ln(0.7) + 0.8 * ln(0.2) + 0.1 * ln(0.1))),
    ];
    for (table, expected) in expected {
        let got = first(table, ModifiedEntropy::Reference);
        assert!((got - expected).abs() < 1e-6, "{got} {expected}");
    }
}

#[test]
fn identical_distributions_leave_the_attack_at_chance() {
    let mut tables = tables(0.3, 0.3, 0.3);
    tables.forget = draw(600, 3, 0.3, 11);
    tables.retain = draw(1200, 3, 0.3, 12);
    tables.test = draw(600, 3, 0.3, 13);
    let found = membership_inference(&tables, &EvalConfig::default()).unwrap();
    for feature in Feature::ALL {
        let privacy = found.training_privacy.of(feature).value().unwrap();
        assert!((privacy - 50.0).abs() < 5.0, "{feature:?}: {privacy}");
    }
    let area = found.forget_test_auc.value().unwrap();
    assert!((area - 50.0).abs() < 5.0, "{area}");
}

#[test]
fn members_that_are_answered_with_more_confidence_are_found() {
    let remembered = membership_inference(&tables(4.0, 4.0, 0.0), &EvalConfig::default()).unwrap();
    let forgotten = membership_inference(&tables(0.0, 4.0, 0.0), &EvalConfig::default()).unwrap();
    for feature in [Feature::Confidence, Feature::ModifiedEntropy, Feature::Probabilities] {
        let privacy = remembered.training_privacy.of(feature).value().unwrap();
        let (low, high) = (
            remembered.forget_efficacy.of(feature).value().unwrap(),
            forgotten.forget_efficacy.of(feature).value().unwrap(),
        );
        assert!(privacy > 95.0 && low < 5.0 && high > 95.0, "{feature:?}: {privacy} {low} {high}");
    }
    assert!(remembered.forget_test_auc.value().unwrap() > 95.0);
}

#[test]
fn correctness_counts_wrong_answers_when_members_are_answered_better() {
    // Members 4 of 4 right, non-members 1 of 4: the attack takes "right" for "member".
    let answer: &[f32] = &[1.0, 0.0];
    let (right, wrong) = ((answer, 0), (answer, 1));
    let members = table(&[right; 4]);
    let non_members = table(&[right, wrong, wrong, wrong]);
    let shadow = Shadow { members: &members, non_members: &non_members };
    let forget = table(&[right, right, right, wrong, wrong]);
    let count = |config| {
        forget_efficacy(shadow, &forget, Feature::Correctness, ModifiedEntropy::Corrected, &config).unwrap()
    };
    assert_eq!(count(SvmConfig::default()), 2);
    let (a, b) = training_privacy(
        shadow,
        &members,
        &forget,
        Feature::Correctness,
        ModifiedEntropy::Corrected,
        &SvmConfig::default(),
    )
    .unwrap();
    assert_eq!((a, b), (4, 2));
}

#[test]
fn order_within_the_sets_does_not_matter() {
    let one = tables(0.5, 1.0, 0.2);
    let mut other = one.clone();
    for table in [&mut other.forget, &mut other.test] {
        *table = table.select((0..table.len()).rev());
    }
    // Of the retain set the first |test| are the members: reverse them among themselves.
    let n = one.test.len();
    other.retain = one.retain.select((0..n).rev().chain((n..one.retain.len()).rev()));
    let config = EvalConfig::default();
    let (one, other) =
        (membership_inference(&one, &config).unwrap(), membership_inference(&other, &config).unwrap());
    assert_eq!(one.forget_efficacy, other.forget_efficacy);
    assert_eq!(one.forget_test_auc, other.forget_test_auc);
}

#[test]
fn class_wise_attacks_see_no_test_sample_of_the_class() {
    let mut tables = tables(0.0, 2.0, 0.5);
    tables.forget = tables.forget.filter(|label| label == 1);
    tables.retain = tables.retain.filter(|label| label != 1);
    tables.forgotten_class = Some(1);
    let found = membership_inference(&tables, &EvalConfig::default()).unwrap();
    // 120 test samples, a third of them of the class.
    let definition = found.forget_efficacy.confidence.definition();
    assert!(
        definition.contains("80 retained samples from 80 test samples that are not of class 1"),
        "{definition}"
    );
    assert_eq!(found.forget_efficacy.confidence.n(), tables.forget.len());
    assert_eq!(found.forget_test_auc.n(), tables.forget.len() + 40);
    assert!(found.notes.iter().any(|note| note.contains("class 1")), "{:?}", found.notes);
}

#[test]
fn a_retain_set_smaller_than_the_test_set_shrinks_both_sides_and_says_so() {
    let mut tables = tables(0.0, 2.0, 0.5);
    tables.retain = tables.retain.select(0..50);
    let found = membership_inference(&tables, &EvalConfig::default()).unwrap();
    let definition = found.forget_efficacy.confidence.definition();
    assert!(definition.contains("50 retained samples from 50 test samples"), "{definition}");
    assert!(found.notes.iter().any(|note| note.contains("50 of each")), "{:?}", found.notes);
    // Half of 50 a side train; the other 25 retained and 95 test samples judge.
    assert_eq!(found.training_privacy.confidence.n(), 25 + 95);
}

#[test]
fn data_in_class_order_are_noticed_and_can_be_spread() {
    let mut tables = tables(0.5, 1.0, 0.5);
    let mut rows: Vec<usize> = (0..tables.retain.len()).collect();
    rows.sort_by_key(|&row| tables.retain.labels()[row]);
    tables.retain = tables.retain.select(rows);
    let note = |config: &EvalConfig| {
        let found = membership_inference(&tables, config).unwrap();
        found.notes.iter().any(|note| note.contains("ordered by class"))
    };
    assert!(note(&EvalConfig::default()));
    let spread = EvalConfig { attack_samples: AttackSamples::Spread, ..EvalConfig::default() };
    assert!(!note(&spread));
    // Numbers of the two kinds are not compared: they differ in definition.
    let definition = |config: &EvalConfig| {
        let found = membership_inference(&tables, config).unwrap();
        found.forget_efficacy.confidence.definition().to_owned()
    };
    assert_ne!(definition(&EvalConfig::default()), definition(&spread));
}

/// Of ten classes in turn, every second sample would be every second class.
#[test]
fn spread_halves_have_every_class() {
    let n = 200;
    let labels: Vec<usize> = (0..n).map(|i| i % 10).collect();
    let logits: Vec<f32> = (0..n * 10).map(|i| ((i * 37 % 101) as f32) / 50.0).collect();
    let table = Predictions::new(logits, labels, 10).unwrap();
    for count in [100, 50, 33] {
        let (taken, others) = super::svc::part(&table, count, AttackSamples::Spread);
        assert_eq!((taken.len(), others.len()), (count, n - count));
        for (half, len) in [(&taken, count), (&others, n - count)] {
            for class in 0..10 {
                let of_class = half.labels().iter().filter(|&&label| label == class).count();
                assert!((of_class as f64 - len as f64 / 10.0).abs() <= 1.0, "{count}: {of_class} of {class}");
            }
        }
    }
}

#[test]
fn non_members_and_halves_in_class_order_are_noticed_too() {
    let mut tables = tables(0.5, 1.0, 0.5);
    let ordered = |table: &Predictions| {
        let mut rows: Vec<usize> = (0..table.len()).collect();
        rows.sort_by_key(|&row| table.labels()[row]);
        table.select(rows)
    };
    let note = |tables: &crate::Tables| {
        let notes = membership_inference(tables, &EvalConfig::default()).unwrap().notes;
        notes.into_iter().find(|note| note.contains("ordered by class")).unwrap_or_default()
    };
    assert_eq!(note(&tables), "");
    tables.test = ordered(&tables.test);
    let halves = note(&tables);
    assert!(halves.contains("the non-members that privacy learns from have none of class 2"), "{halves}");
    assert!(!halves.contains("samples the non-members have"), "all of the test set serves: {halves}");
    // Fewer retained samples than test samples: the last class falls out of the non-members.
    tables.retain = tables.retain.select(0..70);
    let cut = note(&tables);
    assert!(cut.contains("samples the non-members have none of class 2"), "{cut}");
    assert!(!cut.contains("the members"), "{cut}");
}

#[test]
fn what_cannot_be_computed_is_absent_with_a_reason() {
    let empty = Predictions::new(Vec::new(), Vec::new(), 3).unwrap();
    let config = EvalConfig { attacks: vec![Feature::Confidence], ..EvalConfig::default() };
    let reasons = |change: &dyn Fn(&mut crate::Tables)| {
        let mut tables = tables(0.0, 1.0, 0.0);
        change(&mut tables);
        let found = membership_inference(&tables, &config).unwrap();
        [&found.forget_efficacy.confidence, &found.training_privacy.confidence, &found.forget_test_auc]
            .map(|metric| metric.reason().map(str::to_owned))
    };
    let [efficacy, privacy, area] = reasons(&|t| t.test = empty.clone());
    assert!(efficacy.is_some() && privacy.is_some() && area.is_some());
    let [efficacy, privacy, area] = reasons(&|t| t.forget = empty.clone());
    assert!(efficacy.is_some() && privacy.is_none() && area.is_some());
    let [efficacy, privacy, area] = reasons(&|t| t.retain = empty.clone());
    assert!(efficacy.is_some() && privacy.is_some() && area.is_none());
    let [efficacy, privacy, area] = reasons(&|t| t.test = t.test.select(0..1));
    assert!(efficacy.is_none() && privacy.is_some() && area.is_none());
    // A test set of the forgotten class only.
    let [efficacy, privacy, area] = reasons(&|t| {
        t.forgotten_class = Some(2);
        t.test = t.test.filter(|label| label == 2);
    });
    assert!(efficacy.is_some() && privacy.is_some() && area.is_none());

    let found = membership_inference(&tables(0.0, 1.0, 0.0), &config).unwrap();
    assert_eq!(found.forget_efficacy.entropy.reason(), Some("the attack was not asked for"));
}
