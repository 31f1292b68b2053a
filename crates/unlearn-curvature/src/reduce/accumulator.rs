//! Long sums on the device.

use std::collections::BTreeMap;

use burn::Tensor;

use crate::{CurvatureError, ParamPath, ParamTree};

/// A sum of many tensors with the rounding errors of its additions carried along (Kahan 1965).
#[derive(Debug, Clone)]
struct Compensated {
    sum: Tensor<1>,
    /// What the sum is too large by.
    excess: Tensor<1>,
}

impl Compensated {
    fn add(&mut self, value: Tensor<1>) {
        let value = value - self.excess.clone();
        let sum = self.sum.clone() + value.clone();
        self.excess = (sum.clone() - self.sum.clone()) - value;
        self.sum = sum;
    }
}

/// A [`ParamTree`] in the making.
#[derive(Debug, Clone, Default)]
pub(super) struct Accumulator {
    leaves: BTreeMap<ParamPath, (Vec<usize>, Compensated)>,
}

impl Accumulator {
    /// Adds flat values, in Burn's layout, at `path`.
    pub(super) fn add(&mut self, path: &ParamPath, shape: &[usize], values: Tensor<1>) {
        if let Some((_, sum)) = self.leaves.get_mut(path) {
            sum.add(values);
        } else {
            let sum = Compensated { excess: values.zeros_like(), sum: values };
            self.leaves.insert(path.clone(), (shape.to_vec(), sum));
        }
    }

    pub(super) fn finish(self) -> Result<ParamTree, CurvatureError> {
        let mut tree = ParamTree::new();
        for (path, (shape, sum)) in self.leaves {
            tree.insert(path, shape, sum.sum)?;
        }
        Ok(tree)
    }
}
