//! Many evaluations side by side: `results.json`, `results.csv` and a Markdown table.

mod csv;
mod json;
mod markdown;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use csv::COLUMNS;

use crate::EvalError;
use crate::evaluation::{EvalConfig, Evaluation};
use crate::gap::Gap;
use crate::metric::Metric;

/// Name and version of `results.json`.
pub const RESULTS_SCHEMA: &str = "unlearn/results/v1";

/// The method whose rows the gaps refer to.
pub const RETRAIN: &str = "retrain";

/// The network that a method started from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// Not pruned.
    Dense,
    /// Pruned, under a mask.
    Sparse,
}

/// How a row came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum State {
    /// There is a model, and it was measured.
    #[default]
    Done,
    /// Loss, weights or answers stopped being finite: there is no model, and every number is absent.
    Diverged,
}

/// One method on one network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The network that the method started from.
    pub network: Network,
    /// The network's own name, where a run has several; rows of one name belong together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_name: Option<String>,
    /// Share of its prunable weights that the mask removes, 0–1; 0 for a dense network.
    pub sparsity: f64,
    /// The method's name (`original`, `retrain`, `finetune`, …).
    pub method: String,
    /// How it ended.
    #[serde(default)]
    pub state: State,
    /// Wall-clock seconds of the method.
    pub seconds: Metric,
    /// What was measured of the result.
    pub evaluation: Evaluation,
    /// The gap to Retrain on the same network; filled in by [`Report::push`].
    pub gap: Gap,
    /// Every seed that the row may depend on, by name (`split`, `init`, `forget`, `training`, …).
    pub seeds: BTreeMap<String, u64>,
    /// Switches on which anything behind the row follows the published code instead of the correct
    /// form.
    #[serde(default)]
    pub reference: Vec<String>,
    /// The method's hyperparameters by name, defaults included; those that are not set are left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hyperparameters: BTreeMap<String, serde_json::Value>,
    /// What the method measured of itself.
    #[serde(default)]
    pub diagnostics: BTreeMap<String, f64>,
}

const SECONDS: &str = "wall-clock seconds of the method, its own data handling included, evaluation excluded";

impl Row {
    /// A row of `method` on a network of `sparsity` (0 for dense), without time, seeds and
    /// diagnostics.
    ///
    /// # Errors
    /// [`EvalError::Config`] for a sparsity outside `[0, 1)` or a method without a name.
    pub fn new(sparsity: f64, method: impl Into<String>, evaluation: Evaluation) -> Result<Self, EvalError> {
        let method = method.into();
        if !(0.0..1.0).contains(&sparsity) {
            return Err(EvalError::Config {
                field: "sparsity",
                got: sparsity.to_string(),
                expected: "a share from 0 up to, not including, 1",
                mend: "use 0.95 for 95 %",
            });
        }
        if method.is_empty() {
            return Err(EvalError::Config {
                field: "method",
                got: "an empty name".into(),
                expected: "a name",
                mend: "use the method's name in the registry",
            });
        }
        Ok(Self {
            network: if sparsity > 0.0 { Network::Sparse } else { Network::Dense },
            network_name: None,
            sparsity,
            method,
            state: State::Done,
            seconds: Metric::absent("no time was recorded", SECONDS),
            reference: evaluation.reference.clone(),
            evaluation,
            gap: Gap::absent("the row is not in a report"),
            seeds: BTreeMap::new(),
            hyperparameters: BTreeMap::new(),
            diagnostics: BTreeMap::new(),
        })
    }

    /// A row of a `method` that diverged, because of `reason`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn diverged(
        sparsity: f64,
        method: impl Into<String>,
        reason: &str,
        config: &EvalConfig,
    ) -> Result<Self, EvalError> {
        let reason = format!("diverged: {reason}");
        let mut row = Self::new(sparsity, method, Evaluation::absent(&reason, config))?;
        row.seconds = Metric::absent(reason, SECONDS);
        row.state = State::Diverged;
        Ok(row)
    }

    /// The same row under the name of the network that the method started from.
    #[must_use]
    pub fn with_network_name(mut self, name: impl Into<String>) -> Self {
        self.network_name = Some(name.into());
        self
    }

    /// The same row with its wall-clock time.
    #[must_use]
    pub fn with_seconds(mut self, seconds: f64) -> Self {
        self.seconds = Metric::measured(seconds, 1, SECONDS);
        self
    }

    /// The same row with the seeds it depends on.
    #[must_use]
    pub fn with_seeds<K: Into<String>>(mut self, seeds: impl IntoIterator<Item = (K, u64)>) -> Self {
        self.seeds = seeds.into_iter().map(|(name, seed)| (name.into(), seed)).collect();
        self
    }

    /// The same row with further reference switches that were on (split, method).
    #[must_use]
    pub fn with_reference<S: Into<String>>(mut self, switches: impl IntoIterator<Item = S>) -> Self {
        self.reference.extend(switches.into_iter().map(Into::into));
        self.reference.sort();
        self.reference.dedup();
        self
    }

    /// The same row with the hyperparameters of the method, an object; `null` stands for what is not set and is left out.
    #[must_use]
    pub fn with_hyperparameters(mut self, hyperparameters: &serde_json::Value) -> Self {
        if let serde_json::Value::Object(entries) = without_nulls(hyperparameters) {
            self.hyperparameters = entries.into_iter().collect();
        }
        self
    }

    /// The same row with what the method measured of itself.
    #[must_use]
    pub fn with_diagnostics(mut self, diagnostics: BTreeMap<String, f64>) -> Self {
        self.diagnostics = diagnostics;
        self
    }

    /// Whether `other` starts from the same network and depends on the same seeds.
    fn is_beside(&self, other: &Self) -> bool {
        // Two networks of a run may have the same sparsity (another score, another rewind), and a
        // retrained one may keep another mask: where there are names, they decide.
        let same_network = match (&self.network_name, &other.network_name) {
            (Some(own), Some(others)) => own == others,
            (None, None) => self.network == other.network && (self.sparsity - other.sparsity).abs() < 1e-6,
            _ => false,
        };
        same_network && self.seeds == other.seeds
    }
}

/// `value` without the entries of objects, at any depth, that are not set.
fn without_nulls(value: &serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(entries) => {
            let set = entries.iter().filter(|(_, value)| !value.is_null());
            serde_json::Value::Object(set.map(|(name, value)| (name.clone(), without_nulls(value))).collect())
        }
        other => other.clone(),
    }
}

/// The entry of [`Report::about`] that says why a report does not have all of its rows.
pub const ENDED_EARLY: &str = "ended early";

/// Rows side by side, and what they have in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// [`RESULTS_SCHEMA`].
    pub schema: String,
    /// Version of this library.
    pub version: String,
    /// What the rows have in common, in words (`data set`, `forget set`, `device`, …).
    pub about: BTreeMap<String, String>,
    /// The rows, in the order of their coming.
    pub rows: Vec<Row>,
}

impl Default for Report {
    fn default() -> Self {
        Self::new(BTreeMap::new())
    }
}

impl Report {
    /// An empty report about `about`.
    pub fn new(about: BTreeMap<String, String>) -> Self {
        Self {
            schema: RESULTS_SCHEMA.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            about,
            rows: Vec::new(),
        }
    }

    /// Adds a row and computes all gaps anew: each row's gap is to the last [`RETRAIN`] row of the
    /// same network (by name, or by sparsity where there are no names) and the same seeds.
    ///
    /// # Errors
    /// [`EvalError::Incomparable`] when the row and its Retrain were not measured alike,
    /// [`EvalError::Format`] for a diagnostic that is not finite. The report is unchanged then.
    pub fn push(&mut self, row: Row) -> Result<(), EvalError> {
        if let Some((name, value)) = row.diagnostics.iter().find(|(_, value)| !value.is_finite()) {
            return Err(EvalError::Format {
                what: format!("diagnostic {name} of method {}", row.method),
                reason: format!("{value} cannot be written as JSON"),
                mend: "leave out diagnostics that are not finite",
            });
        }
        let mut rows = self.rows.clone();
        rows.push(row);
        let gaps: Vec<Gap> = rows
            .iter()
            .map(|row| {
                if let (State::Diverged, Some(reason)) = (row.state, row.seconds.reason()) {
                    return Ok(Gap::absent(reason));
                }
                match rows.iter().rev().find(|other| other.method == RETRAIN && other.is_beside(row)) {
                    Some(retrain) if retrain.state == State::Diverged => {
                        Ok(Gap::absent("Retrain of the same network diverged"))
                    }
                    Some(retrain) => Gap::between(&row.evaluation, &retrain.evaluation),
                    None => Ok(Gap::absent("no retrain row of the same network, sparsity and seeds")),
                }
            })
            .collect::<Result<_, _>>()?;
        for (row, gap) in rows.iter_mut().zip(gaps) {
            row.gap = gap;
        }
        self.rows = rows;
        Ok(())
    }

    /// Writes `results.json`, `results.csv` and `results.md` into `directory`, each whole or not at
    /// all (temporary file, then rename).
    ///
    /// # Errors
    /// [`EvalError::Io`] names the file.
    pub fn save(&self, directory: &Path) -> Result<(), EvalError> {
        for (name, content) in [
            ("results.json", self.to_json()?),
            ("results.csv", self.to_csv()?),
            ("results.md", self.to_markdown()),
        ] {
            let (part, path) = (directory.join(format!(".{name}.part")), directory.join(name));
            let write = || {
                let mut file = std::fs::File::create(&part)?;
                file.write_all(content.as_bytes())?;
                file.sync_all()?;
                std::fs::rename(&part, &path)
            };
            write().map_err(|source| EvalError::Io { path: path.clone(), source })?;
        }
        Ok(())
    }
}
