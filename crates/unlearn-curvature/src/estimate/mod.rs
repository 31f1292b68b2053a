//! Which cotangents of the logits to carry back, and what the sum of their squared gradients then is.
//!
//! n samples, k classes, c columns. With p = softmax(z), J = ∂z/∂θ and Λ = diag(p) − p pᵀ the Fisher
//! information of one sample is JᵀΛJ. Each estimator gives columns s with Σ_c s sᵀ = Λ, or with that
//! as expectation, so that Σ_c (Jᵀs)² is (an estimate of) its diagonal.
//!
//! All arithmetic on `[n, k]` numbers is done on the host in float64.

mod cholesky;
mod columns;
mod sampled;
#[cfg(test)]
mod tests;

use crate::CurvatureError;
use crate::oracle::LogitRows;

pub use cholesky::multinomial_cholesky;
pub use columns::Columns;

/// An estimator of a Fisher diagonal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Estimator {
    /// Σ_n g_n² at the labels of the data: one column. Not the Fisher information: on a fitted network it
    /// is smaller by orders of magnitude (Kunstner et al. 2019).
    Empirical,
    /// The Fisher diagonal with labels drawn from the model's own prediction: `draws` columns, unbiased.
    /// Of great variance where the model is sure: a wrong label comes seldom and then weighs much.
    LabelMc {
        /// Labels drawn a sample.
        draws: usize,
        /// Fixes the draws, together with the number of the sample.
        seed: u64,
    },
    /// The Fisher diagonal by random signs over the columns of [`Exact`](Self::Exact) (Hutchinson's estimator
    /// in the space of logits; Sun 2025, arXiv 2505.13614): `draws` columns, unbiased, with a variance of at
    /// most 2 / draws times the squared mean, a sample and an entry, however sure the model is.
    SignMc {
        /// Sign vectors drawn a sample.
        draws: usize,
        /// Fixes the draws, together with the number of the sample.
        seed: u64,
    },
    /// The first `exact` columns of [`Exact`](Self::Exact) and random signs over the rest: unbiased. Where the
    /// model is sure one exact column holds nearly all of the diagonal.
    Hybrid {
        /// Columns taken exactly.
        exact: usize,
        /// Sign vectors drawn over the rest.
        draws: usize,
        /// Fixes the draws, together with the number of the sample.
        seed: u64,
    },
    /// The Fisher diagonal itself, by k − 1 columns of the [multinomial Cholesky factor](multinomial_cholesky).
    Exact,
    /// What the published `fisher_new` computes, over groups B of `size` samples in order:
    /// Σ_B Σ_c \[mean p_nc\] (∂ mean (−log p_nc)/∂θ)². k columns. It is no Fisher diagonal unless size is 1.
    GroupMean {
        /// Samples a group.
        size: usize,
    },
}

impl Estimator {
    /// Checks the numbers of draws and sizes.
    ///
    /// # Errors
    /// [`CurvatureError::Argument`] for the first that is zero.
    pub fn validate(&self) -> Result<(), CurvatureError> {
        let (field, value, expected) = match *self {
            Self::Empirical | Self::Exact => return Ok(()),
            Self::LabelMc { draws, .. } | Self::SignMc { draws, .. } => {
                ("draws", draws, "at least 1 draw a sample")
            }
            Self::Hybrid { draws, .. } => ("draws", draws, "at least 1 draw a sample"),
            Self::GroupMean { size } => ("size", size, "at least 1 sample a group"),
        };
        if value == 0 {
            return Err(CurvatureError::Argument { field, got: "0".into(), expected });
        }
        Ok(())
    }

    /// m, the number of samples that make one unit.
    pub fn group(&self) -> usize {
        match *self {
            Self::GroupMean { size } => size,
            _ => 1,
        }
    }

    /// c, the number of columns for `classes` classes.
    pub fn count(&self, classes: usize) -> usize {
        let full = classes.saturating_sub(1);
        match *self {
            Self::Empirical => 1,
            Self::LabelMc { draws, .. } | Self::SignMc { draws, .. } => draws,
            Self::Hybrid { exact, draws, .. } if exact < full => exact + draws,
            Self::Hybrid { .. } | Self::Exact => full,
            Self::GroupMean { .. } => classes,
        }
    }

    /// The columns of some samples. `labels` `[n]`; `first` is the number of the first sample, on which
    /// random draws depend, so that batches of any size give the same.
    ///
    /// A group of [`GroupMean`](Self::GroupMean) is all of `rows` when there are fewer than its size;
    /// otherwise their number must be a multiple.
    ///
    /// # Errors
    /// [`CurvatureError::Argument`] for a label without a logit, more or fewer labels than samples,
    /// fewer than two classes, or an incomplete
    /// group among complete ones.
    pub fn columns(
        &self,
        rows: &LogitRows,
        labels: &[usize],
        first: usize,
    ) -> Result<Columns, CurvatureError> {
        let k = rows.classes();
        if k < 2 {
            return Err(CurvatureError::Argument {
                field: "classes",
                got: k.to_string(),
                expected: "at least 2: with one class nothing is predicted",
            });
        }
        if labels.len() != rows.len() {
            return Err(CurvatureError::Argument {
                field: "labels",
                got: format!("{} for {} samples", labels.len(), rows.len()),
                expected: "one a sample",
            });
        }
        let c = self.count(k);
        let mut values = Vec::with_capacity(rows.len() * c * k);
        let mut group = 1;
        match *self {
            Self::Empirical => {
                for (n, &label) in labels.iter().enumerate() {
                    values.extend(rows.residual(n, label)?.0);
                }
            }
            Self::LabelMc { draws, seed } => {
                for n in 0..rows.len() {
                    sampled::labels(rows, n, draws, (seed, first + n), &mut values)?;
                }
            }
            Self::SignMc { draws, seed } => {
                for n in 0..rows.len() {
                    let factor = multinomial_cholesky(&rows.probabilities(n));
                    sampled::signs(&factor, k, draws, (seed, first + n), &mut values);
                }
            }
            Self::Hybrid { exact, draws, seed } => {
                for n in 0..rows.len() {
                    let factor = multinomial_cholesky(&rows.probabilities(n));
                    let exact = exact.min(k - 1);
                    values.extend(&factor[..exact * k]);
                    if exact < k - 1 {
                        sampled::signs(&factor[exact * k..], k, draws, (seed, first + n), &mut values);
                    }
                }
            }
            Self::Exact => {
                (0..rows.len()).for_each(|n| values.extend(multinomial_cholesky(&rows.probabilities(n))));
            }
            Self::GroupMean { size } => {
                group = size.min(rows.len());
                columns::group_mean(rows, group, &mut values)?;
            }
        }
        Columns::new(&values, c, k, group)
    }
}
