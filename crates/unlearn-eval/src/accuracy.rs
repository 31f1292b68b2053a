//! Accuracies: counts that merge, and what they are called in the unlearning literature.

use serde::{Deserialize, Serialize};

use crate::interval::wilson;
use crate::metric::Metric;
use crate::predict::{Predictions, argmax};

/// Right answers and samples. Sums, so that parts of a data set can be counted apart and merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accuracy {
    /// Samples whose largest logit is that of their class.
    pub correct: usize,
    /// Samples.
    pub n: usize,
}

impl Accuracy {
    /// Top-1 accuracy of a table.
    pub fn of(predictions: &Predictions) -> Self {
        predictions.rows().fold(Self::default(), |sum, (logits, label)| {
            sum.merge(Self { correct: usize::from(argmax(logits) == label), n: 1 })
        })
    }

    /// Both counts together.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self { correct: self.correct + other.correct, n: self.n + other.n }
    }

    /// Correct answers in per cent, with Wilson's interval; absent for `empty` when n = 0.
    pub fn metric(self, definition: &str, empty: &str) -> Metric {
        Self::percent(self.correct, self.n, definition, empty)
    }

    /// Wrong answers in per cent (100 − accuracy), with Wilson's interval.
    pub fn error_metric(self, definition: &str, empty: &str) -> Metric {
        Self::percent(self.n - self.correct, self.n, definition, empty)
    }

    /// `count` of `n` in per cent.
    pub(crate) fn percent(count: usize, n: usize, definition: &str, empty: &str) -> Metric {
        match wilson(count, n) {
            None => Metric::absent(empty, definition),
            Some([low, high]) => Metric::measured(100.0 * count as f64 / n as f64, n, definition)
                .with_interval([100.0 * low, 100.0 * high]),
        }
    }
}

/// Right answers of one class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassAccuracy {
    /// The class.
    pub class: usize,
    /// Its name.
    pub name: String,
    /// Samples of the class that are answered rightly.
    pub correct: usize,
    /// Samples of the class; with 0 there is no accuracy.
    pub n: usize,
}

/// Counts of each class, in the order of `names`.
pub fn per_class(predictions: &Predictions, names: &[String]) -> Vec<ClassAccuracy> {
    let mut counts: Vec<ClassAccuracy> = names
        .iter()
        .enumerate()
        .map(|(class, name)| ClassAccuracy { class, name: name.clone(), correct: 0, n: 0 })
        .collect();
    for (logits, label) in predictions.rows() {
        if let Some(count) = counts.get_mut(label) {
            count.n += 1;
            count.correct += usize::from(argmax(logits) == label);
        }
    }
    counts
}
