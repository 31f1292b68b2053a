//! Joined operations as single ones.

use super::{ErasedVar, Inputs, Op, Tape};

/// A joined operation as operations of their own; see [`Op::apart`].
#[derive(Debug, Clone, Copy)]
pub struct Apart<'a>(Parts<'a>);

#[derive(Debug, Clone, Copy)]
enum Parts<'a> {
    /// `layer(x) + factor · up(down(x))`.
    Branched { layer: Op<'a>, down: Op<'a>, up: Op<'a>, factor: f64 },
    /// The second of what the first gives.
    InTurn(Op<'a>, Op<'a>),
}

impl<'a> Op<'a> {
    /// For tapes that look at single operations: what a joined one consists of, `None` for everything else.
    pub fn apart(self) -> Option<Apart<'a>> {
        let parts = match self {
            Op::BranchedConv2d { layer, down, up, factor } => Parts::Branched {
                layer: Op::Conv2d(layer),
                down: Op::Conv2d(down),
                up: Op::Conv2d(up),
                factor,
            },
            Op::BranchedLinear { layer, down, up, factor } => Parts::Branched {
                layer: Op::Linear(layer),
                down: Op::Linear(down),
                up: Op::Linear(up),
                factor,
            },
            Op::BatchNormRelu(layer) => Parts::InTurn(Op::BatchNorm(layer), Op::Relu),
            Op::AddRelu => Parts::InTurn(Op::Add, Op::Relu),
            _ => return None,
        };
        Some(Apart(parts))
    }
}

impl Apart<'_> {
    /// Runs the parts on `tape`, one after another.
    ///
    /// # Panics
    /// On a number of inputs that the joined operation does not have.
    pub fn run(self, inputs: Inputs, tape: &mut dyn Tape) -> ErasedVar {
        match (self.0, inputs) {
            (Parts::InTurn(first, second), inputs) => {
                let between = tape.run(first, inputs);
                tape.run(second, Inputs::One(between))
            }
            (Parts::Branched { .. }, Inputs::One(x)) => self.run_with(x.clone(), x, tape),
            (parts, inputs) => unreachable!("{parts:?} cannot run on {inputs:?}"),
        }
    }

    /// The same of a branched layer whose branch sees something else, `branch_x`, than the layer: what dropout left of
    /// `x`.
    ///
    /// # Panics
    /// When it is no branched layer.
    pub fn run_with(self, x: ErasedVar, branch_x: ErasedVar, tape: &mut dyn Tape) -> ErasedVar {
        let Parts::Branched { layer, down, up, factor } = self.0 else {
            unreachable!("{:?} has no branch", self.0)
        };
        let y = tape.run(layer, Inputs::One(x));
        let narrow = tape.run(down, Inputs::One(branch_x));
        let narrow = if factor == 1.0 { narrow } else { tape.run(Op::Scale { factor }, Inputs::One(narrow)) };
        let branch = tape.run(up, Inputs::One(narrow));
        tape.run(Op::Add, Inputs::Two(y, branch))
    }
}
