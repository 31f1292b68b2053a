//! What the attacks look at: functions of softmax outputs and true classes.
//!
//! Index letters: n samples, c columns (classes), y the true class. Logarithms are natural. Every
//! value is rounded to float32, the precision of the public code's softmax: it merges samples that
//! a model answers alike.

use std::collections::BTreeSet;

use super::{Feature, ModifiedEntropy};
use crate::predict::{Predictions, argmax, log_softmax};

/// Values of `feature` for all samples, `[n, dimension]` row-major, and the dimension: the number
/// of classes for [`Feature::Probabilities`], else 1.
pub fn values(
    predictions: &Predictions,
    feature: Feature,
    modified_entropy: ModifiedEntropy,
) -> (Vec<f64>, usize) {
    let rows = predictions.rows();
    let (values, dimension): (Vec<f64>, usize) = match feature {
        Feature::Correctness => (rows.map(|(z, y)| f64::from(u8::from(argmax(z) == y))).collect(), 1),
        Feature::Confidence => (rows.map(|(z, y)| log_softmax(z)[y].exp()).collect(), 1),
        Feature::Entropy => (rows.map(|(z, _)| entropy(&log_softmax(z))).collect(), 1),
        Feature::ModifiedEntropy => match modified_entropy {
            ModifiedEntropy::Corrected => (rows.map(|(z, y)| corrected(&log_softmax(z), y)).collect(), 1),
            ModifiedEntropy::Reference => {
                let flipped: BTreeSet<usize> = predictions.labels().iter().copied().collect();
                (rows.map(|(z, _)| reference(&log_softmax(z), &flipped)).collect(), 1)
            }
        },
        Feature::Probabilities => {
            (rows.flat_map(|(z, _)| log_softmax(z)).map(f64::exp).collect(), predictions.num_classes())
        }
    };
    let round = |value: f64| f64::from(value.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32);
    (values.into_iter().map(round).collect(), dimension)
}

/// −Σ_c p_c ln p_c of `log_p` = ln p, `[k]`.
pub fn entropy(log_p: &[f64]) -> f64 {
    -log_p.iter().map(|l| times(l.exp(), *l)).sum::<f64>()
}

/// −(1 − p_y) ln p_y − Σ_{c≠y} p_c ln(1 − p_c) of `log_p` = ln p, `[k]` (Song and Mittal 2021,
/// "Systematic evaluation of privacy risks of machine learning models", definition of Mentr).
///
/// 1 − p_c is computed as the sum of the other entries where p_c is the largest, so that a
/// confidence that rounds to 1 keeps its digits.
pub fn corrected(log_p: &[f64], y: usize) -> f64 {
    let largest = (0..log_p.len()).fold(0, |best, c| if log_p[c] > log_p[best] { c } else { best });
    let log_rest = |c: usize| {
        if c == largest { log_sum_except(log_p, c) } else { (-log_p[c].exp()).ln_1p() }
    };
    let others: f64 = (0..log_p.len()).filter(|c| *c != y).map(|c| times(log_p[c].exp(), log_rest(c))).sum();
    -times(log_rest(y).exp(), log_p[y]) - others
}

/// What the public unlearning code computes under the name: −Σ_c q_c ln p_c with q_c = 1 − p_c for
/// the classes `flipped` (all that occur in the set) and p_c for the others; ln of a zero is
/// ln 10⁻³⁰. In float32 steps, as there.
fn reference(log_p: &[f64], flipped: &BTreeSet<usize>) -> f64 {
    let term = |(c, log): (usize, &f64)| {
        let p = log.exp() as f32;
        let log = if p > 0.0 { p.ln() } else { 1e-30_f32.ln() };
        f64::from(if flipped.contains(&c) { 1.0 - p } else { p } * log)
    };
    -log_p.iter().enumerate().map(term).sum::<f64>()
}

/// p · l with the limit 0 where p is 0 and l infinite.
fn times(p: f64, l: f64) -> f64 {
    if p == 0.0 { 0.0 } else { p * l }
}

/// ln Σ_{c≠skip} p_c.
fn log_sum_except(log_p: &[f64], skip: usize) -> f64 {
    let others = || log_p.iter().enumerate().filter(|(c, _)| *c != skip).map(|(_, l)| *l);
    let largest = others().fold(f64::NEG_INFINITY, f64::max);
    if largest == f64::NEG_INFINITY {
        return largest;
    }
    largest + others().map(|l| (l - largest).exp()).sum::<f64>().ln()
}
