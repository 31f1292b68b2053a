//! The one inner loop that everything here is made of.
//!
//! ```text
//! tile[r][v] = Σ_i  source[rows[r] + steps[i]] · panel[i][v]        r < R, v < V vectors of lanes
//! ```
//!
//! R · V accumulators stay in registers; each step loads V vectors of the panel and R scalars. With the
//! offsets chosen by the caller it is a convolution (rows are output positions, steps are kernel taps), its
//! input gradient, or the weight gradient (rows are taps, steps are positions), each straight from the
//! padded `[channels, height, width]` picture: no patch matrix is written.
//!
//! Every entry is one chain of fused multiply-adds in the order of `steps`, so that its value depends
//! neither on the number of threads nor on the width of the vectors.

use pulp::Simd;

/// Offsets into a source, with their largest known.
#[derive(Debug, Clone, Default)]
pub(super) struct Steps {
    offsets: Vec<u32>,
    largest: usize,
}

impl Steps {
    pub(super) fn new(offsets: Vec<u32>) -> Self {
        let largest = offsets.iter().max().map_or(0, |&largest| largest as usize);
        Self { offsets, largest }
    }

    pub(super) fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Asserts that every step from every row lies in `source`.
    #[inline(always)]
    fn check<const R: usize>(&self, source: &[f32], rows: &[usize; R]) {
        let farthest = rows.iter().fold(0, |farthest, &row| farthest.max(row));
        assert!(
            self.len() == 0 || (farthest < source.len() && self.largest < source.len() - farthest),
            "row {farthest} and step {} lie outside of {} scalars",
            self.largest,
            source.len()
        );
    }

    /// Runs of at most `size` steps.
    pub(super) fn blocks(&self, size: usize) -> Vec<Self> {
        self.offsets.chunks(size).map(|block| Self::new(block.to_vec())).collect()
    }
}

/// A tile as in the head of this file. `panel` has one entry a step.
///
/// # Panics
/// When a step and a row together lie outside of `source`, or the panel is not of the steps' length.
#[inline(always)]
pub(super) fn tile<S: Simd, const R: usize, const V: usize>(
    simd: S,
    source: &[f32],
    rows: &[usize; R],
    steps: &Steps,
    panel: &[[S::f32s; V]],
) -> [[S::f32s; V]; R] {
    assert!(panel.len() == steps.len(), "{} rows in the panel for {} steps", panel.len(), steps.len());
    steps.check(source, rows);
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    for (&step, vectors) in steps.offsets.iter().zip(panel) {
        add::<S, R, V>(simd, &source[step as usize..], rows, vectors, &mut sums);
    }
    sums
}

/// A tile of some steps only: `places` says which entry of the panel each of them takes.
///
/// # Panics
/// When a step and a row together lie outside of `source`, or a place outside of the panel.
#[inline(always)]
pub(super) fn tile_of<S: Simd, const R: usize, const V: usize>(
    simd: S,
    source: &[f32],
    rows: &[usize; R],
    (steps, places): (&Steps, &[u32]),
    panel: &[[S::f32s; V]],
) -> [[S::f32s; V]; R] {
    steps.check(source, rows);
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    for (&step, &place) in steps.offsets.iter().zip(places) {
        add::<S, R, V>(simd, &source[step as usize..], rows, &panel[place as usize], &mut sums);
    }
    sums
}

/// One step. `from` begins at its offset in a source that [`Steps::check`] has seen.
#[inline(always)]
fn add<S: Simd, const R: usize, const V: usize>(
    simd: S,
    from: &[f32],
    rows: &[usize; R],
    vectors: &[S::f32s; V],
    sums: &mut [[S::f32s; V]; R],
) {
    for (sums, &row) in sums.iter_mut().zip(rows) {
        let value = simd.splat_f32s(read(from, row));
        for (sum, &vector) in sums.iter_mut().zip(vectors) {
            *sum = simd.mul_add_f32s(value, vector, *sum);
        }
    }
}

/// `from[row]` without a second check: [`Steps::check`] has made sure of the sum of the largest row and the largest
/// step. A check at every scalar costs two thirds of the speed at 64 outputs (66 against 208 GFLOP/s for a
/// thread of an AVX-512 machine).
#[inline(always)]
#[allow(unsafe_code, reason = "measured: see above")]
fn read(from: &[f32], row: usize) -> f32 {
    debug_assert!(row < from.len());
    // SAFETY: `add` is the only caller, and `tile` and `tile_of` are its only ones. Both call `check`, which asserts
    // farthest row + largest step < source.len(), where `Steps` keeps `largest` ≥ each of its offsets (set in `new`,
    // fields private, never changed), and `from` starts at one of those offsets: row < source.len() - step =
    // from.len().
    unsafe { *from.get_unchecked(row) }
}
