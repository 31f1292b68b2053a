use burn::Tensor;
use burn::tensor::{DType, Device, Distribution};

use super::{Adam, Descent, sum_of_squares};

fn host(x: Tensor<2>) -> Vec<f64> {
    x.into_data().convert::<f64>().try_into_vec_as::<f64>().unwrap()
}

/// Float64 tensors take Burn's operations, float32 ones on flex the kernel.
#[test]
fn steps_are_those_of_float64() {
    let device = Device::flex();
    device.seed(1);
    let normal = || Tensor::<2>::random([37, 1001], Distribution::Normal(0.0, 1.0), &device);
    for by in [
        Descent { momentum: 0.0, nesterov: false, weight_decay: 0.0 },
        Descent { momentum: 0.0, nesterov: false, weight_decay: 0.1 },
        Descent { momentum: 0.9, nesterov: false, weight_decay: 5e-2 },
        Descent { momentum: 0.9, nesterov: true, weight_decay: 5e-2 },
    ] {
        let mut narrow = (normal(), None);
        let mut wide = (narrow.0.clone().cast(DType::F64), None);
        for _ in 0..3 {
            let g = normal();
            wide = by.step(0.1, wide.0, g.clone().cast(DType::F64), wide.1);
            narrow = by.step(0.1, narrow.0, g, narrow.1);
        }
        assert_eq!(narrow.1.is_some(), by.momentum > 0.0);
        // Values below 8 and constants rounded once; a handful of roundings in each of three steps.
        let bound = 8.0 * 2f64.powi(-24) * 30.0;
        let close = |a: Tensor<2>, b: Tensor<2>| {
            host(a).iter().zip(host(b)).for_each(|(a, b)| assert!((a - b).abs() < bound, "{a} {b}"));
        };
        close(narrow.0, wide.0);
        if let (Some(a), Some(b)) = (narrow.1, wide.1) {
            close(a, b);
        }
    }
}

#[test]
fn adaptive_steps_are_those_of_float64() {
    let device = Device::flex();
    device.seed(5);
    let normal = || Tensor::<2>::random([37, 1001], Distribution::Normal(0.0, 1.0), &device);
    for weight_decay in [0.0, 0.1] {
        let by = Adam { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay };
        let start = normal();
        let (mut narrow, mut wide) = ((start.clone(), None), (start.clone().cast(DType::F64), None));
        for time in 1..=4 {
            let g = normal();
            let (value, moments) = by.step(0.1, time, wide.0, g.clone().cast(DType::F64), wide.1);
            wide = (value, Some(moments));
            let (value, moments) = by.step(0.1, time, narrow.0, g, narrow.1);
            narrow = (value, Some(moments));
        }
        // As above; a step's m / √v has a handful of roundings, and its length is at most a few rates.
        let bound = 8.0 * 2f64.powi(-24) * 30.0;
        let close = |a: Tensor<2>, b: Tensor<2>| {
            host(a).iter().zip(host(b)).for_each(|(a, b)| assert!((a - b).abs() < bound, "{a} {b}"));
        };
        let (narrow_moments, wide_moments) = (narrow.1.unwrap(), wide.1.unwrap());
        close(narrow.0, wide.0);
        close(narrow_moments.first, wide_moments.first);
        close(narrow_moments.second, wide_moments.second);
        // Whoever else has the value keeps it.
        assert_ne!(host(start.clone()), host(by.step(0.1, 1, start.clone(), normal(), None).0));
        let before = host(start.clone());
        drop(by.step(0.1, 1, start.clone(), normal(), None));
        assert_eq!(host(start), before);
    }
}

#[test]
fn a_step_leaves_other_handles_alone() {
    let device = Device::flex();
    let value = Tensor::<2>::ones([3, 5], &device);
    let kept = value.clone();
    let by = Descent { momentum: 0.9, nesterov: false, weight_decay: 0.0 };
    let (moved, velocity) = by.step(0.5, value, Tensor::ones([3, 5], &device), None);
    let first = velocity.clone().unwrap();
    let (_, second) = by.step(0.5, moved.clone(), Tensor::ones([3, 5], &device), velocity);
    assert!(host(kept).iter().all(|&v| v == 1.0));
    assert!(host(moved).iter().all(|&v| v == 0.5));
    assert!(host(first).iter().all(|&v| v == 1.0));
    assert!(host(second.unwrap()).iter().all(|&v| (v - 1.9).abs() < 1e-6));
    // A view of a larger tensor.
    let large = Tensor::<2>::ones([4, 6], &device);
    let (view, _) = by.step(1.0, large.clone().slice([1..3, 2..4]), Tensor::ones([2, 2], &device), None);
    assert_eq!((view.dims(), host(view)), ([2, 2], vec![0.0; 4]));
    assert!(host(large).iter().all(|&v| v == 1.0));
}

#[test]
fn sums_of_squares_tell_what_is_not_finite() {
    let device = Device::flex();
    device.seed(2);
    let x = Tensor::<2>::random([50, 999], Distribution::Normal(0.0, 1.0), &device);
    let expected: f64 = host(x.clone()).iter().map(|v| v * v).sum();
    let got = f64::from(sum_of_squares(x.clone()).into_scalar::<f32>());
    assert!((got - expected).abs() <= 1e-5 * expected, "{got} {expected}");
    let wide = sum_of_squares(x.clone().cast(DType::F64)).into_scalar::<f64>();
    assert!((wide - expected).abs() <= 1e-12 * expected, "{wide} {expected}");
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30] {
        let x = x.clone().slice_assign([49..50, 998..999], Tensor::full([1, 1], bad, &device));
        assert!(!sum_of_squares(x).into_scalar::<f32>().is_finite(), "{bad}");
    }
}
