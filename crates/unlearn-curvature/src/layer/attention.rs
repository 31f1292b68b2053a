//! Multi-head attention. n samples, c columns, h heads, t tokens (queries), s tokens (keys), e channels of a
//! head, d = h·e.

use burn::Tensor;
use burn::tensor::activation::softmax;

/// softmax(q kᵀ / √e) v for each head (Vaswani et al. 2017, eq. 1 and §3.2.2, without the projections); all
/// `[n, t, d]`, differentiable.
pub(crate) fn forward(heads: usize, q: Tensor<3>, k: Tensor<3>, v: Tensor<3>) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if let Some(y) = crate::flex::tokens::attention(heads, &q, &k, &v) {
        return y;
    }
    let weights = weights(split(q, heads), split(k, heads));
    join(weights.matmul(split(v, heads)))
}

/// softmax(q kᵀ / √e), `[n, h, t, s]`.
fn weights(q: Tensor<4>, k: Tensor<4>) -> Tensor<4> {
    // The shorter of the two operands is scaled, not the product.
    let scale = scale(&q);
    softmax(q.mul_scalar(scale).matmul(k.swap_dims(2, 3)), 3)
}

fn scale(q: &Tensor<4>) -> f64 {
    (q.dims()[3] as f64).sqrt().recip()
}

/// `[n, t, d]` → `[n, h, t, e]`.
fn split(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [n, t, d] = x.dims();
    x.reshape([n, t, heads, d / heads]).swap_dims(1, 2)
}

/// `[n, h, t, e]` → `[n, t, d]`.
fn join(x: Tensor<4>) -> Tensor<3> {
    let [n, heads, t, e] = x.dims();
    x.swap_dims(1, 2).reshape([n, t, heads * e])
}

/// `[n·c, t, d]` → `[n, h, c·t, e]`: one product a head serves all columns of a sample.
fn split_columns(x: Tensor<3>, heads: usize, columns: usize) -> Tensor<4> {
    let [rows, t, d] = x.dims();
    split(x.reshape([rows / columns, columns * t, d]), heads)
}

/// `[n, h, c·t, e]` → `[n·c, t, d]`.
fn join_columns(x: Tensor<4>, columns: usize) -> Tensor<3> {
    let [n, heads, stacked, e] = x.dims();
    join(x).reshape([n * columns, stacked / columns, heads * e])
}

/// What going back through an attention needs. The weights are made again: they are t²·h scalars a sample, and
/// three times the inputs at 224 × 224 pixels.
#[derive(Debug)]
pub(crate) struct Attention {
    pub(crate) heads: usize,
    /// q, k and v, `[n, t, d]`.
    pub(crate) inputs: [Tensor<3>; 3],
}

impl Attention {
    /// The cotangents of q, k and v where `needed`, given that of the result, `[n·c, t, d]`.
    ///
    /// With P the weights, Ḡ the cotangent: V̄ = Pᵀ Ḡ, P̄ = Ḡ Vᵀ, S̄ = P ∘ (P̄ − rowsum(P ∘ P̄)),
    /// Q̄ = S̄ K / √e, K̄ = S̄ᵀ Q / √e.
    pub(crate) fn back(&self, g: Tensor<3>, columns: usize, needed: [bool; 3]) -> [Option<Tensor<3>>; 3] {
        let (heads, c) = (self.heads, columns);
        let [q, k, v] = self.inputs.clone().map(|x| split(x, heads));
        let [n, _, t, e] = q.dims();
        let s = k.dims()[2];
        let scale = scale(&q);
        let p = weights(q.clone(), k.clone()); // [n, h, t, s]
        let g = split_columns(g, heads, c); // [n, h, c·t, e]

        // Along the queries: the columns of a sample stand beside each other, not below.
        let beside = |x: Tensor<4>, width: usize| {
            x.reshape([n * heads, c, t, width]).swap_dims(1, 2).reshape([n, heads, t, c * width])
        };
        let below = |x: Tensor<4>, width: usize| {
            x.reshape([n * heads, s, c, width]).swap_dims(1, 2).reshape([n, heads, c * s, width])
        };
        let value = needed[2].then(|| {
            let back = p.clone().swap_dims(2, 3).matmul(beside(g.clone(), e)); // [n, h, s, c·e]
            join_columns(below(back, e), c)
        });
        if !needed[0] && !needed[1] {
            return [None, None, value];
        }
        let p = p.reshape([n * heads, 1, t, s]);
        let p_bar = g.matmul(v.swap_dims(2, 3)).reshape([n * heads, c, t, s]);
        let product = p.clone() * p_bar;
        let s_bar = product.clone() - p * product.sum_dim(3); // [n·h, c, t, s]
        let query = needed[0].then(|| {
            let back = s_bar.clone().reshape([n, heads, c * t, s]).matmul(k);
            join_columns(back.mul_scalar(scale), c)
        });
        let key = needed[1].then(|| {
            let back = s_bar.swap_dims(2, 3).reshape([n, heads, c * s, t]).matmul(q);
            join_columns(back.mul_scalar(scale), c)
        });
        [query, key, value]
    }
}

#[cfg(test)]
mod tests;
