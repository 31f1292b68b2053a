//! The usual objective: cross-entropy, with label smoothing.
//!
//! Indices: n samples, k classes.

use burn::prelude::Int;
use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;
use unlearn_data::Batch;
use unlearn_models::Classifier;

use crate::validate::require;
use crate::{Loss, Moment, Objective, TrainError};

/// Mean cross-entropy of the batch.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CrossEntropy {
    /// ε of label smoothing (Szegedy et al. 2016, §7), at least 0 and below 1; 0 for none.
    pub label_smoothing: f64,
}

impl<M: Classifier> Objective<M> for CrossEntropy {
    fn loss(&self, model: &M, batch: &Batch, _at: Moment) -> Loss {
        let logits = model.forward(batch.images.clone());
        let value = cross_entropy(logits.clone(), batch.targets.clone(), self.label_smoothing).mean();
        Loss { value, logits }
    }

    fn validate(&self) -> Result<(), TrainError> {
        require(
            (0.0..1.0).contains(&self.label_smoothing),
            "label_smoothing",
            self.label_smoothing,
            "at least 0 and below 1",
            "0.1 is usual, 0 is none",
        )
    }

    fn describe(&self) -> String {
        format!("cross-entropy(label_smoothing={})", self.label_smoothing)
    }
}

/// The cross-entropy of each sample, `[n]`, for `logits`, `[n, k]`, and `targets`, `[n]`, each below
/// `k` (a GPU does not check it):
///
/// `l_n = −(1 − ε) log p_n(y_n) − (ε / K) Σ_k log p_n(k)`, as PyTorch's `cross_entropy` has it.
///
/// The logarithm is taken of the softmax with the largest logit subtracted first, so that logits of
/// any finite size give a finite loss.
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>, label_smoothing: f64) -> Tensor<1> {
    let log_p = log_softmax(logits, 1); // [n, k]
    let of_target = log_p.clone().gather(1, targets.unsqueeze_dim(1)).squeeze_dim::<1>(1); // [n]
    if label_smoothing == 0.0 {
        return of_target.neg();
    }
    let of_all = log_p.mean_dim(1).squeeze_dim::<1>(1); // [n], (1/K) Σ_k log p
    of_target.mul_scalar(label_smoothing - 1.0) - of_all.mul_scalar(label_smoothing)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
    use proptest::prelude::*;

    use super::*;

    /// The same in float64, by the definition.
    fn by_definition(logits: &[f64], target: usize, epsilon: f64) -> f64 {
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|z| (z - largest).exp()).sum();
        let log_p = |k: usize| logits[k] - largest - sum.ln();
        let all: f64 = (0..logits.len()).map(log_p).sum();
        -(1.0 - epsilon) * log_p(target) - epsilon / logits.len() as f64 * all
    }

    fn on_device(logits: &[Vec<f64>], targets: &[usize], epsilon: f64) -> Vec<f32> {
        let (n, k) = (logits.len(), logits[0].len());
        let device = Device::flex();
        let values: Vec<f32> = logits.iter().flatten().map(|v| *v as f32).collect();
        let labels: Vec<i32> = targets.iter().map(|t| *t as i32).collect();
        let logits = Tensor::from_data(TensorData::new(values, [n, k]), &device);
        let targets = Tensor::from_data(TensorData::new(labels, [n]), &device);
        cross_entropy(logits, targets, epsilon).into_data().try_into_vec_as().unwrap()
    }

    proptest! {
        #[test]
        fn it_is_its_definition(
            rows in proptest::collection::vec((proptest::collection::vec(-30.0_f32..30.0, 7), 0_usize..7), 1..9),
            epsilon in prop_oneof![Just(0.0_f64), 0.0..0.99_f64],
        ) {
            let logits: Vec<Vec<f64>> =
                rows.iter().map(|(z, _)| z.iter().map(|v| f64::from(*v)).collect()).collect();
            let targets: Vec<usize> = rows.iter().map(|(_, y)| *y).collect();
            let got = on_device(&logits, &targets, epsilon);
            for ((got, logits), target) in got.iter().zip(&logits).zip(targets) {
                let expected = by_definition(logits, target, epsilon);
                prop_assert!((f64::from(*got) - expected).abs() < 1e-5 * expected.abs().max(1.0), "{got} {expected}");
            }
        }
    }

    /// PyTorch 2.15: `F.cross_entropy(torch.tensor([[1., 2., 3.]]), torch.tensor([0]),
    /// label_smoothing=s)` is 2.4076 for s = 0; by hand, 2.4076 − 0.1 for s = 0.1, since the mean
    /// logit is one above the target's.
    #[test]
    fn a_value_known_from_elsewhere() {
        let logits = [vec![1.0, 2.0, 3.0]];
        assert!((on_device(&logits, &[0], 0.0)[0] - 2.407_606).abs() < 1e-6);
        assert!((on_device(&logits, &[0], 0.1)[0] - 2.307_606).abs() < 1e-6);
    }

    #[test]
    fn huge_logits_give_finite_losses() {
        let logits = [vec![1e30, -1e30, 0.0], vec![-1e4, -1e4, -1e4], vec![3e38, 3e38, 0.0]];
        for epsilon in [0.0, 0.2] {
            let got = on_device(&logits, &[0, 1, 1], epsilon);
            assert!(got.iter().all(|l| l.is_finite()), "{got:?}");
            assert!((got[1] - 3.0_f32.ln()).abs() < 1e-3, "{got:?}");
        }
    }

    #[test]
    fn the_gradient_is_softmax_minus_the_smoothed_target() {
        let epsilon = 0.3;
        let device = Device::flex().autodiff();
        let z = Tensor::<2>::from_floats([[0.5, -1.0, 2.0], [60.0, 0.0, -60.0]], &device).require_grad();
        let y = Tensor::<1, Int>::from_ints([2, 1], &device);
        let gradients = cross_entropy(z.clone(), y, epsilon).sum().backward();
        let got: Vec<f32> = z.grad(&gradients).unwrap().into_data().try_into_vec_as().unwrap();
        for (row, (logits, target)) in [([0.5_f64, -1.0, 2.0], 2), ([60.0, 0.0, -60.0], 1)].iter().enumerate()
        {
            let largest = logits.iter().copied().fold(f64::MIN, f64::max);
            let sum: f64 = logits.iter().map(|z| (z - largest).exp()).sum();
            for (k, logit) in logits.iter().enumerate() {
                let hard = if k == *target { 1.0 - epsilon } else { 0.0 };
                let expected = (logit - largest).exp() / sum - hard - epsilon / 3.0;
                assert!((f64::from(got[3 * row + k]) - expected).abs() < 1e-6, "{got:?}");
            }
        }
    }
}
