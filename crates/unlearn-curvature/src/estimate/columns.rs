//! Cotangents ready for the device.

use std::ops::Range;

use crate::CurvatureError;
use crate::oracle::LogitRows;

/// Cotangents below this are scaled up: from here on squares of gradients would lose digits in float32.
const SMALL: f64 = 1.0 / (1_u64 << 40) as f64;

/// Cotangents of the logits, `[n, c, k]` in float32, with one power of two for each unit (sample or group) that
/// has been divided out of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Columns {
    values: Vec<f32>,
    scales: Vec<f64>,
    count: usize,
    classes: usize,
    group: usize,
}

impl Columns {
    /// Takes cotangents `[n, columns, classes]` row-major; every `group` samples are one unit.
    ///
    /// Units whose largest entry is under 2⁻⁴⁰ are multiplied by a power of two that brings it to between
    /// 1 and 2; powers of two change no digit.
    ///
    /// # Errors
    /// [`CurvatureError::Argument`] when the number of values does not fit the sizes.
    pub fn new(values: &[f64], columns: usize, classes: usize, group: usize) -> Result<Self, CurvatureError> {
        let unit = columns * classes * group;
        if unit == 0 || values.is_empty() || !values.len().is_multiple_of(unit) {
            return Err(CurvatureError::Argument {
                field: "columns",
                got: format!(
                    "{} cotangents for {columns} columns, {classes} classes, groups of {group}",
                    values.len()
                ),
                expected: "at least one unit, and whole ones",
            });
        }
        let mut scales = Vec::with_capacity(values.len() / unit);
        let mut scaled = Vec::with_capacity(values.len());
        for unit in values.chunks_exact(unit) {
            let largest = unit.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
            let scale = if largest > 0.0 && largest < SMALL {
                // Beyond 2⁻¹⁰⁰⁰ the factor itself would leave float64.
                2.0_f64.powi(largest.log2().floor().max(-1000.0) as i32)
            } else {
                1.0
            };
            scales.push(scale);
            scaled.extend(unit.iter().map(|v| (v / scale) as f32));
        }
        Ok(Self { values: scaled, scales, count: columns, classes, group })
    }

    /// n.
    pub fn samples(&self) -> usize {
        self.scales.len() * self.group
    }

    /// c.
    pub fn count(&self) -> usize {
        self.count
    }

    /// k.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Samples a unit.
    pub fn group(&self) -> usize {
        self.group
    }

    /// The scaled cotangents, `[n, c, k]`.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The factor that undoes the scaling of each unit.
    pub fn scales(&self) -> &[f64] {
        &self.scales
    }

    /// A range of the columns of all samples.
    ///
    /// # Panics
    /// When the range reaches past the end.
    pub fn part(&self, columns: Range<usize>) -> Self {
        let k = self.classes;
        let values = self
            .values
            .chunks_exact(self.count * k)
            .flat_map(|sample| &sample[columns.start * k..columns.end * k])
            .copied()
            .collect();
        Self { values, count: columns.len(), scales: self.scales.clone(), ..*self }
    }
}

/// √(mean p_c) · (p − e_c) / m for each class c of each group of `m` samples, appended to `values`.
pub(super) fn group_mean(rows: &LogitRows, m: usize, values: &mut Vec<f64>) -> Result<(), CurvatureError> {
    let k = rows.classes();
    for start in (0..rows.len()).step_by(m) {
        let group = start..(start + m).min(rows.len());
        let mut mean = vec![0.0; k];
        for n in group.clone() {
            mean.iter_mut().zip(rows.probabilities(n)).for_each(|(mean, p)| *mean += p / m as f64);
        }
        for n in group {
            for (class, mean) in mean.iter().enumerate() {
                let weight = mean.sqrt() / m as f64;
                values.extend(rows.residual(n, class)?.0.into_iter().map(|r| weight * r));
            }
        }
    }
    Ok(())
}
