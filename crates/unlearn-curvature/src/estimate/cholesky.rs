//! The covariance of a one-hot multinomial draw, factored.

/// The columns of a factor L with L Lᵀ = diag(p) − p pᵀ, `[k − 1, k]`: column after column.
///
/// Λ has rank k − 1 at most (Λ1 = 0). With the classes sorted by falling probability and tails
/// q_j = Σ_{m>j} p_m, q_{−1} = 1, its Cholesky factor is (Tanabe & Sagae 1992)
///
/// L_jj = √(p_j q_j / q_{j−1}),  L_ij = −p_i √(p_j / (q_j q_{j−1})) for i > j.
///
/// Column 0 is the most probable class against the rest; the remaining ones are the same factor of the
/// distribution among the others. Tails are summed from the smallest probability up: 1 − p would be zero
/// for every prediction that float32 calls certain.
pub fn multinomial_cholesky(p: &[f64]) -> Vec<f64> {
    let k = p.len();
    let mut order: Vec<usize> = (0..k).collect();
    order.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
    // tails[j] = Σ_{m ≥ j} p of the sorted classes.
    let mut tails = vec![0.0; k + 1];
    for j in (0..k).rev() {
        tails[j] = tails[j + 1] + p[order[j]];
    }
    let mut columns = vec![0.0; k.saturating_sub(1) * k];
    for (j, column) in columns.chunks_exact_mut(k.max(1)).enumerate() {
        let (before, after) = (tails[j], tails[j + 1]);
        if after == 0.0 {
            break; // The rest of the classes has no probability at all.
        }
        let diagonal = (p[order[j]] * (after / before)).sqrt();
        column[order[j]] = diagonal;
        // √(p_j / (q_j q_{j−1})) = L_jj / q_j, which cannot underflow on the way.
        for &i in &order[j + 1..] {
            column[i] = -(p[i] / after) * diagonal;
        }
    }
    columns
}
