//! What is to be forgotten, and the two index lists that follow from it.

use std::fmt;
use std::str::FromStr;

use rand::seq::index::sample;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::DataError;
use crate::dataset::{Dataset, hex};
use crate::seed::{Seed, Stream};
use crate::split::Split;

/// How many samples a random forget set has.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Amount {
    /// A share of the training samples, in per cent, rounded half to even.
    Percent(f64),
    /// A number of samples.
    Count(usize),
}

/// Which training samples are to be forgotten.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ForgetSpec {
    /// Every training sample of one class.
    Class(usize),
    /// Samples drawn at random from all training samples.
    Random(Amount),
    /// These samples, by their place in the data set.
    Indices(Vec<usize>),
    /// Random samples as the published code draws them: NumPy's `RandomState(seed − 1)` over the
    /// training samples.
    Reference {
        /// How many.
        count: usize,
        /// The published code's `--seed`, at least 1.
        seed: u32,
    },
}

/// Forget set and retain set: disjoint, ascending, together all training samples of the split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Partition {
    forget: Vec<usize>,
    retain: Vec<usize>,
    class: Option<usize>,
    id: String,
}

impl Partition {
    /// Applies `spec` to the training samples of `split`. `seed` is the forget seed.
    ///
    /// # Errors
    /// [`DataError::DatasetMismatch`] when the split is of another data set; the index errors of
    /// [`DataError`]; [`DataError::ForgetEmpty`] and [`DataError::RetainEmpty`].
    pub fn new(dataset: &Dataset, split: &Split, spec: &ForgetSpec, seed: Seed) -> Result<Self, DataError> {
        if split.fingerprint() != dataset.fingerprint() {
            return Err(DataError::DatasetMismatch {
                name: dataset.name().to_owned(),
                got: dataset.fingerprint().to_owned(),
                expected: split.fingerprint().to_owned(),
            });
        }
        let train = split.train();
        let mut forget = match spec {
            ForgetSpec::Class(class) => {
                if *class >= dataset.num_classes() {
                    return Err(DataError::Invalid {
                        what: "forget class".into(),
                        got: class.to_string(),
                        expected: format!("0–{}", dataset.num_classes().saturating_sub(1)),
                        mend: "name one of the data set's classes".into(),
                    });
                }
                train.iter().copied().filter(|i| dataset.label(*i) == Some(*class)).collect()
            }
            ForgetSpec::Random(amount) => {
                let count = amount.resolve(train.len())?;
                let mut rng = seed.rng(Stream::ForgetSet, 0, 0);
                sample(&mut rng, train.len(), count).into_iter().map(|p| train[p]).collect()
            }
            ForgetSpec::Indices(indices) => {
                check_indices(indices, dataset, split)?;
                indices.clone()
            }
            ForgetSpec::Reference { count, seed } => {
                let Some(seed) = seed.checked_sub(1) else {
                    return Err(DataError::Invalid {
                        what: "reference forget seed".into(),
                        got: "0".into(),
                        expected: "at least 1".into(),
                        mend: "use the published code's --seed (2 by default)".into(),
                    });
                };
                let count = Amount::Count(*count).resolve(train.len())?;
                let mut generator = crate::reference::NumpyRandom::new(seed);
                generator.choice(train.len(), count).into_iter().map(|p| train[p]).collect::<Vec<_>>()
            }
        };
        forget.sort_unstable();
        if forget.is_empty() {
            return Err(DataError::ForgetEmpty { spec: spec.to_string() });
        }
        let retain: Vec<usize> = train.iter().copied().filter(|i| forget.binary_search(i).is_err()).collect();
        if retain.is_empty() {
            return Err(DataError::RetainEmpty { count: train.len() });
        }
        let mut hash = Sha256::new();
        hash.update(b"unlearn/partition/v1");
        hash.update(split.id());
        for index in &forget {
            hash.update((*index as u64).to_le_bytes());
        }
        let class = match spec {
            ForgetSpec::Class(class) => Some(*class),
            _ => None,
        };
        Ok(Self { forget, retain, class, id: hex(&hash.finalize()) })
    }

    /// The forget set D_f, ascending.
    pub fn forget(&self) -> &[usize] {
        &self.forget
    }

    /// The retain set D_r, ascending.
    pub fn retain(&self) -> &[usize] {
        &self.retain
    }

    /// The class, when a whole class is forgotten.
    pub fn class(&self) -> Option<usize> {
        self.class
    }

    /// SHA-256 over the split's id and the forget set. It is *not* keyed: whoever has the data can
    /// search for small forget sets behind it, so it belongs into private files only.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Amount {
    fn resolve(self, len: usize) -> Result<usize, DataError> {
        let (count, got) = match self {
            Self::Percent(percent) if percent.is_finite() && (0.0..=100.0).contains(&percent) => {
                ((percent / 100.0 * len as f64).round_ties_even() as usize, format!("{percent}%"))
            }
            Self::Percent(percent) => (usize::MAX, format!("{percent}%")),
            Self::Count(count) => (count, count.to_string()),
        };
        if count > len {
            return Err(DataError::Invalid {
                what: "number of samples to forget".into(),
                got,
                expected: format!("at most {len}, the number of training samples"),
                mend: "ask for fewer".into(),
            });
        }
        Ok(count)
    }
}

fn check_indices(indices: &[usize], dataset: &Dataset, split: &Split) -> Result<(), DataError> {
    if let Some((position, index)) = indices.iter().enumerate().find(|(_, i)| **i >= dataset.len()) {
        return Err(DataError::IndexRange { position, got: index.to_string(), len: dataset.len() });
    }
    let mut sorted = indices.to_vec();
    sorted.sort_unstable();
    let count = sorted.windows(2).filter(|w| w[0] == w[1]).count();
    if let Some(pair) = sorted.windows(2).find(|w| w[0] == w[1]) {
        return Err(DataError::IndexDuplicate { first: pair[0], count });
    }
    if let Some(&got) = indices.iter().find(|i| split.validation().binary_search(i).is_ok()) {
        return Err(DataError::NotTrained { got, part: "validation" });
    }
    Ok(())
}

impl fmt::Display for ForgetSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class(class) => write!(f, "class:{class}"),
            Self::Random(Amount::Percent(percent)) => write!(f, "random:{percent}%"),
            Self::Random(Amount::Count(count)) => write!(f, "random:{count}"),
            Self::Indices(indices) => write!(f, "indices ({} samples)", indices.len()),
            Self::Reference { count, seed } => write!(f, "reference:{count}@{seed}"),
        }
    }
}

impl FromStr for ForgetSpec {
    type Err = DataError;

    /// Reads `class:K`, `random:10%`, `random:4500`, `reference:4500@2` and `indices:FILE` (one
    /// index a line; see [`crate::index_file`]).
    fn from_str(text: &str) -> Result<Self, DataError> {
        let bad = || DataError::Invalid {
            what: "forget spec".into(),
            got: format!("{text:?}"),
            expected: "class:K, random:10%, random:4500, reference:4500@2 or indices:FILE".into(),
            mend: "write it in one of these forms".into(),
        };
        let (kind, value) = text.split_once(':').ok_or_else(bad)?;
        match kind {
            "class" => value.parse().map(Self::Class).map_err(|_| bad()),
            "random" => match value.strip_suffix('%') {
                Some(percent) => percent.parse().map(|p| Self::Random(Amount::Percent(p))).map_err(|_| bad()),
                None => value.parse().map(|n| Self::Random(Amount::Count(n))).map_err(|_| bad()),
            },
            "reference" => {
                let (count, seed) = value.split_once('@').ok_or_else(bad)?;
                match (count.parse(), seed.parse()) {
                    (Ok(count), Ok(seed)) => Ok(Self::Reference { count, seed }),
                    _ => Err(bad()),
                }
            }
            "indices" => crate::index_file::read(std::path::Path::new(value)).map(Self::Indices),
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests;
