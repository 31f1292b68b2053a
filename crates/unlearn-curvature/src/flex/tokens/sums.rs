//! Sums over pieces that threads have made, in the order of the pieces.

/// The sum of `pieces`, `[pieces, d]`.
pub(super) fn total(pieces: &[f32], d: usize) -> Vec<f32> {
    let mut total = vec![0.0f64; d];
    for piece in pieces.chunks_exact(d) {
        for (total, &part) in total.iter_mut().zip(piece) {
            *total += f64::from(part);
        }
    }
    total.into_iter().map(|sum| sum as f32).collect()
}
