//! Σ over units and columns of squared gradients: the diagonal.

use std::collections::BTreeSet;

use burn::Tensor;
use burn::tensor::{Device, TensorData};

use super::accumulator::Accumulator;
use super::{Reduce, blocks, cut, gradients};
use crate::sweep::{Frame, MatrixTap, VectorTap};
use crate::{CurvatureError, ParamPath, ParamTree};

/// How the squared gradients of a weight are summed. All give the same to rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// t = 1 only: (Σ_c cotangent²)ᵀ · input², one product whatever the number of columns.
    /// 2·u·p·d operations.
    SquaredProduct,
    /// The gradients themselves, a chunk at a time, squared and summed. 2·u·c·p·d·t operations.
    BatchedProduct,
    /// (Σ_t a_t b_t)² = Σ_{t ≤ t'} w_tt' (a_t a_t')(b_t b_t') with w = 1 for t = t' and 2 otherwise: the columns
    /// are summed before one product over u·t(t+1)/2 terms, u·p·d·t(t+1) operations whatever the number of
    /// columns. Loses digits to cancellation in entries that few units make up, so it is for sums over
    /// many, and for devices whose float32 products are float32.
    PairMoment,
    /// The gradients themselves, formed, squared and added a few dozen entries at a time in registers by a
    /// kernel of ours: 2·u·c·p·d·t operations and no temporaries. Convolutions that are used once, in float32
    /// on the flex backend (crate feature `flex`).
    Fused,
}

impl Algorithm {
    /// The choice for a weight with `positions` t, `inputs` d, `units` u and `columns` c where [`Fused`](Self::Fused) is
    /// not to be had: the least work, where the pair moment must have many terms to sum over.
    pub fn choose(positions: usize, inputs: usize, units: usize, columns: usize) -> Self {
        const ENOUGH: usize = 64;
        // A moment of cotangents is gathered, multiplied and added through memory; products are not.
        const MOMENT: usize = 32;
        // Both for one output, in multiplications.
        let (batched, pairs) = (columns * inputs * positions, positions * (positions + 1) / 2);
        if positions == 1 {
            Self::SquaredProduct
        } else if pairs * (inputs + MOMENT * columns) < batched && units * columns >= ENOUGH {
            Self::PairMoment
        } else {
            Self::BatchedProduct
        }
    }

    fn run(self, frame: &Frame, tap: &MatrixTap, bytes: usize) -> Tensor<2> {
        match self {
            Self::Fused => match tap.fused_squares(frame.relative.clone()) {
                Some(sum) => sum,
                None => batched_product(frame, tap, bytes),
            },
            Self::SquaredProduct => squared_product(frame, tap),
            Self::BatchedProduct => batched_product(frame, tap, bytes),
            Self::PairMoment => pair_moment(frame, tap, bytes),
        }
    }
}

/// Sums squared gradients over all units and columns of all sweeps.
#[derive(Debug)]
pub struct SumSquares {
    sums: Accumulator,
    forced: Option<Algorithm>,
    bytes: usize,
    told: BTreeSet<ParamPath>,
}

impl SumSquares {
    /// `bytes` bounds the temporaries of one layer; `forced` overrides the [choice](Algorithm::choose) wherever
    /// it can serve.
    pub fn new(bytes: usize, forced: Option<Algorithm>) -> Self {
        Self { sums: Accumulator::default(), forced, bytes, told: BTreeSet::new() }
    }

    /// The sums.
    ///
    /// # Errors
    /// None that a sweep has not met before.
    pub fn finish(self) -> Result<ParamTree, CurvatureError> {
        self.sums.finish()
    }

    fn choose(&mut self, frame: &Frame, tap: &MatrixTap) -> Algorithm {
        let fused = tap.has_fused_squares();
        let best = match Algorithm::choose(tap.positions(), tap.inputs(), frame.units, frame.columns) {
            Algorithm::BatchedProduct | Algorithm::PairMoment if fused => Algorithm::Fused,
            // It cannot be cut finer than into units.
            Algorithm::PairMoment if moment_entries(tap) * size_of::<f32>() > self.bytes => {
                Algorithm::BatchedProduct
            }
            best => best,
        };
        let algorithm = match self.forced {
            Some(Algorithm::SquaredProduct) if tap.positions() != 1 => best,
            Some(Algorithm::Fused) if !fused => best,
            Some(forced) => forced,
            None => best,
        };
        if self.told.insert(tap.path().clone()) {
            tracing::debug!(
                parameter = tap.path().as_str(),
                ?algorithm,
                outputs = tap.outputs(),
                inputs = tap.inputs(),
                positions = tap.positions(),
                units = frame.units,
                columns = frame.columns,
                "sum of squared gradients"
            );
        }
        algorithm
    }
}

impl Reduce for SumSquares {
    fn matrix(&mut self, frame: &Frame, tap: &MatrixTap) -> Result<(), CurvatureError> {
        let algorithm = self.choose(frame, tap);
        let mut sum = algorithm.run(frame, tap, self.bytes);
        if let Some(keep) = tap.keep() {
            sum = sum * keep;
        }
        self.sums.add(tap.path(), tap.shape(), undo(frame, tap.flat(sum)));
        Ok(())
    }

    fn vector(&mut self, frame: &Frame, tap: &VectorTap) -> Result<(), CurvatureError> {
        let mut gradient = tap.gradient();
        if let Some(relative) = &frame.relative {
            gradient = gradient * relative.clone().reshape([frame.units, 1, 1]);
        }
        let [u, c, p] = gradient.dims();
        let sum = gradient.square().reshape([u * c, p]).sum_dim(0).reshape([p]);
        self.sums.add(tap.path(), tap.shape(), undo(frame, sum));
        Ok(())
    }
}

/// Brings squares back to the true scale.
fn undo(frame: &Frame, sum: Tensor<1>) -> Tensor<1> {
    if frame.common == 1.0 { sum } else { sum.mul_scalar(frame.common).mul_scalar(frame.common) }
}

/// The cotangents, `[u, c, p, t]`, brought to one scale.
fn level(frame: &Frame, cotangent: Tensor<4>, units: std::ops::Range<usize>) -> Tensor<4> {
    match &frame.relative {
        None => cotangent,
        Some(relative) => {
            let u = units.len();
            cotangent * relative.clone().slice([units]).reshape([u, 1, 1, 1])
        }
    }
}

fn squared_product(frame: &Frame, tap: &MatrixTap) -> Tensor<2> {
    let (u, p, d) = (tap.units(), tap.outputs(), tap.inputs());
    let cotangent = level(frame, tap.cotangent(0..u, 0..p), 0..u);
    let squares = cotangent.square().sum_dim(1).reshape([u, p]); // [u, p]
    let inputs = tap.input(0..u).reshape([u, d]).square(); // [u, d]
    squares.transpose().matmul(inputs)
}

fn batched_product(frame: &Frame, tap: &MatrixTap, bytes: usize) -> Tensor<2> {
    let (c, d, t) = (tap.columns(), tap.inputs(), tap.positions());
    let count = |u: usize, p: usize| u * (2 * c * p * d + d * t + c * p * t);
    let (units, outputs) = cut(bytes, tap.units(), tap.outputs(), count);
    let mut rows: Vec<Option<Tensor<2>>> = vec![None; tap.outputs().div_ceil(outputs)];
    for range in blocks(tap.units(), units) {
        let u = range.len();
        let input = tap.input(range.clone());
        for (row, outputs) in rows.iter_mut().zip(blocks(tap.outputs(), outputs)) {
            let p = outputs.len();
            let mut gradient = gradients(tap, &input, range.clone(), outputs);
            if let Some(relative) = &frame.relative {
                gradient = gradient * relative.clone().slice([range.clone()]).reshape([u, 1, 1]);
            }
            let sum = gradient.square().reshape([u * c, p * d]).sum_dim(0).reshape([p, d]);
            *row = Some(match row.take() {
                Some(before) => before + sum,
                None => sum,
            });
        }
    }
    Tensor::cat(rows.into_iter().flatten().collect(), 0)
}

/// Entries of all temporaries of [`pair_moment`] for one unit.
fn moment_entries(tap: &MatrixTap) -> usize {
    let (c, p, d, t) = (tap.columns(), tap.outputs(), tap.inputs(), tap.positions());
    t * (t + 1) / 2 * (3 * c * p + 2 * p + 4 * d) + d * t + c * p * t
}

fn pair_moment(frame: &Frame, tap: &MatrixTap, bytes: usize) -> Tensor<2> {
    let (p, d, t) = (tap.outputs(), tap.inputs(), tap.positions());
    let pairs = t * (t + 1) / 2;
    let entries = moment_entries(tap);
    let (units, _) = cut(bytes, tap.units(), 1, |u, _| u * entries);
    let mut sum: Option<Tensor<2>> = None;
    let mut indices: Option<Pairs> = None;
    for range in blocks(tap.units(), units) {
        let u = range.len();
        let cotangent = level(frame, tap.cotangent(range.clone(), 0..p), range.clone());
        let input = tap.input(range);
        let Pairs { left, right, weight } = indices.get_or_insert_with(|| Pairs::new(t, &input.device()));
        let moments = cotangent.clone().select(3, left.clone()) * cotangent.select(3, right.clone());
        // [u, p, pairs] → [p, u·pairs]
        let moments = moments.sum_dim(1).reshape([u, p, pairs]) * weight.clone().reshape([1, 1, pairs]);
        let moments = moments.swap_dims(0, 1).reshape([p, u * pairs]);
        let inputs = input.clone().select(2, left.clone()) * input.select(2, right.clone());
        let inputs = inputs.swap_dims(1, 2).reshape([u * pairs, d]); // [u·pairs, d]
        let part = moments.matmul(inputs);
        sum = Some(match sum {
            Some(sum) => sum + part,
            None => part,
        });
    }
    let sum = sum.unwrap_or_else(|| unreachable!("a sweep has at least one unit"));
    // Where all terms cancel, rounding can leave something below zero.
    sum.clamp_min(0.0)
}

/// All t ≤ t' with their weights.
struct Pairs {
    left: Tensor<1, burn::tensor::Int>,
    right: Tensor<1, burn::tensor::Int>,
    weight: Tensor<1>,
}

impl Pairs {
    fn new(t: usize, device: &Device) -> Self {
        let pairs: Vec<(usize, usize)> = (0..t).flat_map(|a| (a..t).map(move |b| (a, b))).collect();
        let n = pairs.len();
        let index = |values: Vec<i32>| Tensor::from_data(TensorData::new(values, [n]), device);
        let weight: Vec<f32> = pairs.iter().map(|(a, b)| if a == b { 1.0 } else { 2.0 }).collect();
        Self {
            left: index(pairs.iter().map(|p| p.0 as i32).collect()),
            right: index(pairs.iter().map(|p| p.1 as i32).collect()),
            weight: Tensor::from_data(TensorData::new(weight, [n]), device),
        }
    }
}
