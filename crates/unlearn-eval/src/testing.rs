//! What the tests of this crate share.

use rand::RngExt;
use unlearn_data::{Seed, Stream};

use crate::evaluation::Tables;
use crate::predict::Predictions;

/// A table of logits from rows.
pub(crate) fn table(rows: &[(&[f32], usize)]) -> Predictions {
    let classes = rows.first().map_or(3, |(logits, _)| logits.len());
    Predictions::new(
        rows.iter().flat_map(|(logits, _)| logits.iter().copied()).collect(),
        rows.iter().map(|(_, label)| *label).collect(),
        classes,
    )
    .unwrap()
}

/// `n` random answers over `classes` classes: logits uniform in [0, 1], that of the true class
/// raised by `margin`. Labels go round.
pub(crate) fn draw(n: usize, classes: usize, margin: f32, seed: u64) -> Predictions {
    let mut rng = Seed(seed).rng(Stream::Synthetic, 0, 0);
    let labels: Vec<usize> = (0..n).map(|i| i % classes).collect();
    let logits = labels
        .iter()
        .flat_map(|y| {
            (0..classes).map(|c| rng.random::<f32>() + if c == *y { margin } else { 0.0 }).collect::<Vec<_>>()
        })
        .collect();
    Predictions::new(logits, labels, classes).unwrap()
}

/// Tables of a model that answers all sets alike but for the margins given.
pub(crate) fn tables(forget: f32, retain: f32, test: f32) -> Tables {
    Tables {
        forget: draw(60, 3, forget, 1),
        retain: draw(240, 3, retain, 2),
        validation: draw(30, 3, test, 3),
        test: draw(120, 3, test, 4),
        forgotten_class: None,
        class_names: ["a", "b", "c"].map(str::to_owned).to_vec(),
    }
}
