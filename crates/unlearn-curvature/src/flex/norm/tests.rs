//! Batch normalisation and the ends of residual blocks against their formulas in float64, and against Burn's ReLU.

use burn::Tensor;
use burn::tensor::{DType, Device, TensorData, activation};

use super::Behind;
use crate::flex::tests::{host, random, wide};
use crate::flex::{add_relu, batch_norm_fixed, batch_norm_train, has_add_relu, has_batch_norm};

/// Batch normalisation by its formula in float64, with Burn's autodiff: y, x', γ', β'.
fn norm_reference(
    x: &Tensor<4>,
    [gamma, beta]: [&Tensor<1>; 2],
    g: &Tensor<4>,
    epsilon: f64,
) -> [Vec<f64>; 4] {
    let [n, c, h, w] = x.dims();
    let x = wide(x).autodiff().require_grad();
    let [gamma, beta] = [gamma, beta].map(|t| wide(t).autodiff().require_grad());
    let rows = x.clone().swap_dims(0, 1).reshape([c, n * h * w]);
    let centred = rows.clone() - rows.mean_dim(1);
    let variance = centred.clone().square().mean_dim(1);
    let y =
        centred / (variance + epsilon).sqrt() * gamma.clone().reshape([c, 1]) + beta.clone().reshape([c, 1]);
    let y = y.reshape([c, n, h, w]).swap_dims(0, 1);
    let gradients = (y.clone() * wide(g).autodiff()).sum().backward();
    [
        host(y.inner()),
        host(x.grad(&gradients).unwrap()),
        host(gamma.grad(&gradients).unwrap()),
        host(beta.grad(&gradients).unwrap()),
    ]
}

#[test]
fn batch_normalisation_is_its_formula() {
    Device::flex().seed(6);
    let device = Device::flex().autodiff();
    for (dims, shift) in
        [([4, 3, 5, 5], 0.0f64), ([2, 17, 8, 8], 3.0), ([9, 2, 1, 1], -1.0), ([3, 4, 6, 7], 10.0)]
    {
        let x = random(dims) + shift;
        let (gamma, beta, g) = (random([dims[1]]), random([dims[1]]), random(dims));
        let epsilon = 1e-5;
        let expected = norm_reference(&x, [&gamma, &beta], &g, epsilon);

        let on_tape = |data: TensorData| Tensor::<1>::from_data(data, &device).require_grad();
        let tx = Tensor::<4>::from_data(x.to_data(), &device).require_grad();
        let (tg, tb) = (on_tape(gamma.to_data()), on_tape(beta.to_data()));
        let (y, mean, variance) = batch_norm_train(&tx, [&tg, &tb], epsilon, Behind::Nothing);
        let gradients = (y.clone() * Tensor::from_data(g.to_data(), &device)).sum().backward();
        let got = [
            host(y.inner()),
            host(tx.grad(&gradients).unwrap()),
            host(tg.grad(&gradients).unwrap()),
            host(tb.grad(&gradients).unwrap()),
        ];
        // Values of size one, a mean of size |shift| that is subtracted with a rounding of its own, sums over
        // n·h·w values of which float32 adds up at most a plane's sixteenth at a time.
        let plane = (dims[2] * dims[3] / 16 + 16) as f64;
        for (got, expected) in got.iter().zip(&expected) {
            let size = expected.iter().fold(1.0f64, |size, v| size.max(v.abs()));
            let bound = 2f64.powi(-24) * (plane + 8.0 + 4.0 * shift.abs()) * size * 4.0;
            for (got, expected) in got.iter().zip(expected) {
                assert!((got - expected).abs() <= bound, "{got} {expected} ± {bound}");
            }
        }
        let rows = wide(&x).swap_dims(0, 1).reshape([dims[1], dims[0] * dims[2] * dims[3]]);
        let centred = rows.clone() - rows.clone().mean_dim(1);
        let bound = 2f64.powi(-24) * (plane + 4.0) * (1.0 + shift * shift + shift.abs());
        for (got, expected) in [(mean, rows.mean_dim(1)), (variance, centred.square().mean_dim(1))] {
            for (got, expected) in host(got).into_iter().zip(host(expected)) {
                assert!((got - expected).abs() <= bound * 4.0, "{got} {expected} ± {bound}");
            }
        }
    }
}

/// By the formula in float64: y = (x − μ) γ r + β, x' = g γ r.
#[test]
fn a_frozen_norm_is_its_formula() {
    Device::flex().seed(8);
    let device = Device::flex().autodiff();
    for dims in [[4, 3, 5, 5], [2, 17, 8, 8], [9, 2, 1, 1]] {
        let c = dims[1];
        let (x, g, gamma, beta, mean) = (random(dims), random(dims), random([c]), random([c]), random([c]));
        let variance = random::<1>([c]).abs() + 0.5;
        let epsilon = 1e-5;
        let tx = Tensor::<4>::from_data(x.to_data(), &device).require_grad();
        let frozen = |t: &Tensor<1>| Tensor::<1>::from_data(t.to_data(), &device);
        let affine = [&frozen(&gamma), &frozen(&beta)];
        let moments = [mean.clone(), variance.clone()];
        assert!(has_batch_norm(&tx, affine));
        let y = batch_norm_fixed(tx.clone(), affine, moments, epsilon, Behind::Nothing);
        let gradients = (y.clone() * Tensor::from_data(g.to_data(), &device)).sum().backward();
        let (y, back) = (host(y.inner()), host(tx.grad(&gradients).unwrap()));

        let each = |t: &Tensor<1>| host(t.clone());
        let (gamma, beta, mean, variance) = (each(&gamma), each(&beta), each(&mean), each(&variance));
        let plane = dims[2] * dims[3];
        for (i, ((x, g), (y, back))) in host(x).iter().zip(host(g)).zip(y.iter().zip(back)).enumerate() {
            let channel = i / plane % c;
            let scale = gamma[channel] / (variance[channel] + epsilon).sqrt();
            let expected = (x - mean[channel]) * scale + beta[channel];
            // Four roundings of values of size two at most times scale.
            let bound = 2f64.powi(-24) * 4.0 * (3.0 * scale.abs() + beta[channel].abs());
            assert!((y - expected).abs() <= bound, "{y} {expected} ± {bound}");
            assert!((back - g * scale).abs() <= bound, "{back} {} ± {bound}", g * scale);
        }
        let [other, wide] = [random([c + 1]), frozen(&random([c])).cast(DType::F64)];
        assert!(!has_batch_norm(&tx, [&other, affine[1]]) && !has_batch_norm(&tx, [&wide, affine[1]]));
    }
}

/// A norm and a ReLU behind it are the two one after the other, to the bit, and so are the gradients.
#[test]
fn a_relu_behind_a_norm_is_burns() {
    Device::flex().seed(9);
    let device = Device::flex().autodiff();
    let (dims, epsilon) = ([5, 7, 6, 9], 1e-5);
    let (x, g, gamma, beta) = (random(dims), random(dims), random([dims[1]]), random([dims[1]]));
    let moments =
        || [Tensor::ones([dims[1]], &Device::flex()), Tensor::ones([dims[1]], &Device::flex()) * 0.3];
    for fixed in [false, true] {
        let run = |behind: Behind| {
            let tx = Tensor::<4>::from_data(x.to_data(), &device).require_grad();
            let of = |t: &Tensor<1>| Tensor::<1>::from_data(t.to_data(), &device).set_require_grad(!fixed);
            let (tg, tb) = (of(&gamma), of(&beta));
            let y = if fixed {
                batch_norm_fixed(tx.clone(), [&tg, &tb], moments(), epsilon, behind)
            } else {
                batch_norm_train(&tx, [&tg, &tb], epsilon, behind).0
            };
            let y = if behind == Behind::Relu { y } else { activation::relu(y) };
            let gradients = (y.clone() * Tensor::from_data(g.to_data(), &device)).sum().backward();
            let of = |t: Option<Tensor<1>>| t.map(host);
            let for_x = tx.grad(&gradients).map(host);
            (host(y.inner()), for_x, of(tg.grad(&gradients)), of(tb.grad(&gradients)))
        };
        let (joined, apart) = (run(Behind::Relu), run(Behind::Nothing));
        assert!(joined.0.iter().filter(|&&y| y == 0.0).count() > 100);
        assert!(joined == apart, "fixed: {fixed}");
    }
}

#[test]
fn what_is_not_a_number_goes_through_a_relu() {
    let device = Device::flex();
    let x = Tensor::<4>::full([1, 1, 1, 3], f32::NAN, &device);
    let one = Tensor::<1>::ones([1], &device);
    let moments = [one.zeros_like(), one.clone()];
    let y = batch_norm_fixed(x.clone(), [&one, &one], moments, 1e-5, Behind::Relu);
    assert!(host(y).iter().all(|y| y.is_nan()));
    assert!(host(add_relu(x.clone(), x.ones_like())).iter().all(|y| y.is_nan()));
}

/// What others have a handle of is copied before it is written over.
#[test]
fn nothing_is_written_over_that_others_have() {
    Device::flex().seed(10);
    let (x, gamma) = (random([3, 4, 5, 5]), random([4]));
    let before = host(x.clone());
    let moments = [random([4]), random([4]).abs()];
    let y = batch_norm_fixed(x.clone(), [&gamma, &gamma], moments, 1e-5, Behind::Relu);
    assert_ne!(host(y.clone()), before);
    assert_eq!(host(x.clone()), before);
    let sum = host(add_relu(x.clone(), y.clone()));
    assert_eq!(host(x.clone()), before);
    let expected: Vec<f64> = host(activation::relu(x + y));
    assert_eq!(sum, expected);
}

#[test]
fn the_end_of_a_block_is_a_sum_and_a_relu() {
    Device::flex().seed(11);
    let device = Device::flex().autodiff();
    let (a, b, g) = (random([2, 3, 5, 7]), random([2, 3, 5, 7]), random([2, 3, 5, 7]));
    let run = |joined: bool| {
        let [a, b] = [&a, &b].map(|t| Tensor::<4>::from_data(t.to_data(), &device).require_grad());
        // A shortcut: a has two uses.
        let y = if joined {
            add_relu(a.clone().mul_scalar(2.0), b.clone())
        } else {
            activation::relu(a.clone().mul_scalar(2.0) + b.clone())
        };
        let y = y + a.clone();
        let gradients = (y.clone() * Tensor::from_data(g.to_data(), &device)).sum().backward();
        (host(y.inner()), host(a.grad(&gradients).unwrap()), host(b.grad(&gradients).unwrap()))
    };
    assert!(run(true) == run(false));
    let wide = Tensor::<4>::ones([1, 1, 1, 2], &Device::flex()).cast(DType::F64);
    assert!(!has_add_relu(&wide, &wide));
    assert!(has_add_relu(&a, &b) && !has_add_relu(&a, &b.slice_dim(0, 0..1)));
}
