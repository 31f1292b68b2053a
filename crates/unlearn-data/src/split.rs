//! Which training samples train and which validate.

use rand::seq::index::sample;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::DataError;
use crate::dataset::{Dataset, hex};
use crate::seed::{Seed, Stream};

/// How validation samples are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "rule", deny_unknown_fields)]
#[non_exhaustive]
pub enum SplitRule {
    /// No validation: every sample trains.
    None,
    /// The share `fraction` of each class, drawn by our own counter-based generator.
    Stratified {
        /// Between 0 and 1, rounded down in each class.
        fraction: f64,
        /// The split seed.
        seed: Seed,
    },
    /// What the published code draws with NumPy's legacy generator.
    Reference {
        /// Between 0 and 1, rounded down in each class.
        fraction: f64,
        /// NumPy's seed, `RandomState(seed)`.
        seed: u32,
    },
}

/// Training and validation samples of one data set, as ascending index lists, and an id that
/// checkpoints carry so that a model is never unlearned under another split than it was trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Split {
    rule: SplitRule,
    fingerprint: String,
    train: Vec<usize>,
    validation: Vec<usize>,
    id: String,
}

impl Split {
    /// Splits `dataset` by `rule`.
    ///
    /// # Errors
    /// [`DataError::Invalid`] for a fraction outside `[0, 1)`; under
    /// [`SplitRule::Stratified`] also for one above zero that leaves a class without a validation
    /// sample. ([`SplitRule::Reference`] rounds down to nothing, as the published code does.)
    pub fn new(dataset: &Dataset, rule: SplitRule) -> Result<Self, DataError> {
        let validation = match rule {
            SplitRule::None => Vec::new(),
            SplitRule::Stratified { fraction, seed } => {
                let mut without = None;
                let drawn = per_class(dataset, fraction, |class, n, k| {
                    if k == 0 && n > 0 && fraction > 0.0 {
                        without.get_or_insert((class, n));
                    }
                    sample(&mut seed.rng(Stream::Split, 0, class as u64), n, k).into_vec()
                })?;
                if let Some((class, n)) = without {
                    return Err(DataError::Invalid {
                        what: "validation fraction".into(),
                        got: format!(
                            "{fraction}, which is less than one of the {n} samples of class {class}"
                        ),
                        expected: format!("0, or at least {:.4}", 1.0 / n as f64),
                        mend: "use more samples, a larger fraction, or no validation".into(),
                    });
                }
                drawn
            }
            SplitRule::Reference { fraction, seed } => {
                let mut generator = crate::reference::NumpyRandom::new(seed);
                per_class(dataset, fraction, |_, n, k| generator.choice(n, k))?
            }
        };
        Ok(Self::from_validation(dataset, rule, validation))
    }

    fn from_validation(dataset: &Dataset, rule: SplitRule, mut validation: Vec<usize>) -> Self {
        validation.sort_unstable();
        let train: Vec<usize> = (0..dataset.len()).filter(|i| validation.binary_search(i).is_err()).collect();
        let mut hash = Sha256::new();
        hash.update(b"unlearn/split/v1");
        hash.update(dataset.fingerprint());
        for index in &validation {
            hash.update((*index as u64).to_le_bytes());
        }
        let id = hex(&hash.finalize());
        Self { rule, fingerprint: dataset.fingerprint().to_owned(), train, validation, id }
    }

    /// Checks a split that was read from a file: it must be the one that its rule draws from
    /// `dataset`.
    ///
    /// # Errors
    /// [`DataError::DatasetMismatch`] when it was made for other data; [`DataError::Invalid`] when
    /// its lists were changed.
    pub fn verify(&self, dataset: &Dataset) -> Result<(), DataError> {
        if self.fingerprint != dataset.fingerprint() {
            return Err(DataError::DatasetMismatch {
                name: dataset.name().to_owned(),
                got: dataset.fingerprint().to_owned(),
                expected: self.fingerprint.clone(),
            });
        }
        if Self::new(dataset, self.rule)? == *self {
            return Ok(());
        }
        Err(DataError::Invalid {
            what: "split".into(),
            got: "index lists that its rule does not draw".into(),
            expected: format!("the lists that {:?} draws", self.rule),
            mend: "split the data again".into(),
        })
    }

    /// The rule it was made by.
    pub fn rule(&self) -> SplitRule {
        self.rule
    }

    /// Fingerprint of the data set it was made for.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Samples that train, ascending.
    pub fn train(&self) -> &[usize] {
        &self.train
    }

    /// Samples that validate, ascending.
    pub fn validation(&self) -> &[usize] {
        &self.validation
    }

    /// SHA-256 over the data set's fingerprint and the validation indices.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// Draws `⌊fraction · n⌋` positions of each class's ascending index list, class by class.
fn per_class(
    dataset: &Dataset,
    fraction: f64,
    mut draw: impl FnMut(usize, usize, usize) -> Vec<usize>,
) -> Result<Vec<usize>, DataError> {
    if !(0.0..1.0).contains(&fraction) {
        return Err(DataError::Invalid {
            what: "validation fraction".into(),
            got: fraction.to_string(),
            expected: "a number from 0 up to, not including, 1".into(),
            mend: "use 0.1 for a tenth".into(),
        });
    }
    let mut by_class = vec![Vec::new(); dataset.num_classes()];
    for (index, label) in dataset.labels().enumerate() {
        by_class[label].push(index);
    }
    let mut chosen = Vec::new();
    for (class, members) in by_class.iter().enumerate() {
        let count = (fraction * members.len() as f64) as usize;
        chosen.extend(draw(class, members.len(), count).into_iter().map(|position| members[position]));
    }
    Ok(chosen)
}

#[cfg(test)]
pub(crate) mod tests;
