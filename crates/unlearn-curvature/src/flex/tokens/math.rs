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
    let (chunks, rest) = row.as_chunks_mut::<LANES>();
    for chunk in chunks.iter() {
        highest(&mut tops, chunk);
    }
    // What is missing weighs nothing: e^−87 at most, beside a sum of 1 or more.
    let mut last = [f32::NEG_INFINITY; LANES];
    last[..rest.len()].copy_from_slice(rest);
    highest(&mut tops, &last);
    let top = folded(tops, larger);
    let mut sums = [0.0; LANES];
    for chunk in chunks.iter_mut() {
        powers(chunk, top, &mut sums);
    }
    if !rest.is_empty() {
        powers(&mut last, top, &mut sums);
    }
    let factor = 1.0 / folded(sums, |a, b| a + b);
    for x in chunks.as_flattened_mut() {
        *x *= factor;
    }
    for (x, last) in rest.iter_mut().zip(last) {
        *x = last * factor;
    }
}

// Loops over lanes and not the functions of arrays and chained iterators, which are not inlined into the function that has
// the machine's vector instructions.

/// The larger one; `a` where one is not a number.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

#[inline(always)]
fn highest(tops: &mut [f32; LANES], chunk: &[f32; LANES]) {
    for (top, &x) in tops.iter_mut().zip(chunk) {
        *top = larger(*top, x);
    }
}

/// Puts e^(x − top) in each entry's place and adds it to its lane's sum.
#[inline(always)]
fn powers(chunk: &mut [f32; LANES], top: f32, sums: &mut [f32; LANES]) {
    for (x, sum) in chunk.iter_mut().zip(sums) {
        *x = exp(*x - top);
        *sum += *x;
    }
}

/// All lanes in one, halves onto halves, which vector instructions can do and one after the other cannot.
#[inline(always)]
fn folded(mut lanes: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = join(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_of_rows_of_every_length_is_that_of_float64() {
        for len in [1, 2, 15, 16, 17, 32, 47, 48, 65] {
            let row: Vec<f32> = (0..len).map(|i| 9.0 * (i as f32 * 2.3).sin()).collect();
            let powers: Vec<f64> = row.iter().map(|&x| f64::from(x).exp()).collect();
            let sum: f64 = powers.iter().sum();
            let mut got = row.clone();
            softmax(&mut got);
            for (got, power) in got.iter().zip(&powers) {
                // Powers within 2 units of 2⁻²³, a difference of at most 18 rounded before, and a sum of `len` of them.
                let bound = (2.0 + 18.0 + len as f64) * 2f64.powi(-23);
                assert!((f64::from(*got) / (power / sum) - 1.0).abs() < bound, "{len}: {got}");
            }
        }
    }

    #[test]
    fn softmax_of_what_is_not_finite() {
        for (len, place) in [(3, 1), (16, 15), (20, 18), (20, 2)] {
            let with = |value| {
                let mut row = vec![0.5; len];
                row[place] = value;
                softmax(&mut row);
                row
            };
            assert!(with(f32::NAN).iter().all(|x| x.is_nan()));
            assert!(with(f32::INFINITY).iter().all(|x| x.is_nan()));
            let rest = 1.0 / (len - 1) as f32;
            for (i, x) in with(f32::NEG_INFINITY).into_iter().enumerate() {
                let expected = if i == place { 0.0 } else { rest };
                assert!((x - expected).abs() < 1e-6, "{len}: {x}");
            }
        }
        let mut none = vec![f32::NEG_INFINITY; 20];
        softmax(&mut none);
        assert!(none.iter().all(|x| x.is_nan()));
    }
}
