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

/// ln softmax(z) of one row of logits, `[k]`, in float64: z − z_m − ln(1 + Σ_{c≠m} exp(z_c − z_m))
/// with m the largest. Nothing overflows, and a confidence that rounds to 1 keeps the digits of its
/// logarithm.
pub fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let m = argmax(logits);
    let shifted: Vec<f64> = logits.iter().map(|&z| f64::from(z) - f64::from(logits[m])).collect();
    let rest: f64 = shifted.iter().enumerate().filter(|(c, _)| *c != m).map(|(_, z)| z.exp()).sum();
    let log_sum = rest.ln_1p();
    shifted.into_iter().map(|z| z - log_sum).collect()
}

#[cfg(test)]
mod tests {
    use burn::module::{Module, Param};
    use burn::nn::{BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Linear, LinearConfig};
    use burn::tensor::{Device, Tensor, TensorData};
    use unlearn_data::{ImageShape, Normalization};

    use super::*;
    use crate::testing::table;

    /// Batch norm and dropout before a linear layer: wrong answers show when a model is not in
    /// evaluation mode.
    #[derive(Module, Debug)]
    struct Toy {
        norm: BatchNorm,
        dropout: Dropout,
        linear: Linear,
        #[module(skip)]
        said: usize,
    }

    impl Classifier for Toy {
        fn forward(&self, images: Tensor<4>) -> Tensor<2> {
            let hidden = self.dropout.forward(self.norm.forward(images));
            self.linear.forward(hidden.flatten(1, 3))
        }

        fn num_classes(&self) -> usize {
            self.said
        }
    }

    /// z = (x₀, x₁, x₀ + 2 x₁) of two pixels; with its tiny ε the norm is the identity.
    fn toy(device: &Device, weights: [f32; 6], said: usize) -> Toy {
        let mut linear = LinearConfig::new(2, 3).with_bias(false).init(device);
        linear.weight = Param::from_data(TensorData::new(weights.to_vec(), [2, 3]), device);
        Toy {
            norm: BatchNormConfig::new(1).with_epsilon(1e-12).init(device),
            dropout: DropoutConfig::new(0.5).init(),
            linear,
            said,
        }
    }

    const WEIGHTS: [f32; 6] = [1.0, 0.0, 1.0, 0.0, 1.0, 2.0];

    fn data() -> Dataset {
        Dataset::new(
            "toy",
            ImageShape { channels: 1, height: 1, width: 2 },
            vec![255, 0, 0, 255, 51, 51, 102, 0, 0, 0],
            vec![0, 1, 2, 1, 2],
            vec!["a".into(), "b".into(), "c".into()],
            Normalization::half(1),
        )
        .unwrap()
    }

    #[test]
    fn logits_are_those_of_the_evaluation_mode_for_every_batch_size_and_device() {
        let expected: [(&[f32], usize); 4] =
            [(&[0.0, 0.0, 0.0], 2), (&[1.0, 0.0, 1.0], 0), (&[0.2, 0.2, 0.6], 2), (&[0.0, 1.0, 2.0], 1)];
        for device in [Device::flex(), Device::flex().autodiff()] {
            let model = toy(&device, WEIGHTS, 3);
            for batch_size in [1, 2, 3, 64] {
                let got = predict(&model, &data(), &[4, 0, 2, 1], batch_size).unwrap();
                assert_eq!(got.labels(), table(&expected).labels());
                for ((row, _), (want, _)) in got.rows().zip(expected) {
                    assert!(row.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{row:?} {want:?}");
                }
            }
            let mean = model.norm.running_mean.value().try_into_vec_as::<f32>().unwrap();
            assert_eq!(mean, [0.0], "the caller's running statistics have moved");
        }
    }

    #[test]
    fn failures_are_typed() {
        let device = Device::flex();
        let code = |model: &Toy, indices: &[usize], batch: usize| {
            predict(model, &data(), indices, batch).unwrap_err().code()
        };
        let good = toy(&device, WEIGHTS, 3);
        assert_eq!(code(&good, &[], 4), "E_EVAL_EMPTY");
        assert_eq!(code(&good, &[0], 0), "E_CONFIG");
        assert_eq!(code(&good, &[5], 4), "E_INDEX_RANGE");
        assert_eq!(code(&toy(&device, WEIGHTS, 4), &[0], 4), "E_CKPT_CLASSES");

        let broken = toy(&device, [1.0, f32::NAN, 0.0, 0.0, 0.0, 0.0], 3);
        let error = predict(&broken, &data(), &[3, 1], 4).unwrap_err();
        assert!(matches!(error, EvalError::NonFinite { sample: 3, class: 1, .. }), "{error}");
        assert_eq!(error.code(), "E_LOGITS_NONFINITE");

        let wide = Dataset::new(
            "wide",
            ImageShape { channels: 1, height: 1, width: 2 },
            vec![0, 0],
            vec![0],
            vec!["a".into(), "b".into()],
            Normalization::half(1),
        )
        .unwrap();
        let error = predict(&toy(&device, WEIGHTS, 2), &wide, &[0], 1).unwrap_err();
        assert!(
            matches!(&error, EvalError::Shape { got, expected, .. } if got[..] == [1, 3] && expected[..] == [1, 2]),
            "{error}"
        );
    }

    #[test]
    fn tables_are_checked() {
        let code = |logits: Vec<f32>, labels: Vec<usize>, classes| {
            Predictions::new(logits, labels, classes).unwrap_err().code()
        };
        assert_eq!(code(vec![0.0; 5], vec![0, 1], 3), "E_LOGITS_SHAPE");
        assert_eq!(code(Vec::new(), Vec::new(), 0), "E_LOGITS_SHAPE");
        assert_eq!(code(vec![0.0; 6], vec![0, 3], 3), "E_LABEL_RANGE");
        assert_eq!(code(vec![0.0, f32::INFINITY], vec![0], 2), "E_LOGITS_NONFINITE");
        let code = |p: &[f32]| Predictions::from_probabilities(p, vec![0], 2).unwrap_err().code();
        assert_eq!(code(&[0.7, 0.7]), "E_CONFIG");
        assert_eq!(code(&[-0.1, 1.1]), "E_CONFIG");
        assert_eq!(code(&[f32::NAN, 1.0]), "E_CONFIG");
    }

    #[test]
    fn log_softmax_is_exact_where_float32_overflows() {
        let got = log_softmax(&[1000.0, 1000.0]);
        assert!(got.iter().all(|v| (v + std::f64::consts::LN_2).abs() < 1e-12), "{got:?}");
        let got = log_softmax(&[f32::MAX, -f32::MAX]);
        assert!(got[0] == 0.0 && got[1].is_finite(), "{got:?}");
        let back = Predictions::from_probabilities(&[0.25, 0.75, 0.0], vec![1], 3).unwrap();
        let (row, _) = back.rows().next().unwrap();
        let p: Vec<f64> = log_softmax(row).into_iter().map(f64::exp).collect();
        assert!((p[0] - 0.25).abs() < 1e-7 && (p[1] - 0.75).abs() < 1e-7 && p[2] == 0.0, "{p:?}");
    }

    #[test]
    fn of_equal_logits_the_first_wins() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), 1);
        assert_eq!(argmax(&[0.0, 0.0]), 0);
    }
}
