//! Convolutions of 3 × 3 with stride 1 in 16 products a tile of 2 × 2 outputs, where one after the other takes 36.
//!
//! ```text
//! transform  the tiles of inputs, weights and outputs, forth and back
//! tiles      pictures cut into transformed tiles
//! products   for each of the 16 points a matrix product
//! gather     forward and input gradient
//! job        some units' pictures and cotangents, transformed
//! weights    weight gradient and squares of single units'
//! ```
//!
//! The transforms add and subtract neighbours, so that an output's rounding error is that of sums over a whole tile of
//! 4 × 4 inputs instead of 3 × 3, and what is not finite spoils a whole tile of outputs.

mod gather;
mod job;
mod products;
#[cfg(test)]
mod tests;
mod tiles;
mod transform;
mod weights;

pub(super) use gather::{forward, input_gradient};
pub(super) use weights::{squares, weight_gradient};

use super::shape::ConvShape;

/// Channels and outputs from which 16 products and the transforms are faster than 36 products (measured; at 16 they are
/// even or slower).
const NARROWEST: usize = 32;
/// Tiles of a unit below which taking 16 sums back to 9 weights costs more than it saves.
const FEWEST_TILES: usize = 16;
/// Scalars that are transformed together at least, a row of tiles or a unit with one column: larger ones would stream
/// through memory.
const LARGEST: usize = 8 << 20;

/// Kernel and channels, and that there is something to do.
fn is_candidate(shape: &ConvShape) -> bool {
    let kernel = shape.kernel == [3, 3] && shape.stride == [1, 1] && shape.dilation == [1, 1];
    kernel && shape.channels.min(shape.outputs) >= NARROWEST && shape.plane() * shape.positions() > 0
}

fn is_even(side: [usize; 2]) -> bool {
    side.iter().all(|side| side % 2 == 0)
}

/// Whether inputs and outputs of so many positions may be transformed together.
fn fits(shape: &ConvShape, positions: usize) -> bool {
    (4 * positions).saturating_mul(shape.channels + shape.outputs) <= LARGEST
}

/// Whether a convolution is for this.
pub(super) fn suits(shape: &ConvShape) -> bool {
    is_candidate(shape) && is_even(shape.output) && fits(shape, 2 * shape.output[1])
}

/// Whether an input gradient is.
pub(super) fn suits_back(shape: &ConvShape) -> bool {
    let border = shape.padding.iter().all(|&(before, after)| before.max(after) <= 2);
    is_candidate(shape) && is_even(shape.input) && border && fits(shape, 2 * shape.input[1])
}

/// Whether a weight gradient is.
pub(super) fn suits_weights(shape: &ConvShape) -> bool {
    is_candidate(shape) && is_even(shape.output) && fits(shape, shape.positions())
}

/// Whether squares of the gradients of units of `group` pictures are.
pub(super) fn suits_squares(shape: &ConvShape, group: usize) -> bool {
    let positions = group * shape.positions();
    is_candidate(shape) && is_even(shape.output) && positions >= 4 * FEWEST_TILES && fits(shape, positions)
}
