//! Intervals over the draw of samples.

/// Two-sided 95 % quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// Wilson's 95 % score interval of a proportion of `successes` in `n`, as shares 0–1 (Wilson 1927,
/// "Probable inference, the law of succession, and statistical inference", eq. for p̂ ± z).
/// `None` for n = 0.
pub fn wilson(successes: usize, n: usize) -> Option<[f64; 2]> {
    if n == 0 {
        return None;
    }
    let (n, p) = (n as f64, successes as f64 / n as f64);
    let z2 = Z * Z;
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    Some([(centre - half).max(0.0), (centre + half).min(1.0)])
}

/// 95 % interval of an area under the ROC curve `auc` of `positives` against `negatives` samples,
/// as shares 0–1 (Hanley and McNeil 1982, eq. 1, with their exponential approximation of Q₁, Q₂).
/// `None` when one side is empty.
pub fn hanley_mcneil(auc: f64, positives: usize, negatives: usize) -> Option<[f64; 2]> {
    if positives == 0 || negatives == 0 {
        return None;
    }
    let (p, n) = (positives as f64, negatives as f64);
    let q1 = auc / (2.0 - auc);
    let q2 = 2.0 * auc * auc / (1.0 + auc);
    let square = auc * auc;
    let variance = (auc * (1.0 - auc) + (p - 1.0) * (q1 - square) + (n - 1.0) * (q2 - square)) / (p * n);
    let half = Z * variance.max(0.0).sqrt();
    Some([(auc - half).max(0.0), (auc + half).min(1.0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_agrees_with_a_published_table() {
        // R: prop.test(81, 263, correct = FALSE), Newcombe 1998's worked example: 0.2553–0.3662.
        let [low, high] = wilson(81, 263).unwrap();
        assert!((low - 0.2553).abs() < 5e-5 && (high - 0.3662).abs() < 5e-5, "{low} {high}");
        // 0 of 20: 0.0000–0.1611.
        let [low, high] = wilson(0, 20).unwrap();
        assert!(low == 0.0 && (high - 0.1611).abs() < 5e-5, "{high}");
        assert_eq!(wilson(0, 0), None);
    }

    #[test]
    fn hanley_mcneil_agrees_with_its_null_variance() {
        // At AUC = 1/2: Q₁ = Q₂ = 1/3, so the variance is (n₊ + n₋ + 1) / (12 n₊ n₋), as Wilcoxon's.
        let [low, high] = hanley_mcneil(0.5, 30, 50).unwrap();
        let expected = 1.959_963_984_540_054 * (81.0_f64 / (12.0 * 1500.0)).sqrt();
        assert!(((high - low) / 2.0 - expected).abs() < 1e-12);
        assert_eq!(hanley_mcneil(0.5, 0, 3), None);
    }
}
