//! Fisher diagonals as sums and counts.

use burn::Tensor;
use burn::module::Module;

use super::{Gradient, Oracle, Samples};
use crate::{CurvatureError, ParamTree};

/// Samples whose squares one thread adds up before they join the total.
const BLOCK: usize = 4;

/// A sum over samples (or batches) shaped like the parameters, and how many there were. Diagonals of
/// the parts of a data set [merge](Self::merge) to that of the whole.
#[derive(Debug, Clone)]
pub struct Diagonal {
    /// The sum, one entry a parameter.
    pub sum: ParamTree,
    /// What was summed over: samples, or batches for [`Oracle::group_mean`].
    pub count: usize,
}

impl Diagonal {
    /// Sum over count.
    pub fn mean(&self) -> ParamTree {
        self.sum.scale(1.0 / self.count.max(1) as f64)
    }

    /// The diagonal over the samples of both.
    ///
    /// # Errors
    /// [`CurvatureError::Keys`] and [`CurvatureError::Shape`] when they are of different modules.
    pub fn merge(&self, other: &Self) -> Result<Self, CurvatureError> {
        Ok(Self { sum: self.sum.add(&other.sum)?, count: self.count + other.count })
    }
}

impl<M: Module + Sync, F: Sync> Oracle<'_, M, F> {
    /// The empirical diagonal: Σ_n g_n², at the labels of the data. One pass.
    ///
    /// # Errors
    /// [`CurvatureError::Argument`] for no samples or a label without a logit,
    /// [`CurvatureError::NonFinite`], [`CurvatureError::Read`].
    pub fn empirical<S: Samples>(&self, samples: &S) -> Result<Diagonal, CurvatureError>
    where
        F: Fn(&M, S::Input) -> Tensor<2>,
    {
        self.shifted_empirical(samples, 0.0)
    }

    /// Σ_n (−g_n + `epsilon`)²: the empirical diagonal with the published code's ε, which it adds to
    /// the gradient of log p rather than to the square. One pass.
    ///
    /// # Errors
    /// As [`empirical`](Self::empirical).
    pub fn shifted_empirical<S: Samples>(&self, samples: &S, epsilon: f64) -> Result<Diagonal, CurvatureError>
    where
        F: Fn(&M, S::Input) -> Tensor<2>,
    {
        let core = &self.core;
        self.sum_up(samples.len(), BLOCK, |model, index, sum| {
            let gradient = core.gradient(model, samples, index)?;
            match gradient {
                Some(gradient) => sum.iter_mut().zip(&gradient.values).for_each(|(sum, g)| {
                    let g = epsilon - gradient.scale * f64::from(*g);
                    *sum += g * g;
                }),
                None => sum.iter_mut().for_each(|sum| *sum += epsilon * epsilon),
            }
            Ok(())
        })
    }

    /// The exact diagonal of the Fisher information, labels drawn from the model's own predictive
    /// distribution: Σ_n Σ_c p_nc (∂(−log p_nc)/∂θ)² (Amari 1998; equal to the diagonal of the
    /// generalised Gauss–Newton matrix for this loss). k passes.
    ///
    /// # Errors
    /// As [`empirical`](Self::empirical).
    pub fn exact<S: Samples>(&self, samples: &S) -> Result<Diagonal, CurvatureError>
    where
        F: Fn(&M, S::Input) -> Tensor<2>,
    {
        let core = &self.core;
        self.sum_up(samples.len(), BLOCK, |model, index, sum| {
            let (mut class, mut classes) = (0, 1);
            while class < classes {
                let mut probability = 0.0;
                let gradient = core.pull(model, core.upload(samples, index..index + 1)?, |rows| {
                    classes = rows.classes();
                    let (residual, p) = rows.residual(0, class)?;
                    probability = p;
                    Ok(residual)
                })?;
                add_squares(sum, gradient.as_ref(), probability);
                class += 1;
            }
            Ok(())
        })
    }

    /// What the published `fisher_new` calls the Fisher diagonal, over batches B of `size` samples in
    /// order (the last may be short and counts like the others):
    /// Σ_B Σ_c \[mean_{n∈B} p_nc\] · (∂ mean_{n∈B} (−log p_nc)/∂θ)².
    ///
    /// It squares the *mean* gradient of a batch and weighs it with the *mean* probability, so it is
    /// the diagonal of [`exact`](Self::exact) only for `size` 1. k batched passes.
    ///
    /// # Errors
    /// As [`empirical`](Self::empirical), and [`CurvatureError::Argument`] for size zero.
    pub fn group_mean<S: Samples>(&self, samples: &S, size: usize) -> Result<Diagonal, CurvatureError>
    where
        F: Fn(&M, S::Input) -> Tensor<2>,
    {
        if size == 0 {
            return Err(CurvatureError::Argument {
                field: "size",
                got: "0".into(),
                expected: "at least 1 sample a batch",
            });
        }
        let total = samples.len();
        let core = &self.core;
        self.sum_up(total.div_ceil(size), 1, |model, batch, sum| {
            let range = batch * size..((batch + 1) * size).min(total);
            let count = range.len() as f64;
            let (mut class, mut classes) = (0, 1);
            while class < classes {
                let mut probability = 0.0;
                let gradient = core.pull(model, core.upload(samples, range.clone())?, |rows| {
                    classes = rows.classes();
                    let mut cotangent = Vec::with_capacity(rows.len() * classes);
                    for n in 0..rows.len() {
                        let (residual, p) = rows.residual(n, class)?;
                        probability += p / count;
                        cotangent.extend(residual.into_iter().map(|r| r / count));
                    }
                    Ok(cotangent)
                })?;
                add_squares(sum, gradient.as_ref(), probability);
                class += 1;
            }
            Ok(())
        })
    }

    fn sum_up(
        &self,
        units: usize,
        block: usize,
        add: impl Fn(&M, usize, &mut [f64]) -> Result<(), CurvatureError> + Sync,
    ) -> Result<Diagonal, CurvatureError> {
        if units == 0 {
            return Err(no_samples());
        }
        let core = &self.core;
        let mut total = vec![0.0_f64; core.layout.len()];
        self.in_blocks(
            "Fisher diagonal",
            units,
            block,
            |model, range| {
                let mut sum = vec![0.0_f64; core.layout.len()];
                for unit in range {
                    add(model, unit, &mut sum)?;
                }
                Ok(sum)
            },
            |sum| {
                total.iter_mut().zip(sum).for_each(|(total, sum)| *total += sum);
                Ok(())
            },
        )?;
        Ok(Diagonal { sum: core.layout.unflatten(&total, &core.device)?, count: units })
    }
}

pub(crate) fn no_samples() -> CurvatureError {
    CurvatureError::Argument { field: "samples", got: "none".into(), expected: "at least one sample" }
}

fn add_squares(sum: &mut [f64], gradient: Option<&Gradient>, weight: f64) {
    let Some(gradient) = gradient else { return };
    // Taken apart so that a tiny scale never underflows when squared before the weight joins it.
    let root = weight.sqrt() * gradient.scale;
    for (sum, g) in sum.iter_mut().zip(&gradient.values) {
        let g = root * f64::from(*g);
        *sum += g * g;
    }
}
