//! Crops and flips as a pure function of (seed, epoch, sample).

use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::dataset::ImageShape;
use crate::seed::{Seed, Stream};

/// What is done to a training picture each time it is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Augment {
    /// Nothing.
    #[default]
    None,
    /// Zero padding by 4 pixels on each side, a random crop of the old size, and a flip of left
    /// and right with probability one half.
    CropFlip,
}

const PAD: usize = 4;

impl Augment {
    /// Appends the picture `image` (`[channels, height, width]` bytes) to `out`, scaled to
    /// `[0, 1]`, as sample `index` looks in `epoch` under `seed`.
    pub fn apply(
        self,
        image: &[u8],
        shape: ImageShape,
        seed: Seed,
        epoch: u64,
        index: usize,
        out: &mut Vec<f32>,
    ) {
        match self {
            Self::None => out.extend(image.iter().map(|&b| f32::from(b) / 255.0)),
            Self::CropFlip => {
                let mut rng = seed.rng(Stream::Augment, epoch, index as u64);
                let top = rng.random_range(0..=2 * PAD);
                let left = rng.random_range(0..=2 * PAD);
                let flip: bool = rng.random();
                crop(image, shape, (top, left), flip, out);
            }
        }
    }
}

/// Reads the picture at offset (`top` − 4, `left` − 4), zero outside.
fn crop(image: &[u8], shape: ImageShape, (top, left): (usize, usize), flip: bool, out: &mut Vec<f32>) {
    let ImageShape { channels, height, width } = shape;
    for channel in 0..channels {
        for row in 0..height {
            let source_row = (row + top).checked_sub(PAD).filter(|r| *r < height);
            for column in 0..width {
                let column = if flip { width - 1 - column } else { column };
                let source_column = (column + left).checked_sub(PAD).filter(|c| *c < width);
                let value = match (source_row, source_column) {
                    (Some(r), Some(c)) => image[(channel * height + r) * width + c],
                    _ => 0,
                };
                out.push(f32::from(value) / 255.0);
            }
        }
    }
}

#[cfg(test)]
mod tests;
