//! Marks as a tape.

use super::Probes;
use crate::tape::{AnyTensor, ErasedVar, Inputs, Op, Operands, Tape};

/// Parts of a model that are written on a tape are marked where they have parameters.
impl Tape for Probes {
    fn run(&mut self, op: Op<'_>, inputs: Inputs) -> ErasedVar {
        use AnyTensor::{R2, R3, R4};
        use Operands::One;
        if let Some(apart) = op.apart() {
            return apart.run(inputs, self);
        }
        ErasedVar::untracked(match (op, inputs.into_values()) {
            (Op::Conv2d(layer), One(R4(x))) => R4(self.conv2d(layer, x)),
            (Op::BatchNorm(layer), One(R4(x))) => R4(self.batch_norm(layer, x)),
            (Op::Linear(layer), One(R2(x))) => R2(self.linear(layer, x)),
            (Op::Linear(layer), One(R3(x))) => R3(self.linear(layer, x)),
            (Op::Linear(layer), One(R4(x))) => R4(self.linear(layer, x)),
            (Op::LayerNorm(layer), One(R2(x))) => R2(self.layer_norm(layer, x)),
            (Op::LayerNorm(layer), One(R3(x))) => R3(self.layer_norm(layer, x)),
            (Op::LayerNorm(layer), One(R4(x))) => R4(self.layer_norm(layer, x)),
            (Op::ClassToken(token), One(R3(x))) => R3(self.class_token(token, x)),
            (Op::Position(position), One(R3(x))) => R3(self.position(position, x)),
            (op, inputs) => op.compute(inputs),
        })
    }
}
