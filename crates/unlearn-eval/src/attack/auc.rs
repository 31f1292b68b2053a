//! The area under the ROC curve.

/// Probability that a random entry of `positive` is larger than one of `negative`, ties counting
/// one half: the Mann-Whitney statistic over n₊ n₋, which is the area under the ROC curve
/// (Hanley and McNeil 1982). `None` when a side is empty.
///
/// Cost: O(n log n).
pub fn auc(positive: &[f64], negative: &[f64]) -> Option<f64> {
    if positive.is_empty() || negative.is_empty() {
        return None;
    }
    let mut negative = negative.to_vec();
    negative.sort_by(f64::total_cmp);
    let twice_wins: f64 = positive
        .iter()
        .map(|value| {
            let below = negative.partition_point(|other| other < value);
            let up_to = negative.partition_point(|other| other <= value);
            (below + up_to) as f64
        })
        .sum();
    Some(twice_wins / 2.0 / (positive.len() as f64 * negative.len() as f64))
}

#[cfg(test)]
mod tests {
    use super::auc;

    #[test]
    fn counts_pairs_with_ties_as_half() {
        assert_eq!(auc(&[2.0, 3.0], &[0.0, 1.0]), Some(1.0));
        assert_eq!(auc(&[0.0], &[1.0]), Some(0.0));
        assert_eq!(auc(&[1.0, 1.0], &[1.0]), Some(0.5));
        // Pairs: 3>1, 3>2, 3>3 tie, 1=1 tie, 1<2, 1<3: (2 + 1/2 + 1/2) / 6.
        assert_eq!(auc(&[3.0, 1.0], &[1.0, 2.0, 3.0]), Some(0.5));
        assert_eq!(auc(&[], &[1.0]), None);
        assert_eq!(auc(&[1.0], &[]), None);
    }
}
