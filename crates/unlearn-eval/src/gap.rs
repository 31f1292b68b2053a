//! How far a model is from Retrain.

use serde::{Deserialize, Serialize};

use crate::EvalError;
use crate::evaluation::Evaluation;
use crate::metric::Metric;

const AVERAGE: &str = "average gap to Retrain of the same network: mean of |difference| over UA, RA, TA and MIA \
     (forget efficacy on confidence), in percentage points; n counts the terms";

/// Differences to Retrain, model minus Retrain in percentage points, and the mean of their
/// absolute values, which papers call "Avg. Gap" or "Disparity Average".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gap {
    /// Mean of |difference| over the four terms; absent when one of them is.
    pub average: Metric,
    /// Difference in UA.
    pub unlearning_accuracy: Metric,
    /// Difference in RA.
    pub retain_accuracy: Metric,
    /// Difference in TA.
    pub test_accuracy: Metric,
    /// Difference in MIA: forget efficacy on confidence.
    pub mia: Metric,
}

impl Gap {
    /// The gap of `evaluation` to that of Retrain: the same partition, the same network and
    /// sparsity.
    ///
    /// # Errors
    /// [`EvalError::Incomparable`] when a metric was measured over another number of samples, by
    /// another definition or with other reference switches.
    pub fn between(evaluation: &Evaluation, retrain: &Evaluation) -> Result<Self, EvalError> {
        if evaluation.reference != retrain.reference {
            return Err(EvalError::Incomparable {
                metric: "the evaluation",
                got: format!("with the reference switches {:?}", evaluation.reference),
                expected: format!("with {:?}", retrain.reference),
            });
        }
        let ua = difference("UA", &evaluation.unlearning_accuracy, &retrain.unlearning_accuracy)?;
        let ra = difference("RA", &evaluation.retain_accuracy, &retrain.retain_accuracy)?;
        let ta = difference("TA", &evaluation.test_accuracy, &retrain.test_accuracy)?;
        let mia = difference("MIA", evaluation.mia(), retrain.mia())?;
        let terms = [("UA", &ua), ("RA", &ra), ("TA", &ta), ("MIA", &mia)];
        let values: Vec<f64> = terms.iter().filter_map(|(_, term)| term.value()).collect();
        let average = if values.len() == terms.len() {
            let mean = values.iter().map(|v| v.abs()).sum::<f64>() / values.len() as f64;
            Metric::measured(mean, values.len(), AVERAGE)
        } else {
            let missing: Vec<&str> =
                terms.iter().filter(|(_, term)| term.value().is_none()).map(|(name, _)| *name).collect();
            Metric::absent(format!("{} is absent", missing.join(", ")), AVERAGE)
        };
        Ok(Self { average, unlearning_accuracy: ua, retain_accuracy: ra, test_accuracy: ta, mia })
    }

    /// No gap, because of `reason`.
    pub fn absent(reason: &str) -> Self {
        let term = |name| Metric::absent(reason, definition(name));
        Self {
            average: Metric::absent(reason, AVERAGE),
            unlearning_accuracy: term("UA"),
            retain_accuracy: term("RA"),
            test_accuracy: term("TA"),
            mia: term("MIA"),
        }
    }
}

fn definition(name: &str) -> String {
    format!("{name} minus that of Retrain, in percentage points")
}

fn difference(name: &'static str, ours: &Metric, retrain: &Metric) -> Result<Metric, EvalError> {
    match (ours, retrain) {
        (Metric::Measured(a), Metric::Measured(b)) => {
            let how = |m: &crate::metric::Measured| format!("over {} samples as {:?}", m.n, m.definition);
            if a.n != b.n || a.definition != b.definition {
                return Err(EvalError::Incomparable { metric: name, got: how(a), expected: how(b) });
            }
            Ok(Metric::measured(a.value - b.value, a.n, definition(name)))
        }
        (Metric::Absent(absent), _) => Ok(Metric::absent(absent.absent.clone(), definition(name))),
        (_, Metric::Absent(absent)) => {
            Ok(Metric::absent(format!("Retrain has none: {}", absent.absent), definition(name)))
        }
    }
}
