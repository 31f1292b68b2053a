//! softmax(q kᵀ / √e) v of each head, and back through it, a head of a sample at a time: its weights never leave the
//! cache, and are made again on the way back.
//!
//! t tokens, h heads of e features, d = h·e; everything `[n, t, d]`, of which a head's rows are pieces.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::math::softmax;
use super::product::{Onto, Right, Rows, To, all_straight, all_turned, product};
use crate::flex::fresh::filled_in;
use crate::flex::panel::{Aligned, Panel, panels};
use crate::flex::tile::Steps;

/// Tokens of which a head's weights are a MB, as much as a core's cache holds; with more the way to and from memory
/// is what is left to be saved by keeping them.
pub(super) const MOST_TOKENS: usize = 512;

/// Sizes, and what follows from them.
pub(super) struct Plan {
    tokens: usize,
    heads: usize,
    features: usize,
    over_features: Steps,
    over_tokens: Steps,
    /// From row to row of a head's weights.
    down: Steps,
    to_tokens: Vec<Panel>,
    to_features: Vec<Panel>,
}

impl Plan {
    pub(super) fn new(tokens: usize, heads: usize, width: usize) -> Self {
        let features = width / heads;
        let steps = |count: usize, by: usize| Steps::new((0..count).map(|i| (i * by) as u32).collect());
        Self {
            tokens,
            heads,
            features,
            over_features: steps(features, 1),
            over_tokens: steps(tokens, 1),
            down: steps(tokens, tokens),
            to_tokens: panels(tokens),
            to_features: panels(features),
        }
    }

    fn width(&self) -> usize {
        self.heads * self.features
    }

    fn sample(&self) -> usize {
        self.tokens * self.width()
    }

    /// The rows of a head.
    fn rows<'a>(&self, of: &'a [f32], head: usize) -> Rows<'a> {
        Rows { source: &of[head * self.features..], step: self.width(), count: self.tokens }
    }

    fn scale(&self) -> f32 {
        (self.features as f64).sqrt().recip() as f32
    }
}

/// What a thread works in.
#[derive(Default)]
struct Room {
    /// A head's weights, `[t, t]`.
    weights: Vec<f32>,
    /// Their cotangents, `[t, t]`; on the way back only.
    cotangents: Vec<f32>,
    packed: Aligned,
}

impl Room {
    fn of_weights(plan: &Plan) -> Self {
        Self { weights: vec![0.0; plan.tokens * plan.tokens], ..Self::default() }
    }

    fn of_both(plan: &Plan) -> Self {
        Self { cotangents: vec![0.0; plan.tokens * plan.tokens], ..Self::of_weights(plan) }
    }
}

/// The head's rows of `of` as they are, `[t, e]`.
fn straight<'a>(plan: &'a Plan, of: &[f32], head: usize, packed: &'a mut Aligned) -> Right<'a> {
    all_straight(&plan.to_features, plan.rows(of, head), packed)
}

/// The head's rows of `of` turned, `[e, t]`, times `scale`.
fn turned<'a>(plan: &'a Plan, of: &[f32], head: usize, scale: f32, packed: &'a mut Aligned) -> Right<'a> {
    all_turned(&plan.to_tokens, plan.rows(of, head), plan.features, scale, packed)
}

/// A head's weights, into `room`.
#[inline(always)]
fn weigh<S: Simd>(simd: S, plan: &Plan, q: &[f32], k: &[f32], head: usize, room: &mut Room) {
    let right = turned(plan, k, head, plan.scale(), &mut room.packed);
    let to = To { rows: &mut room.weights, step: plan.tokens, onto: Onto::Nothing };
    product(simd, plan.rows(q, head), &plan.over_features, &right, to);
    // A loop and not `for_each`, which would not take this function's vector instructions along.
    for row in room.weights.chunks_exact_mut(plan.tokens) {
        softmax(row);
    }
}

/// softmax(q kᵀ / √e) v, `[n, t, d]`.
pub(super) fn forward(plan: &Plan, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
    let (arch, size) = (Arch::new(), plan.sample());
    let inputs = q.par_chunks_exact(size).zip(k.par_chunks_exact(size)).zip(v.par_chunks_exact(size));
    let one = |room: &mut Room, [y]: [&mut [f32]; 1], ((q, k), v): ((&[f32], &[f32]), &[f32])| {
        arch.dispatch(Forward { plan, q, k, v, y, room });
    };
    let [y] = filled_in(q.len(), size, inputs, || Room::of_weights(plan), one);
    y
}

struct Forward<'a> {
    plan: &'a Plan,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    y: &'a mut [f32],
    room: &'a mut Room,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { plan, q, k, v, y, room } = self;
        for head in 0..plan.heads {
            weigh(simd, plan, q, k, head, room);
            let right = straight(plan, v, head, &mut room.packed);
            let left = Rows { source: &room.weights, step: plan.tokens, count: plan.tokens };
            let rows = &mut y[head * plan.features..];
            let to = To { rows, step: plan.width(), onto: Onto::Nothing };
            product(simd, left, &plan.over_tokens, &right, to);
        }
    }
}

/// The gradients of q, k and v, given that of the result, all `[n, t, d]`.
///
/// With P the weights and G the gradient: V' = Pᵀ G, P' = G Vᵀ, S' = P ∘ (P' − rowsum(P ∘ P')) / √e, Q' = S' K,
/// K' = S'ᵀ Q.
pub(super) fn backward(plan: &Plan, [q, k, v]: [&[f32]; 3], g: &[f32]) -> [Vec<f32>; 3] {
    let (arch, size) = (Arch::new(), plan.sample());
    let inputs = q.par_chunks_exact(size).zip(k.par_chunks_exact(size)).zip(v.par_chunks_exact(size));
    let inputs = inputs.zip(g.par_chunks_exact(size));
    filled_in(
        q.len(),
        size,
        inputs,
        || Room::of_both(plan),
        |room, results, (((q, k), v), g)| {
            arch.dispatch(Backward { plan, inputs: [q, k, v], g, results, room });
        },
    )
}

struct Backward<'a> {
    plan: &'a Plan,
    inputs: [&'a [f32]; 3],
    g: &'a [f32],
    results: [&'a mut [f32]; 3],
    room: &'a mut Room,
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { plan, inputs: [q, k, v], g, results: [for_q, for_k, for_v], room } = self;
        let (tokens, scale) = (plan.tokens, plan.scale());
        for head in 0..plan.heads {
            let place = head * plan.features;
            let to = |rows| To { rows, step: plan.width(), onto: Onto::Nothing };
            weigh(simd, plan, q, k, head, room);

            let right = straight(plan, g, head, &mut room.packed);
            // Columns of the weights: down the rows.
            let left = Rows { source: &room.weights, step: 1, count: tokens };
            product(simd, left, &plan.down, &right, to(&mut for_v[place..]));

            let right = turned(plan, v, head, 1.0, &mut room.packed);
            let cotangents = To { rows: &mut room.cotangents, step: tokens, onto: Onto::Nothing };
            product(simd, plan.rows(g, head), &plan.over_features, &right, cotangents);
            let rows = room.cotangents.chunks_exact_mut(tokens).zip(room.weights.chunks_exact(tokens));
            for (cotangents, weights) in rows {
                let along = crate::flex::norm::sum(cotangents, weights, |c, w| c * w) as f32;
                for (c, &w) in cotangents.iter_mut().zip(weights) {
                    *c = w * (*c - along) * scale;
                }
            }

            let right = straight(plan, k, head, &mut room.packed);
            let left = Rows { source: &room.cotangents, step: tokens, count: tokens };
            product(simd, left, &plan.over_tokens, &right, to(&mut for_q[place..]));

            let right = straight(plan, q, head, &mut room.packed);
            let left = Rows { source: &room.cotangents, step: 1, count: tokens };
            product(simd, left, &plan.down, &right, to(&mut for_k[place..]));
        }
    }
}
