//! The dual problem and its solver.
//!
//! With βᵢ = yᵢ αᵢ the dual of the soft-margin machine is
//!
//! ```text
//! maximise  Σᵢ yᵢ βᵢ − ½ Σᵢⱼ βᵢ βⱼ Kᵢⱼ   over  lowerᵢ ≤ βᵢ ≤ upperᵢ,  Σᵢ βᵢ = 0
//! ```
//!
//! with the box [0, U] for y = +1 and [−U, 0] for y = −1. sᵢ = yᵢ − Σⱼ Kᵢⱼ βⱼ is the gradient. A
//! point is optimal when no pair can still gain: max s over those that can rise ≤ min s over those
//! that can fall. Each step moves the pair that sequential minimal optimisation with second-order
//! working set selection takes (Fan, Chen and Lin 2005, "Working set selection using second order
//! information", WSS 2): i of largest s among those that can rise, j of largest second-order gain
//! among those that can fall. It converges for any positive semidefinite kernel.
//!
//! Index letters: i rises, j falls, t runs over all.

use super::cache::RowCache;
use crate::EvalError;

/// Curvature below which a direction counts as flat, as in LIBSVM.
const FLAT: f64 = 1e-12;

/// A dual problem whose kernel has ones on its diagonal.
pub(super) struct Dual<'a> {
    /// +1 or −1, `[n]`.
    pub(super) targets: &'a [f64],
    /// U, `[n]`, above zero.
    pub(super) bounds: &'a [f64],
    /// Largest violation of the optimality condition that is left.
    pub(super) tolerance: f64,
    /// Steps after which it gives up.
    pub(super) max_iterations: usize,
}

/// A solution of a [`Dual`].
#[derive(Debug)]
pub(super) struct Solution {
    /// βᵢ, `[n]`.
    pub(super) coefficients: Vec<f64>,
    /// b in f(x) = Σᵢ βᵢ K(xᵢ, x) + b.
    pub(super) bias: f64,
}

impl Dual<'_> {
    /// Solves the problem; `fill(i, row)` writes Kᵢ₀ … Kᵢₙ₋₁.
    pub(super) fn solve(
        &self,
        cache: &mut RowCache,
        fill: impl Fn(usize, &mut [f64]),
    ) -> Result<Solution, EvalError> {
        let n = self.targets.len();
        let lower: Vec<f64> = self.targets.iter().zip(self.bounds).map(|(y, u)| y.min(0.0) * u).collect();
        let upper: Vec<f64> = self.targets.iter().zip(self.bounds).map(|(y, u)| y.max(0.0) * u).collect();
        let mut beta = vec![0.0; n];
        let mut slope = self.targets.to_vec();
        let mut ends = Ends::default();
        for t in 0..n {
            ends.see(t, slope[t], beta[t] < upper[t], beta[t] > lower[t]);
        }
        for _ in 0..self.max_iterations {
            if ends.violation() < self.tolerance {
                return Ok(Solution { bias: bias(&beta, &slope, &lower, &upper, ends), coefficients: beta });
            }
            let i = ends.rise;
            let slot_i = cache.slot(i, None, |row| fill(i, row));
            let row_i = cache.row(slot_i);
            let (mut j, mut best) = (n, f64::NEG_INFINITY);
            for t in 0..n {
                let difference = ends.highest - slope[t];
                if beta[t] > lower[t] && difference > 0.0 {
                    let gain = difference * difference / (2.0 - 2.0 * row_i[t]).max(FLAT);
                    if gain > best {
                        (j, best) = (t, gain);
                    }
                }
            }
            let curvature = (2.0 - 2.0 * row_i[j]).max(FLAT);
            let slot_j = cache.slot(j, Some(slot_i), |row| fill(j, row));
            let (row_i, row_j) = (cache.row(slot_i), cache.row(slot_j));

            // The step along (+1, −1), cut where one of the two meets its bound. A cut end is set to
            // the bound itself: rounding must not leave it a hair inside, where it would be chosen
            // again for ever.
            let (room_i, room_j) = (upper[i] - beta[i], beta[j] - lower[j]);
            let step = ((ends.highest - slope[j]) / curvature).min(room_i).min(room_j);
            beta[i] = if step >= room_i { upper[i] } else { beta[i] + step };
            beta[j] = if step >= room_j { lower[j] } else { beta[j] - step };

            ends = Ends::default();
            for t in 0..n {
                slope[t] -= step * (row_i[t] - row_j[t]);
                ends.see(t, slope[t], beta[t] < upper[t], beta[t] > lower[t]);
            }
        }
        Err(EvalError::NotConverged {
            iterations: self.max_iterations,
            violation: ends.violation(),
            tolerance: self.tolerance,
        })
    }
}

/// The largest slope of those that can rise and the smallest of those that can fall.
#[derive(Debug, Clone, Copy)]
struct Ends {
    rise: usize,
    highest: f64,
    lowest: f64,
}

impl Default for Ends {
    fn default() -> Self {
        Self { rise: 0, highest: f64::NEG_INFINITY, lowest: f64::INFINITY }
    }
}

impl Ends {
    #[inline]
    fn see(&mut self, t: usize, slope: f64, can_rise: bool, can_fall: bool) {
        if can_rise && slope > self.highest {
            (self.rise, self.highest) = (t, slope);
        }
        if can_fall && slope < self.lowest {
            self.lowest = slope;
        }
    }

    fn violation(self) -> f64 {
        self.highest - self.lowest
    }
}

/// b is the slope of every coefficient inside its box (their mean, for rounding); without one,
/// anything between the two ends is optimal, and the middle is taken, as in LIBSVM.
fn bias(beta: &[f64], slope: &[f64], lower: &[f64], upper: &[f64], ends: Ends) -> f64 {
    let (mut sum, mut free) = (0.0, 0_usize);
    for t in 0..beta.len() {
        if lower[t] < beta[t] && beta[t] < upper[t] {
            sum += slope[t];
            free += 1;
        }
    }
    if free > 0 { sum / free as f64 } else { f64::midpoint(ends.highest, ends.lowest) }
}
