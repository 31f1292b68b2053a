//! Against plain loops in float64, and against central differences of them.

use burn::tensor::{Device, TensorData};

use super::*;

const SHAPE: [usize; 3] = [2, 5, 6];
const HEADS: usize = 3;

fn numbers(salt: f64) -> Vec<f64> {
    (0..SHAPE.iter().product::<usize>()).map(|i| ((i as f64 + salt) * 12.9898).sin() * 1.5).collect()
}

fn tensor(values: &[f64], shape: [usize; 3]) -> Tensor<3> {
    let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// The slow, obvious twin.
fn twin(q: &[f64], k: &[f64], v: &[f64]) -> Vec<f64> {
    let [n, t, d] = SHAPE;
    let e = d / HEADS;
    let at = |b: usize, i: usize, f: usize| (b * t + i) * d + f;
    let mut out = vec![0.0; n * t * d];
    for b in 0..n {
        for head in 0..HEADS {
            for i in 0..t {
                let score = |j: usize| {
                    let dot: f64 =
                        (0..e).map(|f| q[at(b, i, head * e + f)] * k[at(b, j, head * e + f)]).sum();
                    (dot / (e as f64).sqrt()).exp()
                };
                let total: f64 = (0..t).map(score).sum();
                for f in head * e..(head + 1) * e {
                    out[at(b, i, f)] = (0..t).map(|j| score(j) / total * v[at(b, j, f)]).sum();
                }
            }
        }
    }
    out
}

#[track_caller]
fn near(got: Tensor<3>, expected: &[f64], tolerance: f64) {
    let got = got.into_data().try_into_vec_as::<f32>().unwrap();
    assert_eq!(got.len(), expected.len());
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((f64::from(*g) - e).abs() < tolerance, "{i}: {g} but expected {e}");
    }
}

#[test]
fn the_result_is_that_of_plain_loops() {
    let (q, k, v) = (numbers(1.0), numbers(2.0), numbers(3.0));
    let got = forward(HEADS, tensor(&q, SHAPE), tensor(&k, SHAPE), tensor(&v, SHAPE));
    // A few dozen operations on numbers below 2.
    near(got, &twin(&q, &k, &v), 5e-6);
}

/// Three columns at once, each against differences of ⟨result, cotangent⟩.
#[test]
fn cotangents_are_derivatives() {
    const COLUMNS: usize = 3;
    const STEP: f64 = 1e-5;
    let [n, t, d] = SHAPE;
    let inputs = [numbers(1.0), numbers(2.0), numbers(3.0)];
    let columns: Vec<Vec<f64>> = (0..COLUMNS).map(|c| numbers(10.0 + c as f64)).collect();
    // The columns of one sample lie together.
    let size = t * d;
    let stacked: Vec<f64> = (0..n)
        .flat_map(|b| columns.iter().flat_map(move |column| column[b * size..(b + 1) * size].to_vec()))
        .collect();
    let attention =
        Attention { heads: HEADS, inputs: std::array::from_fn(|which| tensor(&inputs[which], SHAPE)) };
    let value = |inputs: &[Vec<f64>; 3], column: &[f64]| -> f64 {
        twin(&inputs[0], &inputs[1], &inputs[2]).iter().zip(column).map(|(y, g)| y * g).sum()
    };
    let cotangent = || tensor(&stacked, [n * COLUMNS, t, d]);
    let all = attention.back(cotangent(), COLUMNS, [true; 3]);
    for (which, back) in all.into_iter().enumerate() {
        let mut expected = vec![0.0; n * COLUMNS * size];
        for (c, column) in columns.iter().enumerate() {
            for i in 0..n * size {
                let moved = |by: f64| {
                    let mut inputs = inputs.clone();
                    inputs[which][i] += by;
                    value(&inputs, column)
                };
                let (b, inner) = (i / size, i % size);
                expected[(b * COLUMNS + c) * size + inner] = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            }
        }
        near(back.unwrap(), &expected, 2e-5);
        let alone = attention.back(cotangent(), COLUMNS, std::array::from_fn(|i| i == which));
        assert_eq!(alone.iter().map(Option::is_some).collect::<Vec<_>>(), [0, 1, 2].map(|i| i == which));
        near(alone.into_iter().flatten().next().unwrap(), &expected, 2e-5);
    }
}
