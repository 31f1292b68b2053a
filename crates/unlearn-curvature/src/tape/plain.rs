//! The tape that just runs.

use super::{AnyTensor, ErasedVar, Inputs, Op, Tape, Var};
use burn::tensor::Tensor;

/// Computes and keeps nothing: the ordinary forward pass, for training and inference.
#[derive(Debug, Default, Clone, Copy)]
pub struct Plain;

impl Plain {
    /// Runs `forward` on this tape: `images` in, logits out.
    pub fn forward(images: Tensor<4>, forward: impl FnOnce(Var<4>, &mut dyn Tape) -> Var<2>) -> Tensor<2> {
        let mut plain = Self;
        let tape: &mut dyn Tape = &mut plain;
        let images = tape.constant(images);
        forward(images, tape).into_value()
    }
}

impl Tape for Plain {
    fn run(&mut self, op: Op<'_>, inputs: Inputs) -> ErasedVar {
        let value: AnyTensor = op.compute(inputs.into_values());
        ErasedVar::untracked(value)
    }
}
