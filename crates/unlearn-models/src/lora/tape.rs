//! The tape that adds the branches.

use std::collections::{BTreeMap, BTreeSet};

use unlearn_curvature::tape::{AnyTensor, ErasedVar, Inputs, Op, Tape};

use super::adapter::{ConvAdapter, LinearAdapter};

/// Runs everything on another tape, and after each layer that has an adapter its branch.
pub(super) struct Adapting<'t> {
    pub(super) inner: &'t mut dyn Tape,
    pub(super) convs: BTreeMap<u64, &'t ConvAdapter>,
    pub(super) linears: BTreeMap<u64, &'t LinearAdapter>,
    /// The weights of layers whose branch has run.
    pub(super) reached: BTreeSet<u64>,
}

impl Tape for Adapting<'_> {
    fn run(&mut self, op: Op<'_>, inputs: Inputs) -> ErasedVar {
        let has_ours = match op {
            Op::BranchedConv2d { layer, .. } => self.convs.contains_key(&layer.weight.id.val()),
            Op::BranchedLinear { layer, .. } => self.linears.contains_key(&layer.weight.id.val()),
            _ => false,
        };
        // Of a base that has adapters already: ours stand beside the same layer.
        if let (Some(apart), true) = (op.apart(), has_ours) {
            return apart.run(inputs, self);
        }
        match (op, inputs) {
            // A has as many inputs as a weight without groups.
            (Op::Conv2d(layer), Inputs::One(x)) if layer.groups == 1 => {
                match self.convs.get(&layer.weight.id.val()) {
                    None => self.inner.run(op, Inputs::One(x)),
                    Some(adapter) => {
                        self.reached.insert(layer.weight.id.val());
                        adapter.run(layer, x, self.inner)
                    }
                }
            }
            (Op::Linear(layer), Inputs::One(x)) => match self.linears.get(&layer.weight.id.val()) {
                None => self.inner.run(op, Inputs::One(x)),
                Some(adapter) => {
                    self.reached.insert(layer.weight.id.val());
                    adapter.run(layer, x, self.inner)
                }
            },
            (op, inputs) => self.inner.run(op, inputs),
        }
    }

    fn input(&mut self, value: AnyTensor) -> ErasedVar {
        self.inner.input(value)
    }
}
