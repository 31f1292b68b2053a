//! A soft-margin support vector machine with a Gaussian kernel, as scikit-learn's `SVC` has it.
//!
//! Written here because no well-kept crate fits: the attack needs 20,000 samples, and the machines
//! that are published hold the whole n × n kernel (3.2 GB) and bring their own array library. This one
//! keeps a bounded number of kernel rows, works in float64, merges equal samples of one side into
//! one with a larger bound (which leaves the optimum as it is), and sorts them first, so that its
//! answer does not depend on their order.

mod cache;
mod smo;
#[cfg(test)]
mod tests;

use crate::EvalError;
use cache::RowCache;
use smo::Dual;

/// Hyperparameters of a [`Svm`]. The defaults are those of the membership attack.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SvmConfig {
    /// C, the price of a margin violation, above zero. Default 3.
    pub cost: f64,
    /// γ in K(x, x′) = exp(−γ ‖x − x′‖²), above zero; `None` is 1/dimension, scikit-learn's `auto`.
    pub gamma: Option<f64>,
    /// Largest violation of the optimality conditions that is left, above zero. Default 10⁻³, as in
    /// LIBSVM.
    pub tolerance: f64,
    /// Memory for kernel rows in bytes; at least two rows are held. Default 256 MiB.
    pub cache_bytes: usize,
}

impl Default for SvmConfig {
    fn default() -> Self {
        Self { cost: 3.0, gamma: None, tolerance: 1e-3, cache_bytes: 256 << 20 }
    }
}

/// A trained machine: f(x) = Σᵢ βᵢ K(xᵢ, x) + b over its support vectors xᵢ.
#[derive(Debug, Clone, PartialEq)]
pub struct Svm {
    dimension: usize,
    gamma: f64,
    /// `[m, dimension]` row-major.
    vectors: Vec<f64>,
    /// βᵢ, `[m]`.
    coefficients: Vec<f64>,
    bias: f64,
}

impl Svm {
    /// Learns to tell `positive` from `negative` samples, each `[n, dimension]` row-major.
    ///
    /// # Errors
    /// [`EvalError::Config`] for a hyperparameter out of range, [`EvalError::Shape`] for rows that
    /// are not whole, [`EvalError::Empty`] when a side has no sample, [`EvalError::NotConverged`].
    pub fn fit(
        positive: &[f64],
        negative: &[f64],
        dimension: usize,
        config: &SvmConfig,
    ) -> Result<Self, EvalError> {
        let gamma = config.gamma.unwrap_or(1.0 / dimension as f64);
        check(positive, negative, dimension, gamma, config)?;
        let Merged { rows, targets, counts } = merge(positive, negative, dimension);
        let bounds: Vec<f64> = counts.iter().map(|&count| config.cost * count as f64).collect();
        let n = targets.len();
        let dual = Dual {
            targets: &targets,
            bounds: &bounds,
            tolerance: config.tolerance,
            // LIBSVM's limit.
            max_iterations: n.saturating_mul(100).max(10_000_000),
        };
        let solution = dual.solve(&mut RowCache::new(n, config.cache_bytes), |i, out| {
            gaussian_row(&rows[i * dimension..(i + 1) * dimension], &rows, gamma, out);
        })?;
        let (mut vectors, mut coefficients) = (Vec::new(), Vec::new());
        for (row, beta) in rows.chunks_exact(dimension).zip(solution.coefficients) {
            if beta != 0.0 {
                vectors.extend_from_slice(row);
                coefficients.push(beta);
            }
        }
        Ok(Self { dimension, gamma, vectors, coefficients, bias: solution.bias })
    }

    /// f(x) of one sample, `[dimension]`.
    pub fn decision(&self, sample: &[f64]) -> f64 {
        let sum: f64 = self
            .vectors
            .chunks_exact(self.dimension)
            .zip(&self.coefficients)
            .map(|(vector, beta)| beta * gaussian(vector, sample, self.gamma))
            .sum();
        sum + self.bias
    }

    /// How many of `samples`, `[n, dimension]`, are taken for positive: f(x) ≥ 0, the side on
    /// which scikit-learn puts a tie.
    pub fn count_positive(&self, samples: &[f64]) -> usize {
        samples.chunks_exact(self.dimension).filter(|sample| self.decision(sample) >= 0.0).count()
    }
}

fn check(
    positive: &[f64],
    negative: &[f64],
    dimension: usize,
    gamma: f64,
    config: &SvmConfig,
) -> Result<(), EvalError> {
    for (field, value) in
        [("svm.cost", config.cost), ("svm.gamma", gamma), ("svm.tolerance", config.tolerance)]
    {
        if !(value.is_finite() && value > 0.0) {
            return Err(EvalError::Config {
                field,
                got: value.to_string(),
                expected: "a number above zero",
                mend: "leave it out for the default",
            });
        }
    }
    if dimension == 0 {
        return Err(EvalError::Config {
            field: "svm dimension",
            got: "0".into(),
            expected: "at least 1",
            mend: "give the number of features of a sample",
        });
    }
    for (what, samples) in [("the positive samples", positive), ("the negative samples", negative)] {
        if samples.is_empty() {
            return Err(EvalError::Empty { what });
        }
        if samples.len() % dimension != 0 || samples.iter().any(|value| !value.is_finite()) {
            return Err(EvalError::Shape {
                what,
                got: vec![samples.len()],
                expected: vec![samples.len().div_ceil(dimension), dimension],
                mend: "give whole rows of finite numbers",
            });
        }
    }
    Ok(())
}

struct Merged {
    /// `[n, dimension]` row-major.
    rows: Vec<f64>,
    targets: Vec<f64>,
    counts: Vec<usize>,
}

/// All samples in ascending order, equal ones of one side merged and counted.
fn merge(positive: &[f64], negative: &[f64], dimension: usize) -> Merged {
    let positive = positive.chunks_exact(dimension).map(|row| (row, 1.0));
    let negative = negative.chunks_exact(dimension).map(|row| (row, -1.0_f64));
    let mut all: Vec<(&[f64], f64)> = positive.chain(negative).collect();
    let by_value = |a: &[f64], b: &[f64]| {
        a.iter()
            .zip(b)
            .map(|(x, y)| x.total_cmp(y))
            .find(|order| order.is_ne())
            .unwrap_or(std::cmp::Ordering::Equal)
    };
    all.sort_by(|a, b| by_value(a.0, b.0).then(a.1.total_cmp(&b.1)));
    let mut merged = Merged { rows: Vec::new(), targets: Vec::new(), counts: Vec::new() };
    for group in all.chunk_by(|a, b| a == b) {
        merged.rows.extend_from_slice(group[0].0);
        merged.targets.push(group[0].1);
        merged.counts.push(group.len());
    }
    merged
}

fn gaussian(a: &[f64], b: &[f64], gamma: f64) -> f64 {
    let square: f64 = a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum();
    (-gamma * square).exp()
}

fn gaussian_row(centre: &[f64], rows: &[f64], gamma: f64, out: &mut [f64]) {
    for (value, row) in out.iter_mut().zip(rows.chunks_exact(centre.len())) {
        *value = gaussian(centre, row, gamma);
    }
}
