//! What a data set holds.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;
use unlearn::data::source::{self, TrainTest};
use unlearn::data::{Dataset, ImageShape, Normalization};

use crate::error::{Exit, Failure};
use crate::output;

/// Reads the set and prints its facts.
pub(super) fn main(dir: &Path, kind: &str, json: bool) -> Result<(), Failure> {
    let data = source::open(kind.parse()?, Some(dir))?;
    let facts = Facts::of(&data);
    if !json {
        return output::print(&facts.to_text());
    }
    let text = serde_json::to_string_pretty(&facts).map_err(|e| {
        Failure::new("E_INTERNAL", Exit::Internal, "info", e.to_string(), "facts as JSON", "report this")
    })?;
    output::print(&text)
}

/// The facts of both halves.
#[derive(Debug, Serialize)]
pub(super) struct Facts<'a> {
    shape: ImageShape,
    normalization: &'a Normalization,
    classes: &'a [String],
    train: Half<'a>,
    test: Half<'a>,
}

#[derive(Debug, Serialize)]
struct Half<'a> {
    name: &'a str,
    samples: usize,
    class_counts: Vec<usize>,
    fingerprint: &'a str,
}

impl<'a> Half<'a> {
    fn of(data: &'a Dataset) -> Self {
        Self {
            name: data.name(),
            samples: data.len(),
            class_counts: data.class_counts(),
            fingerprint: data.fingerprint(),
        }
    }
}

impl<'a> Facts<'a> {
    pub(super) fn of(data: &'a TrainTest) -> Self {
        Self {
            shape: data.train.shape(),
            normalization: data.train.normalization(),
            classes: data.train.class_names(),
            train: Half::of(&data.train),
            test: Half::of(&data.test),
        }
    }

    /// A table of the classes below the facts of both halves.
    pub(super) fn to_text(&self) -> String {
        let ImageShape { channels, height, width } = self.shape;
        let mut text = format!(
            "{} classes; pictures of {width} × {height} pixels, {channels} channels\n\
             mean {:?}, deviation {:?}\n",
            self.classes.len(),
            self.normalization.mean,
            self.normalization.std
        );
        for half in [&self.train, &self.test] {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}: {} pictures, SHA-256 {}", half.name, half.samples, half.fingerprint);
        }
        let widest = self.classes.iter().map(|c| c.chars().count()).max().unwrap_or(0).max(5);
        let _ = writeln!(text, "\nlabel  {:widest$}  train  test", "class");
        let counts = self.train.class_counts.iter().zip(&self.test.class_counts);
        for (label, (class, (train, test))) in self.classes.iter().zip(counts).enumerate() {
            let class = class.escape_debug().to_string();
            let _ = writeln!(text, "{label:>5}  {class:widest$}  {train:>5}  {test:>4}");
        }
        text
    }
}
