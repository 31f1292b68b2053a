//! Variance of the noise of Fisher forgetting.
//!
//! o outputs (or classes), i inputs; all arithmetic is float64 on the host, row-major in Burn's layout
//! (a `Linear` weight is `[i, o]`, a `Conv2d` weight `[o, i, height, width]`).

use std::collections::BTreeMap;

use unlearn_curvature::{ParamInfo, ParamPath, ParamTree};
use unlearn_prune::MaskSet;

use crate::UnlearnError;

/// How a Fisher diagonal becomes the variance of the noise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VarianceRule {
    /// α, the factor before everything.
    pub alpha: f64,
    /// Added to F before it is inverted.
    pub epsilon: f64,
    /// Largest 1/(F + ε).
    pub clamp: f64,
    /// Largest 1/(F + ε) of the head.
    pub head_clamp: f64,
    /// Factor of the head, after the clamp.
    pub head_factor: f64,
    /// Factor of vectors (norms, biases) outside the head.
    pub vector_factor: f64,
    /// Whether the variance is averaged over the inputs of each output.
    pub share_inputs: bool,
}

impl VarianceRule {
    /// The constants of the published `fisher_new`.
    pub fn published(alpha: f64) -> Self {
        Self {
            alpha,
            epsilon: 1e-8,
            clamp: 1e3,
            head_clamp: 1e2,
            head_factor: 10.0,
            vector_factor: 10.0,
            share_inputs: true,
        }
    }

    /// σ² by parameter path, flat in Burn's layout, from the mean diagonal `fisher`:
    /// α · factor · mean_i min(1/(F + ε), clamp). Entries that `mask` prunes have no part in the mean
    /// and variance 0. `is_head` says which parameters are the classifier's.
    ///
    /// # Errors
    /// When the device cannot give `fisher`.
    pub fn variances(
        &self,
        fisher: &ParamTree,
        parameters: &[ParamInfo],
        is_head: impl Fn(&ParamInfo) -> bool,
        mask: Option<&MaskSet>,
    ) -> Result<BTreeMap<ParamPath, Vec<f64>>, UnlearnError> {
        let mut variances = BTreeMap::new();
        for parameter in parameters {
            let Some(leaf) = fisher.get(&parameter.path) else { continue };
            let head = is_head(parameter);
            let clamp = if head { self.clamp.min(self.head_clamp) } else { self.clamp };
            let keep = mask.and_then(|m| m.get(&parameter.path)).map(unlearn_prune::Mask::keep);
            let mut variance: Vec<f64> = leaf
                .to_vec()?
                .into_iter()
                .map(|f| self.alpha * (1.0 / (f64::from(f) + self.epsilon)).min(clamp))
                .collect();
            if self.share_inputs && parameter.shape.len() > 1 {
                share_inputs(&mut variance, parameter, keep);
            }
            let factor = match (head, parameter.shape.len()) {
                (true, _) => self.head_factor,
                (false, 1) => self.vector_factor,
                _ => 1.0,
            };
            for (index, variance) in variance.iter_mut().enumerate() {
                *variance *= if keep.is_none_or(|keep| keep[index]) { factor } else { 0.0 };
            }
            variances.insert(parameter.path.clone(), variance);
        }
        Ok(variances)
    }
}

/// Weight and bias of the classifier's head: the last `Linear`, in the order of the module's fields, that
/// gives one output a class.
pub fn head(parameters: &[ParamInfo], classes: usize) -> Vec<ParamPath> {
    let Some(weight) = parameters.iter().rfind(|p| is_transposed(p) && outputs(p) == classes) else {
        return Vec::new();
    };
    let layer = weight.path.as_str().rsplit_once('.').map_or("", |(layer, _)| layer);
    let inside = |p: &&ParamInfo| p.path.as_str().rsplit_once('.').map_or("", |(layer, _)| layer) == layer;
    parameters.iter().filter(inside).map(|p| p.path.clone()).collect()
}

/// Length of the axis of outputs: what PyTorch calls dimension 0.
pub fn outputs(parameter: &ParamInfo) -> usize {
    let axis = if is_transposed(parameter) { parameter.shape.last() } else { parameter.shape.first() };
    axis.copied().unwrap_or(1)
}

/// Length of what PyTorch calls the last dimension.
pub fn last_dimension(parameter: &ParamInfo) -> usize {
    let axis = if is_transposed(parameter) { parameter.shape.first() } else { parameter.shape.last() };
    axis.copied().unwrap_or(1)
}

/// Which output the entry at flat `index` belongs to.
pub fn output_of(parameter: &ParamInfo, index: usize) -> usize {
    if is_transposed(parameter) {
        index % outputs(parameter)
    } else {
        index / (parameter.shape.iter().skip(1).product::<usize>()).max(1)
    }
}

/// Burn keeps the weight of a `Linear` as `[i, o]`, PyTorch as `[o, i]`.
fn is_transposed(parameter: &ParamInfo) -> bool {
    parameter.layer == "Linear" && parameter.shape.len() == 2
}

/// Replaces each entry by the mean over the input axis, of what `keep` keeps.
fn share_inputs(variance: &mut [f64], parameter: &ParamInfo, keep: Option<&[bool]>) {
    let shape = &parameter.shape;
    // Axis of the inputs, then strides: an entry is (before, input, after).
    let axis = usize::from(!is_transposed(parameter));
    let inputs = shape[axis];
    let before: usize = shape[..axis].iter().product();
    let after: usize = shape[axis + 1..].iter().product();
    for b in 0..before {
        for a in 0..after {
            let at = |i: usize| (b * inputs + i) * after + a;
            let kept = || (0..inputs).map(at).filter(|&index| keep.is_none_or(|keep| keep[index]));
            let count = kept().count();
            if count == 0 {
                continue;
            }
            let mean = kept().map(|index| variance[index]).sum::<f64>() / count as f64;
            (0..inputs).map(at).for_each(|index| variance[index] = mean);
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::module::ParamId;
    use burn::tensor::Device;

    use super::*;

    fn info(path: &str, layer: &str, shape: &[usize]) -> ParamInfo {
        ParamInfo {
            path: path.into(),
            id: ParamId::new(),
            shape: shape.to_vec(),
            layer: layer.into(),
            trainable: true,
        }
    }

    fn tree(entries: &[(&ParamInfo, Vec<f32>)]) -> ParamTree {
        let mut tree = ParamTree::new();
        for (info, values) in entries {
            tree.insert_host(info.path.clone(), info.shape.clone(), values.clone(), &Device::flex()).unwrap();
        }
        tree
    }

    #[test]
    fn clamps_means_and_factors_follow_the_rule() {
        let conv = info("conv.weight", "Conv2d", &[2, 2, 1, 2]);
        let fc = info("fc.weight", "Linear", &[2, 3]);
        let norm = info("norm.gamma", "BatchNorm", &[2]);
        let fisher = tree(&[
            (&conv, vec![1.0, 2.0, 3.0, 4.0, 1e-9, 0.5, 1.0, 0.25]),
            (&fc, vec![1.0, 0.0, 2.0, 1.0, 1.0, 4.0]),
            (&norm, vec![2.0, 0.0]),
        ]);
        let rule = VarianceRule { epsilon: 1e-12, ..VarianceRule::published(0.5) };
        let all = [conv.clone(), fc.clone(), norm.clone()];
        let got = rule.variances(&fisher, &all, |p| p.path.as_str().starts_with("fc"), None).unwrap();
        let close = |path: &str, expected: &[f64]| {
            for (got, expected) in got[&ParamPath::from(path)].iter().zip(expected) {
                assert!((got - expected).abs() < 1e-6 * expected.abs().max(1e-9), "{path}: {got} {expected}");
            }
        };
        // Means over the second axis: (1 + 1/3)/2, (1/2 + 1/4)/2; (1000 + 1)/2, (2 + 4)/2.
        let (a, b, c, d) = (0.5 * 2.0 / 3.0, 0.5 * 0.375, 0.5 * 500.5, 0.5 * 3.0);
        close("conv.weight", &[a, b, a, b, c, d, c, d]);
        // A column a class: (1 + 1)/2, (100 + 1)/2, (1/2 + 1/4)/2, times ten.
        close("fc.weight", &[5.0, 252.5, 1.875, 5.0, 252.5, 1.875]);
        close("norm.gamma", &[2.5, 5000.0]);
    }

    #[test]
    fn pruned_entries_have_no_part_and_no_noise() {
        let conv = info("conv.weight", "Conv2d", &[1, 3, 1, 1]);
        let fisher = tree(&[(&conv, vec![1.0, 0.0, 0.5])]);
        let mut mask = MaskSet::new();
        mask.insert("conv.weight", vec![1, 3, 1, 1], vec![true, false, true]).unwrap();
        let rule = VarianceRule { epsilon: 1e-12, ..VarianceRule::published(1.0) };
        let got = rule.variances(&fisher, std::slice::from_ref(&conv), |_| false, Some(&mask)).unwrap();
        let got = &got[&conv.path];
        assert!((got[0] - 1.5).abs() < 1e-6 && (got[2] - 1.5).abs() < 1e-6 && got[1] == 0.0, "{got:?}");
    }

    #[test]
    fn outputs_follow_the_layout() {
        let fc = info("fc.weight", "Linear", &[2, 3]);
        assert_eq!((outputs(&fc), last_dimension(&fc)), (3, 2));
        assert_eq!((0..6).map(|i| output_of(&fc, i)).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2]);
        let conv = info("conv.weight", "Conv2d", &[2, 1, 1, 2]);
        assert_eq!((outputs(&conv), last_dimension(&conv)), (2, 2));
        assert_eq!((0..4).map(|i| output_of(&conv, i)).collect::<Vec<_>>(), [0, 0, 1, 1]);
        let bias = info("fc.bias", "Linear", &[3]);
        assert_eq!((outputs(&bias), output_of(&bias, 2)), (3, 2));
    }
}
