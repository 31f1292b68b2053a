//! Every kernel against Burn's own operations in float64, on shapes with all kinds of edges.
//!
//! Tolerance: a float32 sum of k products, each rounded once (fused), is off by at most k · 2⁻²⁴ times the
//! sum of the products' absolute values; inputs are exact in float32.

use burn::Tensor;
use burn::tensor::module::conv2d as reference;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Device, Distribution, TensorData};

use super::{Order, SquaresOf, conv2d, input_gradient, single_gradients, squares, weight_gradient};

struct Case {
    n: usize,
    channels: usize,
    outputs: usize,
    size: [usize; 2],
    kernel: [usize; 2],
    options: ConvOptions<2>,
}

fn case(n: usize, [channels, outputs]: [usize; 2], size: [usize; 2], kernel: [usize; 2]) -> Case {
    let padding = [kernel[0] / 2, kernel[1] / 2];
    Case { n, channels, outputs, size, kernel, options: ConvOptions::new([1, 1], padding, [1, 1], 1) }
}

fn cases() -> Vec<Case> {
    let strided = |case: Case, stride: [usize; 2]| {
        let padding = case.options.padding;
        Case { options: ConvOptions::new_with_padding(stride, padding, [1, 1], 1), ..case }
    };
    let padded = |case: Case, stride, padding, dilation| Case {
        options: ConvOptions::new_with_padding(stride, padding, dilation, 1),
        ..case
    };
    vec![
        case(3, [3, 16], [9, 11], [3, 3]),
        case(5, [4, 4], [4, 4], [3, 3]),
        case(2, [7, 33], [8, 8], [3, 3]),
        case(2, [5, 64], [7, 6], [3, 3]),
        case(1, [6, 100], [5, 5], [1, 1]),
        case(40, [2, 3], [2, 2], [3, 3]),
        case(3, [50, 5], [6, 7], [3, 3]),
        case(2, [40, 8], [4, 4], [1, 1]),
        case(2, [12, 8], [5, 32], [3, 3]),
        case(3, [9, 3], [7, 16], [3, 3]),
        case(1, [20, 1], [2, 48], [5, 3]),
        strided(case(3, [33, 7], [9, 8], [3, 3]), [2, 2]),
        strided(case(3, [5, 32], [8, 8], [3, 3]), [2, 2]),
        strided(case(3, [5, 48], [9, 7], [3, 3]), [2, 2]),
        strided(case(2, [6, 12], [8, 8], [1, 1]), [2, 2]),
        strided(case(2, [3, 8], [13, 12], [7, 7]), [2, 3]),
        padded(case(2, [3, 5], [6, 7], [2, 3]), [1, 2], [(1, 0), (0, 2)], [1, 1]),
        padded(case(2, [3, 5], [9, 8], [3, 2]), [2, 1], [(0, 3), (2, 2)], [2, 3]),
        padded(case(1, [2, 3], [1, 1], [1, 1]), [1, 1], [(0, 0), (0, 0)], [1, 1]),
        padded(case(1, [2, 3], [6, 6], [1, 1]), [3, 3], [(0, 0), (0, 0)], [1, 1]),
    ]
}

pub(super) fn random<const D: usize>(dims: [usize; D]) -> Tensor<D> {
    Tensor::random(dims, Distribution::Normal(0.0, 1.0), &Device::flex())
}

pub(super) fn wide<const D: usize>(x: &Tensor<D>) -> Tensor<D> {
    x.clone().cast(DType::F64)
}

pub(super) fn host<const D: usize>(x: Tensor<D>) -> Vec<f64> {
    x.into_data().convert::<f64>().try_into_vec_as::<f64>().unwrap()
}

/// |got − expected| ≤ terms · 2⁻²⁴ · magnitude, entry by entry.
#[track_caller]
fn close<const D: usize>(got: Tensor<D>, expected: Tensor<D>, magnitude: Tensor<D>, terms: usize) {
    assert_eq!(got.dims(), expected.dims());
    let bound = (terms + 2) as f64 * 2f64.powi(-24);
    for (i, ((got, expected), magnitude)) in
        host(got).into_iter().zip(host(expected)).zip(host(magnitude)).enumerate()
    {
        assert!((got - expected).abs() <= bound * magnitude, "{i}: {got} {expected}, of {magnitude}");
    }
}

impl Case {
    fn tensors(&self) -> (Tensor<4>, Tensor<4>) {
        let [height, width] = self.size;
        (
            random([self.n, self.channels, height, width]),
            random([self.outputs, self.channels, self.kernel[0], self.kernel[1]]),
        )
    }

    /// Input and weight gradients by autodiff in float64.
    fn gradients(&self, x: &Tensor<4>, weight: &Tensor<4>, g: &Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let x = wide(x).autodiff().require_grad();
        let weight = wide(weight).autodiff().require_grad();
        let y = reference(x.clone(), weight.clone(), None, self.options.clone());
        let gradients = (y * wide(g).autodiff()).sum().backward();
        (x.grad(&gradients).unwrap(), weight.grad(&gradients).unwrap())
    }
}

#[test]
fn the_forward_pass_is_the_convolution() {
    Device::flex().seed(1);
    for case in cases() {
        let (x, weight) = case.tensors();
        let got = conv2d(&x, &weight, &case.options).unwrap();
        let expected = reference(wide(&x), wide(&weight), None, case.options.clone());
        let magnitude = reference(wide(&x).abs(), wide(&weight).abs(), None, case.options.clone());
        close(got, expected, magnitude, case.channels * case.kernel[0] * case.kernel[1]);
    }
}

#[test]
fn both_gradients_are_those_of_the_convolution() {
    Device::flex().seed(2);
    for case in cases() {
        let (x, weight) = case.tensors();
        let g = random(conv2d(&x, &weight, &case.options).unwrap().dims());
        let (for_x, for_weight) = case.gradients(&x, &weight, &g);
        let (x_size, weight_size) = case.gradients(&x.clone().abs(), &weight.clone().abs(), &g.clone().abs());

        let device = Device::flex().autodiff();
        let taped = |t: &Tensor<4>| Tensor::<4>::from_data(t.to_data(), &device).require_grad();
        let (tx, tw) = (taped(&x), taped(&weight));
        let y = conv2d(&tx, &tw, &case.options).unwrap();
        let gradients = (y * Tensor::from_data(g.to_data(), &device)).sum().backward();
        let taps = case.outputs * case.kernel[0] * case.kernel[1];
        close(tx.grad(&gradients).unwrap(), for_x.clone(), x_size.clone(), taps);
        let terms: usize = g.dims()[0] * g.dims()[2] * g.dims()[3];
        close(tw.grad(&gradients).unwrap(), for_weight, weight_size, terms);

        let direct = input_gradient(&g, &weight, x.dims(), &case.options).unwrap();
        close(direct, for_x, x_size, taps);
    }
}

#[test]
fn squares_are_those_of_single_gradients() {
    Device::flex().seed(3);
    for case in cases() {
        let (x, weight) = case.tensors();
        let [n, o, rows, columns] = conv2d(&x, &weight, &case.options).unwrap().dims();
        let dims = weight.dims();
        let d = dims[1] * dims[2] * dims[3];
        for (c, group) in [(1, 1), (3, 1), (2, n)] {
            let cotangents = random([n * c, o, rows * columns]);
            let factors = random([n / group]);
            let of = SquaresOf { columns: c, group, factors: Some(factors.clone()) };
            let got = squares(&x, &cotangents, dims, &case.options, of).unwrap();
            let factors = host(factors);
            let (mut expected, mut magnitude) = (None::<Tensor<4>>, None::<Tensor<4>>);
            for (unit, &factor) in factors.iter().enumerate() {
                for column in 0..c {
                    let samples = unit * group..(unit + 1) * group;
                    let g = cotangents
                        .clone()
                        .reshape([n, c, o, rows * columns])
                        .slice([samples.clone(), column..column + 1]);
                    let g = g.reshape([group, o, rows, columns]);
                    let part = x.clone().slice([samples]);
                    let gradient = case.gradients(&part, &weight, &g).1 * factor;
                    let size = case.gradients(&part.abs(), &weight, &g.abs()).1 * factor.abs();
                    let add = |sum: Option<Tensor<4>>, more: Tensor<4>| {
                        Some(sum.map_or(more.clone(), |s| s + more))
                    };
                    expected = add(expected, gradient.square());
                    magnitude = add(magnitude, size.square());
                }
            }
            // (g + e)² with |e| ≤ bound · size: twice the terms; the sum over units and columns adds its own.
            let terms = 2 * (group * rows * columns + 2) + n * c;
            close(got, expected.unwrap().reshape([o, d]), magnitude.unwrap().reshape([o, d]), terms);
        }
    }
}

#[test]
fn single_gradients_are_those_of_single_units() {
    Device::flex().seed(7);
    for case in cases() {
        let (x, weight) = case.tensors();
        let [n, o, rows, columns] = conv2d(&x, &weight, &case.options).unwrap().dims();
        let dims = weight.dims();
        let d = dims[1] * dims[2] * dims[3];
        for (c, group) in [(1, 1), (3, 1), (2, n)] {
            let cotangents = random([n * c, o, rows * columns]);
            let form =
                |order| single_gradients(&x, &cotangents, dims, &case.options, (c, group), order).unwrap();
            let (got, loose) = (form(Order::Weight), form(Order::Tile));
            let pieces = n / group * c;
            assert_eq!(got.dims(), [pieces, o * d]);
            for unit in 0..n / group {
                for column in 0..c {
                    let samples = unit * group..(unit + 1) * group;
                    let g = cotangents.clone().reshape([n, c, o, rows * columns]);
                    let g = g.slice([samples.clone(), column..column + 1]).reshape([group, o, rows, columns]);
                    let part = x.clone().slice([samples]);
                    let expected = case.gradients(&part, &weight, &g).1.reshape([1, o * d]);
                    let size = case.gradients(&part.abs(), &weight, &g.abs()).1.reshape([1, o * d]);
                    let piece = unit * c + column;
                    let row = got.clone().slice_dim(0, piece..piece + 1);
                    close(row, expected, size, group * rows * columns);
                }
            }
            // In their own order the rows have the same inner products: float64 sums of exact products.
            let gram = |rows: Tensor<2>| {
                let rows = wide(&rows);
                host(rows.clone().matmul(rows.transpose()))
            };
            let largest = host(got.clone()).into_iter().fold(0.0f64, |largest, v| largest.max(v.abs()));
            let bound = 2f64.powi(-52) * (o * d) as f64 * largest * largest;
            for (loose, got) in gram(loose).into_iter().zip(gram(got)) {
                assert!((loose - got).abs() <= bound, "{loose} {got} ± {bound}");
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_threads() {
    Device::flex().seed(4);
    let case = case(37, [6, 32], [9, 9], [3, 3]);
    let (x, weight) = case.tensors();
    let g = random([37, 32, 9, 9]);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let of = SquaresOf { columns: 1, group: 1, factors: None };
            [
                conv2d(&x, &weight, &case.options).unwrap().into_data(),
                weight_gradient(&x, &g, weight.dims(), &case.options).unwrap().into_data(),
                weight_gradient(&g, &x, [6, 32, 3, 3], &case.options).unwrap().into_data(),
                input_gradient(&g, &weight, x.dims(), &case.options).unwrap().into_data(),
                squares(&x, &g.clone().reshape([37, 32, 81]), weight.dims(), &case.options, of)
                    .unwrap()
                    .into_data(),
            ]
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn views_are_read_in_their_own_order() {
    Device::flex().seed(5);
    let case = case(4, [6, 5], [7, 7], [3, 3]);
    let (x, weight) = case.tensors();
    let view = x.clone().slice_dim(0, 1..3).swap_dims(2, 3);
    let copy = Tensor::<4>::from_data(TensorData::new(host(view.clone()), view.dims()), &Device::flex());
    let expected = conv2d(&copy.cast(DType::F32), &weight, &case.options).unwrap();
    assert_eq!(conv2d(&view, &weight, &case.options).unwrap().into_data(), expected.into_data());
}

#[test]
fn what_is_not_for_the_kernels_is_left_to_burn() {
    let x = Tensor::<4>::zeros([1, 4, 5, 5], &Device::flex());
    let grouped = Tensor::<4>::zeros([4, 1, 3, 3], &Device::flex());
    let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 4);
    assert!(conv2d(&x, &grouped, &options).is_none());
    let weight = Tensor::<4>::zeros([2, 4, 3, 3], &Device::flex());
    let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
    assert!(conv2d(&wide(&x), &wide(&weight), &options).is_none());
    assert!(conv2d(&x, &weight, &options).is_some());
}

/// Frozen layers: no gradient of what is not trained, and that of the rest unchanged.
#[test]
fn what_is_frozen_has_no_gradient_and_changes_none() {
    Device::flex().seed(7);
    let device = Device::flex().autodiff();
    let case = case(5, [6, 5], [7, 7], [3, 3]);
    let (x, weight) = case.tensors();
    let g = random([5, 5, 7, 7]);
    let run = |x_tracked: bool, weight_tracked: bool| {
        let x = Tensor::<4>::from_data(x.to_data(), &device).set_require_grad(x_tracked);
        let weight = Tensor::<4>::from_data(weight.to_data(), &device).set_require_grad(weight_tracked);
        let y = conv2d(&x, &weight, &case.options).unwrap();
        assert_eq!(y.is_tracked(), x_tracked || weight_tracked);
        if !y.is_tracked() {
            return (None, None);
        }
        let gradients = (y * Tensor::from_data(g.to_data(), &device)).sum().backward();
        (x.grad(&gradients).map(Tensor::into_data), weight.grad(&gradients).map(Tensor::into_data))
    };
    let (for_x, for_weight) = run(true, true);
    assert!(for_x.is_some() && for_weight.is_some());
    assert_eq!(run(true, false), (for_x, None));
    assert_eq!(run(false, true), (None, for_weight));
    assert_eq!(run(false, false), (None, None));
}
