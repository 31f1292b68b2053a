//! Pictures in another size: bilinear, with antialiasing where they shrink, as PyTorch's
//! `interpolate(mode="bilinear", antialias=True)` and so torchvision's `Resize` do on tensors.

use crate::dataset::ImageShape;

/// A rectangle of a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) top: usize,
    pub(crate) left: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
}

impl Region {
    /// The whole picture.
    pub(crate) fn of(shape: ImageShape) -> Self {
        Self { top: 0, left: 0, height: shape.height, width: shape.width }
    }
}

/// Which pixels of a line make one pixel of the resized line: the first, and the share of each from there on.
type Taps = (usize, Vec<f64>);

/// The taps of each of `to` pixels of a line of `from`.
///
/// The filter is a triangle around the pixel's centre, as wide as one pixel on either side or, where the line shrinks,
/// as one pixel of the result. At the ends it is cut off and what is left is scaled to one.
fn taps(from: usize, to: usize) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let support = scale.max(1.0);
    (0..to)
        .map(|i| {
            let centre = scale * (i as f64 + 0.5);
            // Casts cut off, as the reference's do; both are at least zero after the first comparison.
            let first = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(from);
            let share = |at: usize| (1.0 - ((at as f64 - centre + 0.5) / support).abs()).max(0.0);
            let shares: Vec<f64> = (first..end).map(share).collect();
            let total: f64 = shares.iter().sum();
            (first, shares.into_iter().map(|s| s / total).collect())
        })
        .collect()
}

/// Appends `region` of `image`, `[channels, height, width]`, to `out` as `[channels, height, width]` of `size`
/// `[height, width]`, left and right exchanged where `flip` says so.
pub(crate) fn resize(
    image: &[f32],
    shape: ImageShape,
    region: Region,
    size: [usize; 2],
    flip: bool,
    out: &mut Vec<f32>,
) {
    let columns = taps(region.width, size[1]);
    let rows = taps(region.height, size[0]);
    let mut narrow = vec![0.0_f64; region.height * size[1]];
    for channel in 0..shape.channels {
        for row in 0..region.height {
            let start = (channel * shape.height + region.top + row) * shape.width + region.left;
            let line = &image[start..start + region.width];
            for (target, (first, shares)) in narrow[row * size[1]..].iter_mut().zip(&columns) {
                *target = shares.iter().zip(&line[*first..]).map(|(s, &v)| s * f64::from(v)).sum();
            }
        }
        for (first, shares) in &rows {
            let value = |column: usize| -> f32 {
                let each = shares.iter().enumerate();
                each.map(|(at, s)| s * narrow[(first + at) * size[1] + column]).sum::<f64>() as f32
            };
            if flip {
                out.extend((0..size[1]).rev().map(value));
            } else {
                out.extend((0..size[1]).map(value));
            }
        }
    }
}

#[cfg(test)]
mod tests;
