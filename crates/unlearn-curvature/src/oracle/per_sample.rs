//! Inner products and weighted sums of per-sample gradients.

use std::ops::Range;

use burn::Tensor;
use burn::module::Module;
use ndarray::{Array2, ArrayView2};

use super::diagonal::no_samples;
use super::{Gradient, Oracle, Samples};
use crate::{CurvatureError, ParamTree};

/// Samples a thread takes at once.
const BLOCK: usize = 4;
/// Rows of the Gram matrix that are multiplied at once, and parameters at once: float64 copies of both
/// stay within a few MiB.
const ROWS: usize = 128;
const COLUMNS: usize = 2048;

/// Inner products of per-sample gradients G = [g_1, …, g_n]ᵀ, `[n, p]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Pairs {
    /// The Gram matrix G Gᵀ, `[n, n]` row-major, symmetric.
    pub gram: Vec<f64>,
    /// G v, `[n]`.
    pub dots: Vec<f64>,
}

impl<M: Module + Sync, F: Sync> Oracle<'_, M, F> {
    /// ‖g_n‖², `[n]`. One pass.
    ///
    /// # Errors
    /// As [`empirical`](Self::empirical).
    pub fn norms_squared<S: Samples>(&self, samples: &S) -> Result<Vec<f64>, CurvatureError>
    where
        F: Fn(&M, S::Input) -> Tensor<2>,
    {
        self.each(samples, |g| g.values.iter().map(|&v| (g.scale * f64::from(v)).powi(2)).sum())
    }

    /// G v: ⟨g_n, `direction`⟩, `[n]`. One pass.
    ///
    /// # Errors
    /// As [`empirical`](Self::empirical), and the errors of [`Layout::flatten`](super::Layout::flatten).
    pub fn dots<S: Samples>(&self, samples: &S, direction: &ParamTree) -> Result<Vec<f64>, CurvatureError>
    where
        F: Fn(&M, S::Input) -> Tensor<2>,
    {
        let direction = self.core.layout.flatten(direction)?;
        self.each(samples, |g| inner(g, &direction))
    }

    /// The Gram matrix of all samples and G v, in float64 from explicit gradients. Between 1 and
    /// (c + 1)/2 passes, where c is n · p · 8 bytes over the memory given (1 when half of that fits).
    ///
    /// # Errors
    /// As [`dots`](Self::dots).
    pub fn pairs<S: Samples>(&self, samples: &S, direction: &ParamTree) -> Result<Pairs, CurvatureError>
    where
        F: Fn(&M, S::Input) -> Tensor<2>,
    {
        let n = samples.len();
        if n == 0 {
            return Err(no_samples());
        }
        let direction = self.core.layout.flatten(direction)?;
        let bytes = self.core.layout.len() * size_of::<f32>();
        // One chunk when everything fits; else two chunks lie in memory at a time.
        let chunk = if n * bytes <= self.memory { n } else { (self.memory / (2 * bytes)).clamp(1, n) };
        let chunks: Vec<Range<usize>> = (0..n).step_by(chunk).map(|s| s..(s + chunk).min(n)).collect();
        let mut gram = vec![0.0; n * n];
        let mut dots = Vec::with_capacity(n);
        for (number, rows) in chunks.iter().enumerate() {
            let left = self.gradients(samples, rows.clone())?;
            dots.extend(left.iter().map(|g| g.as_ref().map_or(0.0, |g| inner(g, &direction))));
            self.multiply(&left, &left, (rows.start, rows.start), n, &mut gram)?;
            for columns in &chunks[number + 1..] {
                let right = self.gradients(samples, columns.clone())?;
                self.multiply(&left, &right, (rows.start, columns.start), n, &mut gram)?;
            }
        }
        for i in 0..n {
            for j in 0..i {
                gram[i * n + j] = gram[j * n + i];
            }
        }
        Ok(Pairs { gram, dots })
    }

    /// Gᵀ w = Σ_n w_n g_n from explicit gradients, summed in float64. One pass.
    ///
    /// # Errors
    /// As [`empirical`](Self::empirical), and [`CurvatureError::Argument`] unless there is one weight
    /// a sample.
    pub fn weighted_sum<S: Samples>(&self, samples: &S, weights: &[f64]) -> Result<ParamTree, CurvatureError>
    where
        F: Fn(&M, S::Input) -> Tensor<2>,
    {
        check_weights(samples, weights)?;
        let mut total = vec![0.0_f64; self.core.layout.len()];
        let core = &self.core;
        self.in_blocks(
            "gradient",
            samples.len(),
            BLOCK,
            |model, range| {
                let mut sum = vec![0.0_f64; core.layout.len()];
                for index in range {
                    if let Some(g) = core.gradient(model, samples, index)? {
                        let weight = weights[index] * g.scale;
                        sum.iter_mut().zip(&g.values).for_each(|(sum, v)| *sum += weight * f64::from(*v));
                    }
                }
                Ok(sum)
            },
            |sum| {
                total.iter_mut().zip(sum).for_each(|(total, sum)| *total += sum);
                Ok(())
            },
        )?;
        self.core.layout.unflatten(&total, &self.core.device)
    }

    /// Gᵀ w = Σ_n w_n g_n by ordinary batched backward passes of `batch` samples: the gradient of a
    /// whole data set at the price of an epoch. Within a batch the sum is in float32, across batches
    /// in float64.
    ///
    /// # Errors
    /// As [`weighted_sum`](Self::weighted_sum), and [`CurvatureError::Argument`] for batch size zero.
    pub fn weighted_gradient<S: Samples>(
        &self,
        samples: &S,
        weights: &[f64],
        batch: usize,
    ) -> Result<ParamTree, CurvatureError>
    where
        F: Fn(&M, S::Input) -> Tensor<2>,
    {
        check_weights(samples, weights)?;
        if batch == 0 {
            return Err(CurvatureError::Argument {
                field: "batch",
                got: "0".into(),
                expected: "at least 1 sample a batch",
            });
        }
        let mut total = vec![0.0_f64; self.core.layout.len()];
        let core = &self.core;
        self.in_blocks(
            "gradient",
            samples.len(),
            batch,
            |model, range| {
                core.pull(model, core.upload(samples, range.clone())?, |rows| {
                    let mut cotangent = Vec::with_capacity(rows.len() * rows.classes());
                    for (row, index) in range.clone().enumerate() {
                        let (residual, _) = rows.residual(row, samples.label(index))?;
                        cotangent.extend(residual.into_iter().map(|r| weights[index] * r));
                    }
                    Ok(cotangent)
                })
            },
            |gradient| {
                if let Some(g) = gradient {
                    total.iter_mut().zip(&g.values).for_each(|(sum, v)| *sum += g.scale * f64::from(*v));
                }
                Ok(())
            },
        )?;
        self.core.layout.unflatten(&total, &self.core.device)
    }

    fn each<S: Samples>(
        &self,
        samples: &S,
        reduce: impl Fn(&Gradient) -> f64 + Sync,
    ) -> Result<Vec<f64>, CurvatureError>
    where
        F: Fn(&M, S::Input) -> Tensor<2>,
    {
        if samples.is_empty() {
            return Err(no_samples());
        }
        let mut all = Vec::with_capacity(samples.len());
        let core = &self.core;
        self.in_blocks(
            "inner products",
            samples.len(),
            BLOCK,
            |model, range| {
                range
                    .map(|index| Ok(core.gradient(model, samples, index)?.map_or(0.0, |g| reduce(&g))))
                    .collect::<Result<Vec<f64>, CurvatureError>>()
            },
            |part| {
                all.extend(part);
                Ok(())
            },
        )?;
        Ok(all)
    }

    fn gradients<S: Samples>(
        &self,
        samples: &S,
        range: Range<usize>,
    ) -> Result<Vec<Option<Gradient>>, CurvatureError>
    where
        F: Fn(&M, S::Input) -> Tensor<2>,
    {
        let mut all = Vec::with_capacity(range.len());
        let core = &self.core;
        self.in_blocks(
            "gradients",
            range.len(),
            BLOCK,
            |model, part| {
                part.map(|offset| core.gradient(model, samples, range.start + offset))
                    .collect::<Result<Vec<_>, _>>()
            },
            |part| {
                all.extend(part);
                Ok(())
            },
        )?;
        Ok(all)
    }

    /// Writes ⟨left_i, right_j⟩ into the upper triangle of `gram` at (`at.0` + i, `at.1` + j).
    fn multiply(
        &self,
        left: &[Option<Gradient>],
        right: &[Option<Gradient>],
        at: (usize, usize),
        n: usize,
        gram: &mut [f64],
    ) -> Result<(), CurvatureError> {
        let same = at.0 == at.1;
        let (tall, wide) = (left.len().div_ceil(ROWS), right.len().div_ceil(ROWS));
        let tiles: Vec<(usize, usize)> = (0..tall)
            .flat_map(|i| (if same { i } else { 0 }..wide).map(move |j| (i * ROWS, j * ROWS)))
            .collect();
        let p = self.core.layout.len();
        self.in_blocks(
            "Gram matrix",
            tiles.len(),
            1,
            |_, range| {
                let (i, j) = tiles[range.start];
                let (a, b) = (&left[i..(i + ROWS).min(left.len())], &right[j..(j + ROWS).min(right.len())]);
                let mut tile = Array2::<f64>::zeros((a.len(), b.len()));
                for start in (0..p).step_by(COLUMNS) {
                    let columns = start..(start + COLUMNS).min(p);
                    tile += &widen(a, columns.clone()).dot(&widen(b, columns).t());
                }
                Ok((i, j, tile))
            },
            |(i, j, tile)| {
                write_tile(gram, n, (at.0 + i, at.1 + j), tile.view());
                Ok(())
            },
        )
    }
}

fn check_weights<S: Samples>(samples: &S, weights: &[f64]) -> Result<(), CurvatureError> {
    if samples.is_empty() {
        return Err(no_samples());
    }
    if weights.len() != samples.len() || weights.iter().any(|w| !w.is_finite()) {
        return Err(CurvatureError::Argument {
            field: "weights",
            got: format!("{} for {} samples", weights.len(), samples.len()),
            expected: "one finite weight a sample",
        });
    }
    Ok(())
}

fn widen(rows: &[Option<Gradient>], columns: Range<usize>) -> Array2<f64> {
    let mut out = Array2::zeros((rows.len(), columns.len()));
    for (mut out, gradient) in out.rows_mut().into_iter().zip(rows) {
        if let Some(g) = gradient {
            out.iter_mut().zip(&g.values[columns.clone()]).for_each(|(o, v)| *o = g.scale * f64::from(*v));
        }
    }
    out
}

fn write_tile(gram: &mut [f64], n: usize, (top, left): (usize, usize), tile: ArrayView2<'_, f64>) {
    for ((i, j), value) in tile.indexed_iter() {
        gram[(top + i) * n + left + j] = *value;
    }
}

fn inner(gradient: &Gradient, direction: &[f32]) -> f64 {
    let sum: f64 = gradient.values.iter().zip(direction).map(|(g, v)| f64::from(*g) * f64::from(*v)).sum();
    gradient.scale * sum
}
