//! From a model to a table of logits, which is all that a metric sees.
//!
//! Index letters: n samples, k classes.

use unlearn_data::{Dataset, Loader};
use unlearn_models::Classifier;

use crate::EvalError;

/// What a model answers to some samples: logits, `[n, k]`, and the true classes, `[n]`, on the
/// host. Every metric here is a function of such tables and of nothing else.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictions {
    logits: Vec<f32>,
    labels: Vec<usize>,
    classes: usize,
}

/// Logits of `model` on the samples `indices` of `dataset`, `batch_size` at a time.
///
/// The model runs as an evaluation snapshot ([`valid`](burn::module::Module::valid)) on a plain device: running
/// batch-norm statistics, no dropout, no augmentation, and the caller's copy is left alone.
///
/// # Errors
/// [`EvalError::Empty`] for no indices, [`EvalError::Classes`] when model and data disagree,
/// [`EvalError::NonFinite`] for a NaN or infinite logit, and the errors of the loader.
pub fn predict<M: Classifier>(
    model: &M,
    dataset: &Dataset,
    indices: &[usize],
    batch_size: usize,
) -> Result<Predictions, EvalError> {
    if indices.is_empty() {
        return Err(EvalError::Empty { what: "the list of samples to predict" });
    }
    let classes = model.num_classes();
    if classes != dataset.num_classes() {
        return Err(EvalError::Classes {
            model: classes,
            dataset: dataset.name().to_owned(),
            data: dataset.num_classes(),
        });
    }
    let loader = Loader::new(dataset, indices, batch_size)?;
    let model = model.valid();
    let device = model.devices().into_iter().next().ok_or(EvalError::NoDevice)?.without_autodiff();

    let mut logits = Vec::with_capacity(indices.len() * classes);
    let mut labels = Vec::with_capacity(indices.len());
    for batch in loader.epoch(0) {
        let batch = batch.to_device(&device);
        let answer = model.forward(batch.images);
        let (got, expected) = (answer.dims(), [batch.labels.len(), classes]);
        if got != expected {
            return Err(EvalError::Shape {
                what: "the model's answer",
                got: got.to_vec(),
                expected: expected.to_vec(),
                mend: "`Classifier::forward` must return logits [n, num_classes]",
            });
        }
        let values =
            answer.try_into_vec_as::<f32>().map_err(|error| EvalError::Read { reason: error.to_string() })?;
        check_finite(&values, classes, |row| batch.indices[row])?;
        logits.extend(values);
        labels.extend(batch.labels);
    }
    Ok(Predictions { logits, labels, classes })
}

fn check_finite(logits: &[f32], classes: usize, name: impl Fn(usize) -> usize) -> Result<(), EvalError> {
    match logits.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(at) => {
            Err(EvalError::NonFinite { sample: name(at / classes), class: at % classes, got: logits[at] })
        }
    }
}

impl Predictions {
    /// A table of `logits`, `[n, classes]` row-major, for samples of the classes `labels`, `[n]`.
    ///
    /// # Errors
    /// [`EvalError::Shape`], [`EvalError::LabelRange`] and [`EvalError::NonFinite`].
    pub fn new(logits: Vec<f32>, labels: Vec<usize>, classes: usize) -> Result<Self, EvalError> {
        if classes == 0 || logits.len() != labels.len() * classes {
            return Err(EvalError::Shape {
                what: "the table of logits",
                got: vec![logits.len()],
                expected: vec![labels.len(), classes],
                mend: "give one row of `classes` logits a label",
            });
        }
        if let Some((sample, &got)) = labels.iter().enumerate().find(|(_, l)| **l >= classes) {
            return Err(EvalError::LabelRange { sample, got, classes });
        }
        check_finite(&logits, classes, |row| row)?;
        Ok(Self { logits, labels, classes })
    }

    /// A table of softmax outputs, `[n, classes]`, as other software keeps them. Each is stored as
    /// its logarithm; a zero as −10⁴, of which the softmax is zero again.
    ///
    /// # Errors
    /// [`EvalError::Config`] for an entry outside `[0, 1]` or a row whose sum is further than 10⁻³
    /// from 1, and the errors of [`new`](Self::new).
    pub fn from_probabilities(
        probabilities: &[f32],
        labels: Vec<usize>,
        classes: usize,
    ) -> Result<Self, EvalError> {
        for row in probabilities.chunks(classes.max(1)) {
            let sum: f64 = row.iter().map(|&p| f64::from(p)).sum();
            if row.iter().any(|p| !(0.0..=1.0).contains(p)) || (sum - 1.0).abs() > 1e-3 {
                return Err(EvalError::Config {
                    field: "probabilities",
                    got: format!("a row of sum {sum}"),
                    expected: "numbers from 0 to 1, of sum 1 in each row",
                    mend: "give softmax outputs, or logits to `Predictions::new`",
                });
            }
        }
        let logits = probabilities.iter().map(|&p| if p > 0.0 { p.ln() } else { -1e4 }).collect();
        Self::new(logits, labels, classes)
    }

    /// Number of samples n.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Number of classes k.
    pub fn num_classes(&self) -> usize {
        self.classes
    }

    /// True classes, `[n]`.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// Rows of logits, each `[k]`, with the true class of each.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = (&[f32], usize)> + '_ {
        self.logits.chunks_exact(self.classes).zip(self.labels.iter().copied())
    }

    /// The rows at the positions `rows`, in that order; positions past the end are left out.
    #[must_use]
    pub fn select(&self, rows: impl IntoIterator<Item = usize>) -> Self {
        let mut logits = Vec::new();
        let mut labels = Vec::new();
        for row in rows {
            if let Some(&label) = self.labels.get(row) {
                logits.extend_from_slice(&self.logits[row * self.classes..(row + 1) * self.classes]);
                labels.push(label);
            }
        }
        Self { logits, labels, classes: self.classes }
    }

    /// The rows whose true class satisfies `keep`, in order.
    #[must_use]
    pub fn filter(&self, keep: impl Fn(usize) -> bool) -> Self {
        self.select((0..self.len()).filter(|&row| keep(self.labels[row])))
    }
}

/// The class of the largest logit; of equal ones the first, as PyTorch's `argmax` has it.
pub fn argmax(logits: &[f32]) -> usize {
    let mut best = 0;
    for (class, value) in logits.iter().enumerate() {
        if *value > logits[best] {
            best = class;
        }
    }
    best
}

/// ln softmax(z) of one row of logits, `[k]`, in float64: z − ln Σ exp z, shifted by the largest
/// entry so that nothing overflows.
pub fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shift = f64::from(largest);
    let log_sum = logits.iter().map(|&z| (f64::from(z) - shift).exp()).sum::<f64>().ln();
    logits.iter().map(|&z| f64::from(z) - shift - log_sum).collect()
}
