//! `results.csv`: one line a row, columns that never change their meaning.

use super::{Network, Report, Row, State};
use crate::EvalError;
use crate::attack::Feature;
use crate::metric::Metric;

/// The columns, in order. New ones are only ever added at the end. Accuracies, shares and gaps are
/// in per cent or percentage points; a number that is absent is an empty field.
pub const COLUMNS: [&str; 29] = [
    "network",
    "sparsity",
    "method",
    "ua",
    "ra",
    "ta",
    "ta_full",
    "val",
    "mia",
    "seconds",
    "gap",
    "gap_ua",
    "gap_ra",
    "gap_ta",
    "gap_mia",
    "mia_correctness",
    "mia_entropy",
    "mia_modified_entropy",
    "mia_probabilities",
    "privacy_correctness",
    "privacy_confidence",
    "privacy_entropy",
    "privacy_modified_entropy",
    "privacy_probabilities",
    "auc_forget_test",
    "seeds",
    "reference",
    "state",
    "network_name",
];

impl Report {
    /// The rows as CSV under the header [`COLUMNS`].
    ///
    /// # Errors
    /// [`EvalError::Format`] when it cannot be written.
    pub fn to_csv(&self) -> Result<String, EvalError> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(COLUMNS).map_err(|error| broken(&error.to_string()))?;
        for row in &self.rows {
            writer.write_record(fields(row)).map_err(|error| broken(&error.to_string()))?;
        }
        let bytes = writer.into_inner().map_err(|error| broken(&error.to_string()))?;
        String::from_utf8(bytes).map_err(|error| broken(&error.to_string()))
    }
}

fn fields(row: &Row) -> [String; COLUMNS.len()] {
    let number = |metric: &Metric| metric.value().map(|value| value.to_string()).unwrap_or_default();
    let (evaluation, gap) = (&row.evaluation, &row.gap);
    let efficacy = |feature| number(evaluation.membership.forget_efficacy.of(feature));
    let privacy = |feature| number(evaluation.membership.training_privacy.of(feature));
    let seeds: Vec<String> = row.seeds.iter().map(|(name, seed)| format!("{name}={seed}")).collect();
    [
        match row.network {
            Network::Dense => "dense".to_owned(),
            Network::Sparse => "sparse".to_owned(),
        },
        row.sparsity.to_string(),
        row.method.clone(),
        number(&evaluation.unlearning_accuracy),
        number(&evaluation.retain_accuracy),
        number(&evaluation.test_accuracy),
        number(&evaluation.test_accuracy_full),
        number(&evaluation.validation_accuracy),
        number(evaluation.mia()),
        number(&row.seconds),
        number(&gap.average),
        number(&gap.unlearning_accuracy),
        number(&gap.retain_accuracy),
        number(&gap.test_accuracy),
        number(&gap.mia),
        efficacy(Feature::Correctness),
        efficacy(Feature::Entropy),
        efficacy(Feature::ModifiedEntropy),
        efficacy(Feature::Probabilities),
        privacy(Feature::Correctness),
        privacy(Feature::Confidence),
        privacy(Feature::Entropy),
        privacy(Feature::ModifiedEntropy),
        privacy(Feature::Probabilities),
        number(&evaluation.membership.forget_test_auc),
        seeds.join(" "),
        row.reference.join(" "),
        match row.state {
            State::Done => "done".to_owned(),
            State::Diverged => "diverged".to_owned(),
        },
        row.network_name.clone().unwrap_or_default(),
    ]
}

fn broken(reason: &str) -> EvalError {
    EvalError::Format {
        what: "results.csv".into(),
        reason: reason.to_owned(),
        mend: "report this as a defect",
    }
}
