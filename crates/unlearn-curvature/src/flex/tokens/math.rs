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
    // What is missing weighs nothing: e^−87 at most, beside a sum of 1 or more.
    let mut last = [f32::NEG_INFINITY; LANES];
    last[..rest.len()].copy_from_slice(rest);
    for chunk in chunks.iter() {
        highest(&mut tops, chunk);
    }
    highest(&mut tops, &last);
    let top = folded(tops, larger);
    let mut sums = [0.0; LANES];
    for chunk in chunks.iter_mut() {
        powers(chunk, top, &mut sums);
    }
    powers(&mut last, top, &mut sums);
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
