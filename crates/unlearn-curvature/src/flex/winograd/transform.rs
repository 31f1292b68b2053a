//! Winograd's F(2 × 2, 3 × 3) as sums of vectors, and its adjoint.
//!
//! ```text
//! y  = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A      d 4 × 4 inputs, g 3 × 3 weights, y 2 × 2 outputs
//! ∂g = Gᵀ [(A ∂y Aᵀ) ⊙ (Bᵀ d B)] G     the gradient of the weights
//! ```
//!
//! (Lavin and Gray 2016, §4.1, with these matrices.) 16 products take the place of 36.

use pulp::Simd;

/// Products a tile: the entries of a transformed tile, row after row.
pub(super) const POINTS: usize = 16;

/// Bᵀ d.
#[inline(always)]
fn input_line<S: Simd>(simd: S, d: [S::f32s; 4]) -> [S::f32s; 4] {
    [
        simd.sub_f32s(d[0], d[2]),
        simd.add_f32s(d[1], d[2]),
        simd.sub_f32s(d[2], d[1]),
        simd.sub_f32s(d[1], d[3]),
    ]
}

/// G g.
#[inline(always)]
fn kernel_line<S: Simd>(simd: S, g: [S::f32s; 3]) -> [S::f32s; 4] {
    let half = simd.splat_f32s(0.5);
    let outer = simd.add_f32s(g[0], g[2]);
    [
        g[0],
        simd.mul_f32s(half, simd.add_f32s(outer, g[1])),
        simd.mul_f32s(half, simd.sub_f32s(outer, g[1])),
        g[2],
    ]
}

/// Gᵀ u.
#[inline(always)]
fn kernel_line_back<S: Simd>(simd: S, u: [S::f32s; 4]) -> [S::f32s; 3] {
    let half = simd.splat_f32s(0.5);
    let sum = simd.mul_f32s(half, simd.add_f32s(u[1], u[2]));
    [simd.add_f32s(u[0], sum), simd.mul_f32s(half, simd.sub_f32s(u[1], u[2])), simd.add_f32s(sum, u[3])]
}

/// Aᵀ m.
#[inline(always)]
fn output_line<S: Simd>(simd: S, m: [S::f32s; 4]) -> [S::f32s; 2] {
    [simd.add_f32s(simd.add_f32s(m[0], m[1]), m[2]), simd.sub_f32s(simd.sub_f32s(m[1], m[2]), m[3])]
}

/// A y.
#[inline(always)]
fn output_line_back<S: Simd>(simd: S, y: [S::f32s; 2]) -> [S::f32s; 4] {
    [y[0], simd.add_f32s(y[0], y[1]), simd.sub_f32s(y[0], y[1]), simd.neg_f32s(y[1])]
}

/// `$line` over the columns, then over the rows of a `$from` × `$from` tile.
macro_rules! both_ways {
    ($(#[$doc:meta])* $name:ident, $line:ident, $from:literal, $to:literal) => {
        $(#[$doc])*
        #[inline(always)]
        pub(super) fn $name<S: Simd>(simd: S, tile: [[S::f32s; $from]; $from]) -> [[S::f32s; $to]; $to] {
            let zero = simd.splat_f32s(0.0);
            let mut half = [[zero; $from]; $to];
            for column in 0..$from {
                let mut line = [zero; $from];
                for row in 0..$from {
                    line[row] = tile[row][column];
                }
                let line = $line(simd, line);
                for row in 0..$to {
                    half[row][column] = line[row];
                }
            }
            let mut whole = [[zero; $to]; $to];
            for row in 0..$to {
                whole[row] = $line(simd, half[row]);
            }
            whole
        }
    };
}

both_ways!(
    /// Bᵀ d B.
    input, input_line, 4, 4
);
both_ways!(
    /// G g Gᵀ.
    kernel, kernel_line, 3, 4
);
both_ways!(
    /// Gᵀ u G.
    kernel_back, kernel_line_back, 4, 3
);
both_ways!(
    /// Aᵀ m A.
    output, output_line, 4, 2
);
both_ways!(
    /// A y Aᵀ.
    output_back, output_line_back, 2, 4
);
