//! What is kept of a transformer's own operations.

use burn::Tensor;
use burn::module::Param;

use super::{Record, Step};
use crate::layer::attention::Attention;
use crate::tape::{AnyTensor, ErasedVar, Inputs, Op};

impl Record {
    pub(super) fn class_token(
        &mut self,
        token: &Param<Tensor<3>>,
        x: ErasedVar,
        from: [Option<usize>; 3],
        needed: bool,
    ) -> ErasedVar {
        let id = self.wants(token.id);
        let value = Op::ClassToken(token).compute(Inputs::One(x).into_values());
        if !needed && id.is_none() {
            return ErasedVar::untracked(value);
        }
        self.follow(Step::ClassToken { count: token.lazy_shape()[1], id }, from, value)
    }

    pub(super) fn position(
        &mut self,
        position: &Param<Tensor<3>>,
        x: ErasedVar,
        from: [Option<usize>; 3],
        needed: bool,
    ) -> ErasedVar {
        let id = self.wants(position.id);
        let (shape, dims) = (position.lazy_shape(), x.value.dims());
        let value = Op::Position(position).compute(Inputs::One(x).into_values());
        // Burn spreads one of the two over the other, whose gradient is a sum then.
        let spread = id.is_some() && shape[..] != [1, dims[1], dims[2]];
        if spread || (needed && value.dims() != dims) {
            self.refuse(
                format!("positions of shape {:?} on tokens of shape {dims:?}", &shape[..]),
                "give positions the shape [1, tokens, features] of what they are added to",
            );
        }
        if !needed && id.is_none() {
            return ErasedVar::untracked(value);
        }
        self.follow(Step::Position { id }, from, value)
    }

    pub(super) fn attention(
        &mut self,
        heads: usize,
        inputs: [ErasedVar; 3],
        from: [Option<usize>; 3],
    ) -> ErasedVar {
        let [q, k, v] = inputs.map(|input| input.value);
        for (from, value) in from.iter().zip([&q, &k, &v]) {
            self.book(*from, value);
        }
        let (AnyTensor::R3(q), AnyTensor::R3(k), AnyTensor::R3(v)) = (q, k, v) else {
            unreachable!("the tape's attention takes tokens");
        };
        let value = AnyTensor::R3(crate::layer::attention::forward(heads, q.clone(), k.clone(), v.clone()));
        let weights = heads * q.dims()[1] * k.dims()[1];
        let var = self.follow(Step::Attention(Attention { heads, inputs: [q, k, v] }), from, value);
        // The cotangents of the weights are what a column needs on the way back.
        if let Some(node) = self.nodes.last_mut() {
            node.size = node.size.max(weights);
        }
        var
    }
}
