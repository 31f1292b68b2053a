//! Adam with decoupled weight decay.

use burn::Tensor;

/// Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2), as PyTorch's `AdamW` does it.
///
/// With p the parameter, g its gradient, t the step from 1, λ the weight decay and η the rate,
/// m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g² (both zero at first),
/// p ← (1 − ηλ)p − η/(1 − β₁ᵗ) · m / (√(v / (1 − β₂ᵗ)) + ε).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    /// β₁.
    pub beta_1: f64,
    /// β₂.
    pub beta_2: f64,
    /// ε.
    pub epsilon: f64,
    /// λ.
    pub weight_decay: f64,
}

/// m and v of a parameter.
#[derive(Debug, Clone)]
pub struct Moments<const D: usize> {
    /// m.
    pub first: Tensor<D>,
    /// v.
    pub second: Tensor<D>,
}

impl Adam {
    /// The parameter and its moments after step number `time` (from 1; 0 is taken as 1) of `rate`. All tensors lie on one
    /// plain device and are of one shape; without moments they are zero.
    pub fn step<const D: usize>(
        &self,
        rate: f64,
        time: u64,
        value: Tensor<D>,
        gradient: Tensor<D>,
        moments: Option<Moments<D>>,
    ) -> (Tensor<D>, Moments<D>) {
        // In float64: 1 − 0.999 has lost five of float32's seven digits.
        let time = i32::try_from(time.max(1)).unwrap_or(i32::MAX);
        let [correction_1, correction_2] = [self.beta_1, self.beta_2].map(|beta| 1.0 - beta.powi(time));
        let (length, shrink) = (rate / correction_1, 1.0 - rate * self.weight_decay);
        #[cfg(feature = "flex")]
        if crate::flex::is_together(&value, &gradient, moments.as_ref().map(|m| &m.first))
            && moments.as_ref().is_none_or(|m| crate::flex::is_together(&value, &m.second, None))
        {
            let by = crate::flex::Adaptive {
                keep: [self.beta_1 as f32, self.beta_2 as f32],
                take: [(1.0 - self.beta_1) as f32, (1.0 - self.beta_2) as f32],
                spread: correction_2.sqrt().recip() as f32,
                epsilon: self.epsilon as f32,
                length: length as f32,
                shrink: shrink as f32,
            };
            let moments = moments.map(|m| [m.first, m.second]);
            let (value, [first, second]) = crate::flex::adapt(by, value, gradient, moments);
            return (value, Moments { first, second });
        }
        let taken =
            [gradient.clone().mul_scalar(1.0 - self.beta_1), gradient.square().mul_scalar(1.0 - self.beta_2)];
        let [first, second] = match moments {
            None => taken,
            Some(Moments { first, second }) => {
                let [taken_first, taken_second] = taken;
                [first.mul_scalar(self.beta_1) + taken_first, second.mul_scalar(self.beta_2) + taken_second]
            }
        };
        let spread = second.clone().sqrt().mul_scalar(correction_2.sqrt().recip()).add_scalar(self.epsilon);
        let value = value.mul_scalar(shrink) - first.clone().div(spread).mul_scalar(length);
        (value, Moments { first, second })
    }
}
