//! From logits to cotangents, in float64 and without cancellation.

use crate::CurvatureError;

/// Logits of some samples on the host, `[n, k]`.
#[derive(Debug, Clone)]
pub struct LogitRows {
    values: Vec<f32>,
    classes: usize,
}

impl LogitRows {
    /// Takes logits, `[n, classes]` row-major.
    ///
    /// # Errors
    /// [`CurvatureError::NonFinite`] when one is infinite or not a number.
    pub fn new(values: Vec<f32>, classes: usize) -> Result<Self, CurvatureError> {
        if let Some(position) = values.iter().position(|v| !v.is_finite()) {
            return Err(CurvatureError::NonFinite {
                what: format!("the logit of class {} of a sample", position % classes.max(1)),
                mend: "check the weights of the model; a diverged model has no curvature",
            });
        }
        Ok(Self { values, classes })
    }

    /// Number of classes, k.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Number of samples, n.
    pub fn len(&self) -> usize {
        self.values.len() / self.classes.max(1)
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Probabilities of row `n`, `[k]`, each with full relative precision.
    pub fn probabilities(&self, n: usize) -> Vec<f64> {
        let row = &self.values[n * self.classes..(n + 1) * self.classes];
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exponentials = row.iter().map(|&z| (f64::from(z) - f64::from(top)).exp());
        let sum: f64 = exponentials.clone().sum();
        exponentials.map(|e| e / sum).collect()
    }

    /// ∂(−log p_c)/∂z = p − e_c of row `n`, `[k]`, with p_c.
    ///
    /// The entry p_c − 1 is −Σ_{j≠c} p_j: subtracting from one would lose every sample of which
    /// the model is sure.
    ///
    /// # Errors
    /// [`CurvatureError::Argument`] when there is no class `class`.
    pub fn residual(&self, n: usize, class: usize) -> Result<(Vec<f64>, f64), CurvatureError> {
        if class >= self.classes {
            return Err(CurvatureError::Argument {
                field: "label",
                got: class.to_string(),
                expected: "less than the number of logits of the model",
            });
        }
        let mut residual = self.probabilities(n);
        let probability = residual[class];
        residual[class] =
            -residual.iter().enumerate().filter(|(j, _)| *j != class).map(|(_, p)| p).sum::<f64>();
        Ok((residual, probability))
    }
}

/// `cotangent` brought to largest entry between 1 and 2 by a power of two, and the factor that
/// undoes it; `None` when it is all zero. Powers of two change no digit.
pub(super) fn scaled(cotangent: &[f64]) -> Option<(Vec<f32>, f64)> {
    let largest = cotangent.iter().fold(0.0_f64, |m, c| m.max(c.abs()));
    if largest == 0.0 {
        return None;
    }
    // Beyond ±1000 the factor itself would leave float64.
    let exponent = largest.log2().floor().clamp(-1000.0, 1000.0) as i32;
    let scale = 2.0_f64.powi(exponent);
    Some((cotangent.iter().map(|c| (c / scale) as f32).collect(), scale))
}
