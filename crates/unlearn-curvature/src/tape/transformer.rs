//! The operations of transformers, typed by rank.

use burn::module::Param;
use burn::nn::Dropout;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;

use super::{Inputs, Op, Ranked, Tape, TokenPool, Var};

impl dyn Tape + '_ {
    /// Cuts pictures into patches and embeds each: a convolution whose stride is its kernel, its positions
    /// taken as tokens row by row, `[n, i, h, w]` → `[n, t, d]`.
    pub fn patch_embedding(&mut self, layer: &Conv2d, x: Var<4>) -> Var<3> {
        let x = self.conv2d(layer, x);
        self.one(Op::Tokens, x)
    }

    /// The learned tokens `[1, k, d]` before those of `x`, `[n, t, d]` → `[n, k + t, d]`.
    pub fn class_token(&mut self, token: &Param<Tensor<3>>, x: Var<3>) -> Var<3> {
        self.one(Op::ClassToken(token), x)
    }

    /// `x` plus the learned vectors `[1, t, d]`; `x`, result `[n, t, d]`.
    pub fn position(&mut self, position: &Param<Tensor<3>>, x: Var<3>) -> Var<3> {
        self.one(Op::Position(position), x)
    }

    /// Multi-head attention without its projections: for each of `heads` slices of d/heads features,
    /// softmax(q kᵀ / √(d/heads)) v; all `[n, t, d]` (Vaswani et al. 2017, eq. 1).
    pub fn attention(&mut self, heads: usize, q: Var<3>, k: Var<3>, v: Var<3>) -> Var<3> {
        let inputs = Inputs::Three(q.into_any(), k.into_any(), v.into_any());
        Var::from_any(self.run(Op::Attention { heads }, inputs))
    }

    /// Dropout (Srivastava et al. 2014), scaled by 1 / (1 − p), when the layer trains and `x` lies on an autodiff
    /// device; `x` itself otherwise.
    pub fn dropout<const D: usize>(&mut self, layer: &Dropout, x: Var<D>) -> Var<D>
    where
        Tensor<D>: Ranked<D>,
    {
        self.one(Op::Dropout(layer), x)
    }

    /// One vector a sample, `[n, t, d]` → `[n, d]`.
    pub fn pool_tokens(&mut self, pool: TokenPool, x: Var<3>) -> Var<2> {
        self.one(Op::Pool(pool), x)
    }
}
