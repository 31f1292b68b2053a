use std::collections::BTreeMap;

use super::*;
use crate::evaluation::EvalConfig;
use crate::testing::tables;

fn evaluation(forget: f32, retain: f32, test: f32) -> Evaluation {
    let config = EvalConfig { attacks: vec![crate::Feature::Confidence], ..EvalConfig::default() };
    Evaluation::of(&tables(forget, retain, test), &config).unwrap()
}

fn row(sparsity: f64, method: &str, evaluation: Evaluation) -> Row {
    Row::new(sparsity, method, evaluation)
        .unwrap()
        .with_seconds(1.25)
        .with_seeds([("forget", 2), ("init", 1)])
}

fn report() -> Report {
    let mut report = Report::new(BTreeMap::from([("data set".to_owned(), "toy".to_owned())]));
    report
        .push(
            Row::new(0.0, "original", evaluation(1.0, 1.0, 0.2))
                .unwrap()
                .with_seeds([("forget", 2), ("init", 1)]),
        )
        .unwrap();
    report.push(row(0.0, "finetune", evaluation(0.4, 0.9, 0.2))).unwrap();
    report.push(row(0.0, "retrain", evaluation(0.2, 1.0, 0.25))).unwrap();
    report.push(row(0.95, "finetune", evaluation(0.4, 0.7, 0.2))).unwrap();
    report
}

#[test]
fn gaps_are_mean_absolute_differences_to_retrain_of_the_same_network() {
    let report = report();
    let (ours, retrain) = (&report.rows[1], &report.rows[2]);
    let terms = |row: &Row| {
        [
            &row.evaluation.unlearning_accuracy,
            &row.evaluation.retain_accuracy,
            &row.evaluation.test_accuracy,
            row.evaluation.mia(),
        ]
        .map(|metric| metric.value().unwrap())
    };
    let (a, b) = (terms(ours), terms(retrain));
    let expected = (0..4).map(|i| (a[i] - b[i]).abs()).sum::<f64>() / 4.0;
    assert!(expected > 1.0, "the two models are too alike to test anything: {a:?} {b:?}");
    assert!((ours.gap.average.value().unwrap() - expected).abs() < 1e-12);
    assert_eq!(ours.gap.unlearning_accuracy.value(), Some(a[0] - b[0]));
    assert_eq!(retrain.gap.average.value(), Some(0.0));
    // No Retrain on the sparse network: the dense one must not stand in.
    assert!(report.rows[3].gap.average.reason().is_some_and(|r| r.contains("no retrain row")));
}

#[test]
fn gaps_need_the_same_seeds_and_the_same_measurement() {
    let mut report = report();
    report.push(row(0.0, "other-seed", evaluation(0.4, 0.9, 0.2)).with_seeds([("forget", 3)])).unwrap();
    assert!(report.rows[4].gap.average.value().is_none());

    let before = report.clone();
    let config = EvalConfig { modified_entropy: crate::ModifiedEntropy::Reference, ..EvalConfig::default() };
    let other = Evaluation::of(&tables(0.1, 0.1, 0.1), &config).unwrap();
    assert_eq!(report.push(row(0.0, "ga", other)).unwrap_err().code(), "E_INCOMPARABLE");
    let mut fewer = tables(0.1, 0.1, 0.1);
    fewer.forget = fewer.forget.select(0..10);
    let config = EvalConfig { attacks: vec![crate::Feature::Confidence], ..EvalConfig::default() };
    let error = report.push(row(0.0, "ga", Evaluation::of(&fewer, &config).unwrap())).unwrap_err();
    assert!(error.to_string().contains("over 10 samples"), "{error}");
    assert_eq!(report, before, "a refused row must leave the report as it was");
}

#[test]
fn a_term_that_is_absent_makes_the_average_absent_and_names_itself() {
    let config = EvalConfig { attacks: Vec::new(), ..EvalConfig::default() };
    let one = Evaluation::of(&tables(0.1, 0.5, 0.2), &config).unwrap();
    let gap = Gap::between(&one, &one).unwrap();
    assert_eq!(gap.average.reason(), Some("MIA is absent"));
    assert_eq!(gap.retain_accuracy.value(), Some(0.0));
}

#[test]
fn json_reads_back_to_the_same_bits_and_other_versions_are_refused() {
    let report = report();
    let text = report.to_json().unwrap();
    assert!(!text.contains("null"));
    assert_eq!(Report::from_json(&text).unwrap(), report);
    let code = |text: &str| Report::from_json(text).unwrap_err().code();
    assert_eq!(code(&text.replacen("results/v1", "results/v9", 1)), "E_RESULTS_SCHEMA");
    assert_eq!(code(&text.replacen("\"about\"", "\"abuot\"", 1)), "E_RESULTS_FORMAT");
    assert_eq!(code("{"), "E_RESULTS_FORMAT");
    assert_eq!(code("[]"), "E_RESULTS_FORMAT");
}

#[test]
fn csv_columns_are_stable_and_absent_numbers_are_empty() {
    let text = report().to_csv().unwrap();
    let mut reader = ::csv::Reader::from_reader(text.as_bytes());
    // Spelled out: scripts of users depend on it.
    assert_eq!(
        text.lines().next().unwrap(),
        "network,sparsity,method,ua,ra,ta,ta_full,val,mia,seconds,gap,gap_ua,gap_ra,gap_ta,gap_mia,\
         mia_correctness,mia_entropy,mia_modified_entropy,mia_probabilities,privacy_correctness,\
         privacy_confidence,privacy_entropy,privacy_modified_entropy,privacy_probabilities,\
         auc_forget_test,seeds,reference,state,network_name"
    );
    let records: Vec<BTreeMap<String, String>> = reader.deserialize().map(Result::unwrap).collect();
    let report = report();
    assert_eq!(records.len(), 4);
    assert_eq!(records[1]["method"], "finetune");
    assert_eq!(records[1]["ua"].parse::<f64>().ok(), report.rows[1].evaluation.unlearning_accuracy.value());
    assert_eq!(records[1]["gap"].parse::<f64>().ok(), report.rows[1].gap.average.value());
    assert_eq!((records[0]["seconds"].as_str(), records[1]["seconds"].as_str()), ("", "1.25"));
    assert_eq!((records[3]["network"].as_str(), records[3]["sparsity"].as_str()), ("sparse", "0.95"));
    assert_eq!((records[3]["gap"].as_str(), records[3]["mia_entropy"].as_str()), ("", ""));
    assert_eq!(records[0]["seeds"], "forget=2 init=1");
}

#[test]
fn markdown_has_aligned_columns_definitions_and_reasons() {
    let text = report().to_markdown();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("| network") && lines[0].ends_with("gap |"), "{}", lines[0]);
    for name in ["network", "method", "UA", "RA", "TA", "MIA", "time", "gap"] {
        assert!(lines[0].contains(&format!(" {name} ")), "{name}");
    }
    let width = lines[0].chars().count();
    assert!(lines[..6].iter().all(|line| line.chars().count() == width), "{text}");
    assert!(lines[5].starts_with("| sparse 95.0 % | finetune |"), "{}", lines[5]);
    // The original has no time, the sparse row no gap: each points to its reason.
    assert!(lines[2].contains("–¹") && text.contains("–¹: no time was recorded"), "{text}");
    assert!(lines[5].contains("–²") && text.contains("–²: no retrain row"), "{text}");
    assert!(text.contains("UA: 100 − top-1 accuracy on the forget set"), "{text}");
}

#[test]
fn a_row_that_diverged_says_so_in_every_form_and_has_no_number() {
    let mut report = report();
    let lost = |method: &str| {
        Row::diverged(0.0, method, "step 3: the loss is not finite", &EvalConfig::default())
            .unwrap()
            .with_seeds([("forget", 2), ("init", 1)])
    };
    report.push(lost("gradient-ascent")).unwrap();
    let text = report.to_json().unwrap();
    assert_eq!(Report::from_json(&text).unwrap(), report);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["rows"][1]["state"], &json["rows"][4]["state"]), (&"done".into(), &"diverged".into()));
    let reason = "diverged: step 3: the loss is not finite";
    assert_eq!(json["rows"][4]["evaluation"]["unlearning_accuracy"]["absent"], reason);
    assert_eq!(json["rows"][4]["gap"]["average"]["absent"], reason);
    let csv = report.to_csv().unwrap();
    let last = csv.lines().last().unwrap();
    assert!(last.starts_with("dense,0,gradient-ascent,,,") && last.ends_with(",diverged,"), "{last}");
    let table = report.to_markdown();
    assert!(table.contains("| gradient-ascent (diverged) |") && table.contains(reason), "{table}");
    // Without its Retrain a row has no gap; the reason is not that there is none.
    report.push(lost("retrain")).unwrap();
    assert_eq!(report.rows[1].gap.average.reason(), Some("Retrain of the same network diverged"));
    // The definitions are those of a row that was measured.
    let mut first = Report::default();
    first.push(lost("original")).unwrap();
    first.push(row(0.0, "finetune", evaluation(0.4, 0.9, 0.2))).unwrap();
    let definition = first.rows[1].evaluation.test_accuracy.definition();
    assert!(first.to_markdown().contains(definition), "{definition}");
}

#[test]
fn rows_are_checked() {
    let bad =
        |sparsity, method: &str| Row::new(sparsity, method, evaluation(0.1, 0.1, 0.1)).unwrap_err().code();
    assert_eq!(bad(1.0, "ft"), "E_CONFIG");
    assert_eq!(bad(f64::NAN, "ft"), "E_CONFIG");
    assert_eq!(bad(0.5, ""), "E_CONFIG");
    let row = row(0.0, "iu", evaluation(0.1, 0.1, 0.1));
    let nan = row.with_diagnostics(BTreeMap::from([("cosine".to_owned(), f64::NAN)]));
    assert_eq!(Report::default().push(nan).unwrap_err().code(), "E_RESULTS_FORMAT");
}

#[test]
fn reference_switches_of_row_and_evaluation_are_joined() {
    let row = row(0.0, "fisher", evaluation(0.1, 0.1, 0.1)).with_reference(["split", "fisher", "split"]);
    assert_eq!(row.reference, ["fisher", "split"]);
}

#[test]
fn three_files_are_written_whole() {
    let folder = tempfile::tempdir().unwrap();
    let report = report();
    report.save(folder.path()).unwrap();
    report.save(folder.path()).unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(Report::from_json(&read("results.json")).unwrap(), report);
    assert_eq!(read("results.csv"), report.to_csv().unwrap());
    assert_eq!(read("results.md"), report.to_markdown());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    let error = report.save(&folder.path().join("missing")).unwrap_err();
    assert_eq!(error.code(), "E_IO");
    assert!(error.to_string().contains("results.json"), "{error}");
}

#[test]
fn networks_that_look_alike_are_shown_with_their_names() {
    let mut report = Report::new(BTreeMap::new());
    let named = |sparsity, name| row(sparsity, "original", evaluation(0.4, 0.9, 0.2)).with_network_name(name);
    for (sparsity, name) in [(0.0, "dense"), (0.5, "one-shot"), (0.5, "rounds"), (0.9, "alone")] {
        report.push(named(sparsity, name)).unwrap();
    }
    let table = report.to_markdown();
    for cell in ["| sparse 50.0 % (one-shot) ", "| sparse 50.0 % (rounds) ", "| dense ", "| sparse 90.0 % "] {
        assert!(table.contains(cell), "no {cell:?} in {table}");
    }
    assert!(!table.contains("(alone)") && !table.contains("(dense)"), "{table}");
    let csv = report.to_csv().unwrap();
    let names: Vec<&str> = csv.lines().map(|line| line.rsplit(',').next().unwrap()).collect();
    assert_eq!(names, ["network_name", "dense", "one-shot", "rounds", "alone"]);
}
