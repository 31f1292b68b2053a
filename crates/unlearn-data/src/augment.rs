//! Crops and flips as a pure function of (seed, epoch, sample).

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use crate::dataset::ImageShape;
use crate::resize::{Region, resize};
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
    /// A random part of 8 % to 100 % of the picture, of a ratio of width to height between 3/4 and 4/3, in the full
    /// size, and a flip with probability one half: torchvision's `RandomResizedCrop` with its defaults, and
    /// `RandomHorizontalFlip`.
    RandomResizedCrop,
}

const PAD: usize = 4;

impl Augment {
    /// Appends the picture `image` (`[channels, height, width]` bytes) to `out`, scaled to `[0, 1]` and to `size`
    /// (`[height, width]`; the picture's own changes nothing), as sample `index` looks in `epoch` under `seed`.
    pub fn apply(
        self,
        image: &[u8],
        (shape, size): (ImageShape, [usize; 2]),
        seed: Seed,
        epoch: u64,
        index: usize,
        out: &mut Vec<f32>,
    ) {
        let rng = || seed.rng(Stream::Augment, epoch, index as u64);
        let whole = Region::of(shape);
        let mut sized = |pixels: &[f32], region: Region, flip: bool| {
            resize(pixels, shape, region, size, flip, out);
        };
        match self {
            Self::None if size == [shape.height, shape.width] => out.extend(scaled(image)),
            Self::None => sized(&scaled(image).collect::<Vec<_>>(), whole, false),
            Self::CropFlip => {
                let mut rng = rng();
                let top = rng.random_range(0..=2 * PAD);
                let left = rng.random_range(0..=2 * PAD);
                let flip: bool = rng.random();
                if size == [shape.height, shape.width] {
                    crop(image, shape, (top, left), flip, out);
                } else {
                    let mut cut = Vec::with_capacity(shape.len());
                    crop(image, shape, (top, left), flip, &mut cut);
                    sized(&cut, whole, false);
                }
            }
            Self::RandomResizedCrop => {
                let mut rng = rng();
                let region = random_region(shape, &mut rng);
                let flip: bool = rng.random();
                sized(&scaled(image).collect::<Vec<_>>(), region, flip);
            }
        }
    }
}

fn scaled(image: &[u8]) -> impl Iterator<Item = f32> {
    image.iter().map(|&b| f32::from(b) / 255.0)
}

/// A part of the picture as `RandomResizedCrop.get_params` of torchvision 0.29 draws it: ten tries at a share of the
/// area and a ratio (uniform in its logarithm), then the largest part in the middle whose ratio is allowed.
fn random_region(shape: ImageShape, rng: &mut impl Rng) -> Region {
    const TRIES: usize = 10;
    const SHARE: (f64, f64) = (0.08, 1.0);
    const RATIO: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);
    let (height, width) = (shape.height, shape.width);
    for _ in 0..TRIES {
        let area = (height * width) as f64 * rng.random_range(SHARE.0..=SHARE.1);
        let ratio = rng.random_range(RATIO.0.ln()..=RATIO.1.ln()).exp();
        let [w, h] = [area * ratio, area / ratio].map(|square| square.sqrt().round_ties_even() as usize);
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            let top = rng.random_range(0..=height - h);
            let left = rng.random_range(0..=width - w);
            return Region { top, left, height: h, width: w };
        }
    }
    let ratio = width as f64 / height as f64;
    let [mut w, mut h] = [width, height];
    if ratio < RATIO.0 {
        h = (width as f64 / RATIO.0).round_ties_even() as usize;
    } else if ratio > RATIO.1 {
        w = (height as f64 * RATIO.1).round_ties_even() as usize;
    }
    Region { top: (height - h) / 2, left: (width - w) / 2, height: h, width: w }
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
