//! One point's matrix product.

use pulp::Simd;

use crate::flex::tile::{Steps, tile};

/// `to[row] = Σ_i source[row · apart + steps[i]] · panel[i]` for `count` rows; panel `[steps, width]`, to `[count, width]`.
/// Not `fresh`: the sums are added to what is there.
#[inline(always)]
pub(super) fn product<S: Simd, const R: usize, const V: usize>(
    simd: S,
    source: &[f32],
    (count, apart): (usize, usize),
    steps: &Steps,
    panel: &[f32],
    to: &mut [f32],
    fresh: bool,
) {
    let (panel, _) = S::as_simd_f32s(panel);
    let (panel, _) = panel.as_chunks::<V>();
    let (to, _) = S::as_mut_simd_f32s(to);
    let (to, _) = to.as_chunks_mut::<V>();
    for (block, to) in to[..count].chunks_mut(R).enumerate() {
        // Missing rows repeat the last one and are not stored.
        let rows: [usize; R] = std::array::from_fn(|r| (block * R + r.min(to.len() - 1)) * apart);
        let sums = tile::<S, R, V>(simd, source, &rows, steps, panel);
        for (to, sums) in to.iter_mut().zip(&sums) {
            for (to, &sum) in to.iter_mut().zip(sums) {
                *to = if fresh { sum } else { simd.add_f32s(*to, sum) };
            }
        }
    }
}
