//! Parameters of transformers that stand in no layer.

use burn::Tensor;
use burn::module::Param;

use super::{Probes, Purpose};
use crate::layer::tokens::prepend;
use crate::tape::record::Step;

impl Probes {
    /// The learned tokens `[1, k, d]` before those of `x`, `[n, t, d]` → `[n, k + t, d]`.
    pub fn class_token(&mut self, token: &Param<Tensor<3>>, x: Tensor<3>) -> Tensor<3> {
        let count = token.lazy_shape()[1];
        let step = |id| Step::ClassToken { count, id };
        self.free("a class token", token, x, prepend, step)
    }

    /// `x` plus the learned vectors `[1, t, d]`; `x`, result `[n, t, d]`.
    pub fn position(&mut self, position: &Param<Tensor<3>>, x: Tensor<3>) -> Tensor<3> {
        let (shape, [_, tokens, features]) = (position.lazy_shape(), x.dims());
        let wanted = self.purpose != Purpose::Nothing && self.targets.get(position.id.val()).is_some();
        if wanted && shape[..] != [1, tokens, features] {
            self.refuse_use(
                format!("positions of shape {:?} on {tokens} tokens of {features} features", &shape[..]),
                "give positions the shape [1, tokens, features] of what they are added to",
            );
        }
        self.free("a position", position, x, |position, x| x + position, |id| Step::Position { id })
    }

    fn free(
        &mut self,
        name: &'static str,
        parameter: &Param<Tensor<3>>,
        x: Tensor<3>,
        run: impl FnOnce(Tensor<3>, Tensor<3>) -> Tensor<3>,
        step: impl FnOnce(Option<u64>) -> Step,
    ) -> Tensor<3> {
        let [id] = self.wanted(name, [Some(parameter.id)], x.dims()[0]);
        let value = parameter.val();
        if id.is_none() {
            return run(value, x);
        }
        if self.purpose == Purpose::OtherUses {
            self.check_own(name, parameter.is_require_grad());
            return run(value.inner(), x);
        }
        let output = run(value, x);
        let shape = output.dims();
        self.mark(step(id), output, shape, shape.to_vec(), 0)
    }
}
