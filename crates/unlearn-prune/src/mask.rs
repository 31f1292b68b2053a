//! Which weights a pruned network keeps.

use std::collections::BTreeMap;

use unlearn_curvature::ParamPath;

/// One bit a weight for some parameters of a model: set means kept.
///
/// Parameters without an entry are not pruned. A mask is explicit state: it is never inferred from
/// zeros in the weights.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MaskSet {
    masks: BTreeMap<ParamPath, Mask>,
}

/// The kept and pruned entries of one parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    shape: Vec<usize>,
    keep: Vec<bool>,
}
