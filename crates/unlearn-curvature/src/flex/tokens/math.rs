//! The exponential, Φ and softmax in plain arithmetic, so that a loop over them becomes vector instructions.

/// Entries that are worked on side by side.
pub(super) const LANES: usize = 16;

/// Below it e^x is taken to be e^−87, the smallest that is still a normal number.
const LOWEST: f32 = -87.0;

/// e^x for x ≤ 0, within 2 units in the last place down to e^−87 (1.6e-38) and that value below; NaN for NaN.
///
/// x = n ln 2 + r with |r| ≤ (ln 2) / 2, and e^r = 1 + r + r² p(r), p minimax of degree 4 (relative error 4e-9 with
/// coefficients in float32).
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// ln 2 in two parts; the first has nine bits, so that its products with n are exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const P: [f32; 5] = [0.499_999_93, 0.166_665_21, 0.041_668_387, 0.008_368_71, 0.001_381_461_3];
    /// 1.5 · 2²³: adding it rounds to a whole number, which then stands in the last bits.
    const WHOLE: f32 = 12_582_912.0;
    let x = if x < LOWEST { LOWEST } else { x };
    let shifted = x * std::f32::consts::LOG2_E + WHOLE;
    let n = shifted - WHOLE;
    let r = (x - n * LN_2[0]) - n * LN_2[1];
    let p = P.iter().rev().fold(0.0, |p, &c| p * r + c);
    let power = shifted.to_bits().wrapping_sub(WHOLE.to_bits()).wrapping_add(127) << 23;
    (1.0 + (r + r * r * p)) * f32::from_bits(power)
}

/// Φ(x), the normal distribution function, within 4 · 2⁻²⁴, and e^(−x²/2); beyond |x| = 13, where the first is within
/// 6.2e-39 of 0 or 1, exactly those and zero.
///
/// 1 − Φ(a) = e^(−a²/2) t s(t) for a ≥ 0, with t = 1 / (1 + 0.35 a) and s minimax of degree 8 over 0 ≤ a ≤ 14 (relative
/// error 4.5e-8 with coefficients in float32).
#[inline(always)]
pub(super) fn normal(x: f32) -> (f32, f32) {
    const S: [f32; 9] = [
        0.139_621_4,
        0.139_861_87,
        0.119_832_87,
        0.105_508,
        -0.023_109_814,
        0.159_174_13,
        -0.255_714_23,
        0.143_971_68,
        -0.029_145_928,
    ];
    let a = x.abs();
    let density = if a > 13.0 { 0.0 } else { exp(-0.5 * a * a) };
    let t = 1.0 / (1.0 + 0.35 * a);
    let s = S.iter().rev().fold(0.0, |s, &c| s * t + c);
    let above = density * (t * s);
    (if x >= 0.0 { 1.0 - above } else { above }, density)
}

/// e^(x − m) / Σ e^(x − m) with m the largest entry. NaN in one is NaN in all.
#[inline(always)]
pub(super) fn softmax(row: &mut [f32]) {
    let mut tops = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks.iter().map(<[f32; LANES]>::as_slice).chain([rest]) {
        for (top, &x) in tops.iter_mut().zip(chunk) {
            *top = if x > *top { x } else { *top };
        }
    }
    let top = tops.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let mut sums = [0.0; LANES];
    let (chunks, rest) = row.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *x = exp(*x - top);
            *sum += *x;
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *x = exp(*x - top);
        *sum += *x;
    }
    let factor = 1.0 / sums.iter().sum::<f32>();
    for x in row {
        *x *= factor;
    }
}
