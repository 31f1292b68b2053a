//! The engine against the oracle, against itself cut in other ways, and against identities.

mod diagonals;
mod extremes;
mod inner_products;
pub(crate) mod nets;
mod refusals;
mod transformer;

use burn::tensor::{Device, Tensor, TensorData};

use self::nets::Net;
use crate::oracle::{Oracle, TensorSamples};
use crate::tape::{Plain, Tape, Var};
use crate::{CurvatureError, ParamTree};

/// Numbers that look random and are the same everywhere.
pub(crate) fn numbers(count: usize, salt: f32) -> Vec<f32> {
    (0..count).map(|i| ((i as f32 + salt) * 12.9898).sin() * 0.9).collect()
}

pub(crate) fn tensor<const D: usize>(shape: [usize; D], salt: f32) -> Tensor<D> {
    Tensor::from_data(TensorData::new(numbers(shape.iter().product(), salt), shape), &Device::flex())
}

pub(crate) fn samples(n: usize, classes: usize) -> TensorSamples {
    TensorSamples::new(tensor([n, 2, 9, 7], 3.0), (0..n).map(|i| (i * 2 + i / 3) % classes).collect())
        .unwrap()
}

pub(crate) fn forward(net: &Net, images: Var<4>, tape: &mut dyn Tape) -> Var<2> {
    net.forward(images, tape)
}

/// The same forward pass by Burn's own layers and automatic differentiation.
pub(crate) fn oracle(
    net: &Net,
) -> Oracle<'static, Net, impl Fn(&Net, Tensor<4>) -> Tensor<2> + Sync + use<>> {
    Oracle::new(net, |net: &Net, x: Tensor<4>| Plain::forward(x, |x, tape| net.forward(x, tape))).unwrap()
}

/// Leaf by leaf, relative to the leaf's largest entry.
#[track_caller]
pub(crate) fn same_tree(got: &ParamTree, expected: &ParamTree, tolerance: f32) {
    assert_eq!(
        got.iter().map(|(p, l)| (p, l.shape.clone())).collect::<Vec<_>>(),
        expected.iter().map(|(p, l)| (p, l.shape.clone())).collect::<Vec<_>>()
    );
    for ((path, got), (_, expected)) in got.iter().zip(expected.iter()) {
        let (got, expected) = (got.to_vec().unwrap(), expected.to_vec().unwrap());
        let scale = expected.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        assert!(scale > 0.0, "{path}: nothing to compare");
        for (i, (g, e)) in got.iter().zip(&expected).enumerate() {
            assert!(
                (g - e).abs() <= tolerance * scale,
                "{path}[{i}]: {g:e} but expected {e:e} (scale {scale:e})"
            );
        }
    }
}

#[track_caller]
pub(crate) fn same(got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len());
    let scale = expected.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    assert!(scale > 0.0, "nothing to compare");
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= tolerance * scale, "entry {i}: {g:e} but expected {e:e} (scale {scale:e})");
    }
}

#[track_caller]
pub(crate) fn unsupported<T: std::fmt::Debug>(result: Result<T, CurvatureError>, part: &str) {
    match result {
        Err(CurvatureError::Unsupported { what, .. }) => assert!(what.contains(part), "{what}"),
        other => panic!("expected a refusal about {part}, got {other:?}"),
    }
}
