//! Work on every parameter of a step of training, in one pass over memory where the device has a kernel for it.
//!
//! On flex, with the crate's feature of that name, several threads and no temporaries; elsewhere the same by
//! Burn's operations. Neither depends on the number of threads.

mod adam;

use burn::Tensor;

pub use adam::{Adam, Moments};

/// Stochastic gradient descent with momentum and weight decay, as PyTorch does it: dampening is zero.
///
/// With p the parameter, g its gradient, μ the momentum, λ the weight decay and η the rate,
/// g ← g + λp, v ← μv + g (v = g at first), p ← p − ηv; Nesterov: p ← p − η(μv + g).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Descent {
    /// μ; no velocity is kept for zero.
    pub momentum: f64,
    /// Looks ahead along the velocity.
    pub nesterov: bool,
    /// λ.
    pub weight_decay: f64,
}

impl Descent {
    /// The parameter and its velocity after a step of `rate`. All tensors lie on one plain device and are of one
    /// shape.
    pub fn step<const D: usize>(
        &self,
        rate: f64,
        value: Tensor<D>,
        gradient: Tensor<D>,
        velocity: Option<Tensor<D>>,
    ) -> (Tensor<D>, Option<Tensor<D>>) {
        #[cfg(feature = "flex")]
        if crate::flex::is_together(&value, &gradient, velocity.as_ref()) {
            let by = crate::flex::Descent {
                rate: rate as f32,
                momentum: self.momentum as f32,
                nesterov: self.nesterov,
                decay: self.weight_decay as f32,
            };
            return crate::flex::descend(by, value, gradient, velocity);
        }
        let gradient = if self.weight_decay == 0.0 {
            gradient
        } else {
            gradient + value.clone().mul_scalar(self.weight_decay)
        };
        if self.momentum == 0.0 {
            return (value - gradient.mul_scalar(rate), None);
        }
        let velocity = match velocity {
            None => gradient.clone(),
            Some(velocity) => velocity.mul_scalar(self.momentum) + gradient.clone(),
        };
        let step = if self.nesterov {
            velocity.clone().mul_scalar(self.momentum) + gradient
        } else {
            velocity.clone()
        };
        (value - step.mul_scalar(rate), Some(velocity))
    }
}

/// Σ x² over all entries, `[1]`; not finite when an entry is not.
pub fn sum_of_squares<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    #[cfg(feature = "flex")]
    if let Some(sum) = crate::flex::sum_of_squares(&x) {
        return sum;
    }
    // Row by row first: the order of additions of a full reduction depends on the number of threads.
    let dims = x.dims();
    let rows = dims.first().copied().unwrap_or(1).max(1);
    let columns = dims.iter().skip(1).product::<usize>();
    if D < 2 || columns == 0 {
        return x.square().sum();
    }
    x.square().reshape([rows, columns]).sum_dim(1).sum()
}

#[cfg(test)]
mod tests;
