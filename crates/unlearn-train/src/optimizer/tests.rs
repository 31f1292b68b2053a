//! Against PyTorch's published update rules, carried out in float64 on the host.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;
use unlearn_data::{Seed, Stream};

use super::Stepper;
use crate::OptimizerConfig;

#[derive(Module, Debug)]
struct Pair {
    matrix: Param<Tensor<2>>,
    vector: Param<Tensor<1>>,
}

const LENGTHS: [usize; 2] = [12, 5];

/// Weights of about 1, and gradients between 1e-9 and 1, so that every epsilon shows.
fn values(index: u64, n: usize, smallest: f64) -> Vec<f64> {
    let mut rng = Seed(11).rng(Stream::Init, index, n as u64);
    let mut draw = || {
        let size = smallest.powf(rng.random_range(0.0..1.0));
        if rng.random::<bool>() { size } else { -size }
    };
    // What the device sees is the float32 nearest to it; so does the reference.
    (0..n).map(|_| f64::from(draw() as f32)).collect()
}

fn tensor<const D: usize>(values: &[f64], shape: [usize; D]) -> Tensor<D> {
    let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// One parameter of PyTorch's optimizers, all in float64.
#[derive(Clone, Default)]
struct Reference {
    weight: Vec<f64>,
    buffer: Option<Vec<f64>>,
    moments: Vec<(f64, f64)>,
    time: i32,
}

impl Reference {
    /// `torch.optim.SGD`, dampening 0: the rules under "Algorithm" in its documentation.
    fn sgd(&mut self, g: &[f64], rate: f64, mu: f64, decay: f64, nesterov: bool) {
        let mut g: Vec<f64> = g.iter().zip(&self.weight).map(|(g, w)| g + decay * w).collect();
        if mu != 0.0 {
            let buffer = match self.buffer.take() {
                None => g.clone(),
                Some(b) => b.iter().zip(&g).map(|(b, g)| mu * b + g).collect(),
            };
            g = if nesterov {
                g.iter().zip(&buffer).map(|(g, b)| g + mu * b).collect()
            } else {
                buffer.clone()
            };
            self.buffer = Some(buffer);
        }
        self.weight.iter_mut().zip(&g).for_each(|(w, g)| *w -= rate * g);
    }

    /// `torch.optim.AdamW`, as its documentation and `_single_tensor_adamw` have it.
    fn adam_w(&mut self, g: &[f64], rate: f64, (beta_1, beta_2): (f64, f64), epsilon: f64, decay: f64) {
        self.moments.resize(g.len(), (0.0, 0.0));
        self.time += 1;
        let (correction_1, correction_2) = (1.0 - beta_1.powi(self.time), 1.0 - beta_2.powi(self.time));
        for ((w, (m, v)), g) in self.weight.iter_mut().zip(&mut self.moments).zip(g) {
            *w *= 1.0 - rate * decay;
            *m = beta_1 * *m + (1.0 - beta_1) * g;
            *v = beta_2 * *v + (1.0 - beta_2) * g * g;
            let denominator = v.sqrt() / correction_2.sqrt() + epsilon;
            *w -= rate / correction_1 * *m / denominator;
        }
    }
}

/// Twelve steps of both: the largest difference of a weight, relative to the longest way a weight
/// went.
fn difference(config: &OptimizerConfig, mut reference: impl FnMut(&mut Reference, &[f64], f64)) -> f64 {
    let start: Vec<Vec<f64>> = LENGTHS.iter().map(|n| values(0, *n, 0.1)).collect();
    let mut model = Pair {
        matrix: Param::from_tensor(tensor(&start[0], [4, 3])),
        vector: Param::from_tensor(tensor(&start[1], [5])),
    }
    .train();
    let mut expected: Vec<Reference> =
        start.iter().map(|w| Reference { weight: w.clone(), ..Reference::default() }).collect();
    let mut stepper = Stepper::new(config);
    for step in 1..=12 {
        // A rate that changes, as schedules do.
        let rate = 0.1 / step as f64;
        let g: Vec<Vec<f64>> = LENGTHS.iter().map(|n| values(step, *n, 1e-9)).collect();
        let mut gradients = GradientsParams::new();
        gradients.register(model.matrix.id, tensor(&g[0], [4, 3]));
        gradients.register(model.vector.id, tensor(&g[1], [5]));
        model = stepper.step(rate, model, gradients);
        expected.iter_mut().zip(&g).for_each(|(r, g)| reference(r, g, rate));
    }
    assert!(model.matrix.is_require_grad() && model.vector.is_require_grad());
    let got = [
        model.matrix.val().inner().into_data().try_into_vec_as::<f32>().unwrap(),
        model.vector.val().inner().into_data().try_into_vec_as::<f32>().unwrap(),
    ];
    let (mut worst, mut way) = (0.0_f64, 0.0_f64);
    for ((got, expected), start) in got.iter().zip(&expected).zip(&start) {
        for ((got, expected), start) in got.iter().zip(&expected.weight).zip(start) {
            worst = worst.max((f64::from(*got) - expected).abs());
            way = way.max((start - expected).abs());
        }
    }
    worst / way
}

/// Of float32's 6e-8, twelve roundings of weights near 1 that go a way of about 1.
const ROUNDING: f64 = 2e-6;

#[test]
fn sgd_is_pytorchs() {
    for mu in [0.0, 0.5, 0.9] {
        for decay in [0.0, 5e-4, 0.3] {
            for nesterov in [false, true].into_iter().filter(|n| !n || mu > 0.0) {
                let config = OptimizerConfig::Sgd { momentum: mu, weight_decay: decay, nesterov };
                let off = difference(&config, |r, g, rate| r.sgd(g, rate, mu, decay, nesterov));
                assert!(off < ROUNDING, "{config:?}: {off}");
            }
        }
    }
}

#[test]
fn adam_w_is_pytorchs() {
    for betas in [(0.9, 0.999), (0.8, 0.9), (0.0, 0.5)] {
        for decay in [0.0, 0.01, 0.5] {
            for epsilon in [1e-8, 1e-3] {
                let (beta_1, beta_2) = betas;
                let config = OptimizerConfig::AdamW { beta_1, beta_2, epsilon, weight_decay: decay };
                let off = difference(&config, |r, g, rate| r.adam_w(g, rate, betas, epsilon, decay));
                assert!(off < ROUNDING, "{config:?}: {off}");
            }
        }
    }
}

/// The comparison sees what it is there to see: Burn's defaults and the usual slips.
#[test]
fn other_rules_would_be_noticed() {
    let sgd = OptimizerConfig::Sgd { momentum: 0.9, weight_decay: 5e-4, nesterov: false };
    assert!(difference(&sgd, |r, g, rate| r.sgd(g, rate, 0.9, 5e-4, true)) > 1e-2);
    assert!(difference(&sgd, |r, g, rate| r.sgd(g, rate, 0.9, 4e-4, false)) > 1e-5);
    // Dampening, Burn's default.
    let dampened = difference(&sgd, |r, g, rate| {
        let g: Vec<f64> = g.iter().map(|g| if r.buffer.is_some() { 0.9 * g } else { *g }).collect();
        r.sgd(&g, rate, 0.9, 5e-4, false);
    });
    assert!(dampened > 1e-2, "{dampened}");
    let adam = OptimizerConfig::AdamW { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };
    let with =
        |epsilon, decay| difference(&adam, |r, g, rate| r.adam_w(g, rate, (0.9, 0.999), epsilon, decay));
    assert!(with(1e-5, 0.01) > 1e-4, "Burn's epsilon");
    assert!(with(1e-8, 1e-4) > 1e-3, "Burn's decay");
}
