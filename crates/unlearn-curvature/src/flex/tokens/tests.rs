//! The kernels against Burn's own operations in float64.

use burn::Tensor;
use burn::tensor::activation::{self, softmax};
use burn::tensor::{DType, Device, Distribution, TensorData};

use super::{attention, gelu, gelu_back, layer_norm, linear, math};

/// 2⁻²⁴, half a unit in the last place of numbers near 1.
const UNIT: f64 = 1.0 / (1u64 << 24) as f64;

fn random<const D: usize>(dims: [usize; D], spread: f64) -> Tensor<D> {
    Tensor::random(dims, Distribution::Normal(0.0, spread), &Device::flex())
}

fn taped<const D: usize>(x: &Tensor<D>) -> Tensor<D> {
    x.clone().autodiff().require_grad()
}

fn wide<const D: usize>(x: &Tensor<D>) -> Tensor<D> {
    x.clone().cast(DType::F64)
}

fn host<const D: usize>(x: Tensor<D>) -> Vec<f64> {
    x.into_data().convert::<f64>().try_into_vec_as::<f64>().unwrap()
}

/// |got − expected| ≤ `units` · 2⁻²⁴ · the largest entry of `size`.
#[track_caller]
fn close<const D: usize>(what: &str, got: Tensor<D>, expected: Tensor<D>, size: f64, units: f64) {
    assert_eq!(got.dims(), expected.dims(), "{what}");
    let bound = units * UNIT * size;
    // Of what is compared little may be wrong before it is noticed.
    assert!(bound <= 1e-3 * size, "{what}: a bound of {bound:.1e} of {size:.1e} shows nothing");
    for (i, (got, expected)) in host(got).into_iter().zip(host(expected)).enumerate() {
        assert!((got - expected).abs() <= bound, "{what}[{i}]: {got} for {expected}, bound {bound:.1e}");
    }
}

fn largest<const D: usize>(x: &Tensor<D>) -> f64 {
    host(x.clone()).into_iter().fold(0.0, |largest, x| largest.max(x.abs()))
}

#[test]
fn the_exponential_holds_its_precision_down_to_the_smallest_numbers() {
    for i in 0..=870_000 {
        let x = -(i as f32) * 1e-4;
        let (got, expected) = (f64::from(math::exp(x)), f64::from(x).exp());
        // Two roundings of the last product and sum, one of r relative to 1, and that of the polynomial.
        assert!((got / expected - 1.0).abs() <= 4.0 * UNIT, "{x}: {got} for {expected}");
    }
    assert_eq!(math::exp(0.0).to_bits(), 1f32.to_bits());
    assert!(math::exp(f32::NAN).is_nan());
    for x in [-88.0, -1e30, f32::NEG_INFINITY] {
        assert!((0.0..2e-38).contains(&math::exp(x)), "{x}");
    }
}

#[test]
fn gelu_and_its_derivative_are_those_of_the_error_function() {
    let values: Vec<f32> = (-16_000..=16_000).map(|i| i as f32 * 1e-3).collect();
    let n = values.len();
    let x = Tensor::<2>::from_data(TensorData::new(values, [1, n]), &Device::flex());
    let plain = gelu(&x).unwrap();
    let expected = activation::gelu(wide(&x));
    // Φ is within 4 units of 1 (module docs of `math`), and where it is small its error is relative to it.
    for ((got, expected), x) in host(plain.clone()).into_iter().zip(host(expected)).zip(host(x.clone())) {
        assert!((got - expected).abs() <= 5.0 * UNIT * x.abs(), "{x}: {got} for {expected}");
    }
    let (short, long) = (taped(&x), taped(&wide(&x)));
    let slopes = short.grad(&gelu(&short).unwrap().sum().backward()).unwrap();
    let expected = long.grad(&activation::gelu(long.clone()).sum().backward()).unwrap();
    // Φ + x φ: 4 units of 1, and of x φ (at most 0.25) the exponential's 4 and those of the argument's rounding, x²/2
    // units: x³ φ / 2 is below 0.24 everywhere.
    close("slope", slopes, expected, 1.0, 8.0);
    let ends = Tensor::<1>::from_floats([f32::INFINITY, 60.0, -60.0, f32::NAN, 3e38, -3e38], &Device::flex());
    let values = host(gelu(&ends).unwrap());
    assert!(
        values[0] == f64::INFINITY && values[1] == 60.0 && values[2] == 0.0 && values[3].is_nan(),
        "{values:?}"
    );
    let ends = taped(&ends);
    let slopes = host(ends.grad(&gelu(&ends).unwrap().sum().backward()).unwrap());
    // PyTorch's: ∞ · 0 is not a number.
    assert!(slopes[0].is_nan() && slopes[3].is_nan(), "{slopes:?}");
    assert_eq!([slopes[1], slopes[2], slopes[4], slopes[5]], [1.0, 0.0, 1.0, 0.0]);
}

#[test]
fn columns_of_a_sample_share_its_derivatives() {
    Device::flex().seed(3);
    let (b, c, size) = (3, 4, 37);
    let (x, g) = (random([b, 1, size], 1.5), random([b * c, 1, size], 1.0));
    let got = gelu_back(&x, &g, c).unwrap();
    for sample in 0..b {
        for column in 0..c {
            let row = sample * c + column;
            let one = |t: &Tensor<3>, i: usize| t.clone().slice_dim(0, i..i + 1);
            let expected = gelu_back(&one(&x, sample), &one(&g, row), 1).unwrap();
            assert_eq!(host(one(&got, row)), host(expected), "{row}");
        }
    }
}

/// Burn's own layer in the precision of its inputs.
fn by_burn(x: Tensor<3>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<3> {
    let [n, t, inputs] = x.dims();
    let [_, outputs] = weight.dims();
    let y = x.reshape([n * t, inputs]).matmul(weight);
    let y = bias.map_or(y.clone(), |bias| y + bias.reshape([1, outputs]));
    y.reshape([n, t, outputs])
}

#[test]
fn linear_layers_and_their_gradients_are_those_of_the_definition() {
    Device::flex().seed(7);
    // Of one, of less than a tile, across several blocks of samples, of panels of every width.
    for [n, t, inputs, outputs] in
        [[1, 1, 1, 1], [2, 3, 5, 8], [3, 200, 7, 10], [4, 128, 48, 96], [5, 65, 30, 130], [1, 49, 200, 33]]
    {
        for with_bias in [true, false] {
            let (x, g) = (random([n, t, inputs], 1.0), random([n, t, outputs], 1.0));
            let (weight, bias) = (random([inputs, outputs], 1.0), random([outputs], 1.0));
            let bias = with_bias.then_some(bias);
            let own = |x: Tensor<3>, w: Tensor<2>, b: Option<Tensor<1>>| linear(&x, &w, b.as_ref()).unwrap();
            let all = |f: &dyn Fn(Tensor<3>, Tensor<2>, Option<Tensor<1>>) -> Tensor<3>,
                       exact: bool,
                       size: bool| {
                let dress = |t: Tensor<1>| if size { t.abs() } else { t };
                let [x, g] = [&x, &g].map(|t| if size { t.clone().abs() } else { t.clone() });
                let weight = if size { weight.clone().abs() } else { weight.clone() };
                let bias = bias.clone().map(dress);
                let (x, weight, bias) = if exact {
                    (taped(&wide(&x)), taped(&wide(&weight)), bias.map(|b| taped(&wide(&b))))
                } else {
                    (taped(&x), taped(&weight), bias.map(|b| taped(&b)))
                };
                let g = if exact { wide(&g) } else { g };
                let y = f(x.clone(), weight.clone(), bias.clone());
                let gradients = (y.clone() * g.autodiff()).sum().backward();
                let of_bias = bias.map(|bias| bias.grad(&gradients).unwrap());
                (y.inner(), x.grad(&gradients).unwrap(), weight.grad(&gradients).unwrap(), of_bias)
            };
            let (got, expected, size) =
                (all(&own, false, false), all(&by_burn, true, false), all(&by_burn, true, true));
            // A rounding of each product and of each sum, of the magnitudes of what is summed.
            let units = |terms: usize| 2.0 * (terms + 1) as f64;
            close("y", got.0, expected.0, largest(&size.0), units(inputs));
            close("x'", got.1, expected.1, largest(&size.1), units(outputs));
            close("W'", got.2, expected.2, largest(&size.2), units(n * t));
            assert_eq!(got.3.is_some(), with_bias);
            if let (Some(got), Some(expected), Some(size)) = (got.3, expected.3, size.3) {
                close("b'", got, expected, largest(&size), units(n * t));
            }
        }
    }
}

#[test]
fn linear_layers_of_other_sizes_are_not_for_the_kernel() {
    let (x, weight, bias) = (random([2, 3, 4], 1.0), random([4, 5], 1.0), random([5], 1.0));
    assert_eq!(linear(&x, &weight, Some(&bias)).unwrap().dims(), [2, 3, 5]);
    assert!(linear(&x, &random([3, 5], 1.0), None).is_none());
    assert!(linear(&x, &weight, Some(&random([4], 1.0))).is_none());
    assert!(linear(&wide(&x), &wide(&weight), None).is_none());
    assert!(linear(&x.clone().slice_dim(1, 0..0), &weight, None).is_none());
    // What is turned lies otherwise in memory and is the same.
    let turned = weight.clone().transpose().reshape([5, 4]);
    let turned = Tensor::<2>::from_data(turned.to_data(), &Device::flex()).transpose();
    assert_eq!(host(linear(&x, &turned, None).unwrap()), host(linear(&x, &weight, None).unwrap()));
    // What is frozen has no gradient, and the rest has its own.
    let (tx, tw) = (taped(&x), taped(&weight));
    let both = linear(&tx, &tw, None).unwrap().sum().backward();
    let y = linear(&tx, &weight.clone().autodiff(), Some(&bias.clone().autodiff())).unwrap();
    assert_eq!(host(tx.grad(&y.sum().backward()).unwrap()), host(tx.grad(&both).unwrap()));
    let frozen = x.clone().autodiff();
    let gradients = linear(&frozen, &tw, None).unwrap().sum().backward();
    assert_eq!(host(tw.grad(&gradients).unwrap()), host(tw.grad(&both).unwrap()));
    assert!(frozen.grad(&gradients).is_none());
}

#[test]
fn products_do_not_depend_on_the_number_of_threads() {
    Device::flex().seed(9);
    let (x, weight, g) = (random([6, 100, 40], 1.0), random([40, 70], 1.0), random([6, 100, 70], 1.0));
    let bias = random([70], 1.0);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (x, weight, bias) = (taped(&x), taped(&weight), taped(&bias));
            let y = linear(&x, &weight, Some(&bias)).unwrap();
            let gradients = (y.clone() * g.clone().autodiff()).sum().backward();
            let of = [host(x.grad(&gradients).unwrap()), host(weight.grad(&gradients).unwrap())];
            (host(y.inner()), of, host(bias.grad(&gradients).unwrap()))
        })
    };
    assert_eq!(run(1), run(3));
}

/// Burn's operations in the precision of `x`.
fn by_parts(x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, epsilon: f64) -> Tensor<2> {
    let centred = x.clone() - x.mean_dim(1);
    let variance = centred.clone().square().mean_dim(1);
    centred / variance.add_scalar(epsilon).sqrt() * gamma.unsqueeze() + beta.unsqueeze()
}

#[test]
fn layer_norms_and_their_gradients_are_those_of_the_formula() {
    Device::flex().seed(4);
    for (rows, d, epsilon) in [(1, 2, 1e-5), (3, 17, 1e-12), (70, 128, 1e-6), (200, 33, 0.1)] {
        let (x, g) = (random([rows, d], 2.0).add_scalar(0.7), random([rows, d], 1.0));
        let (gamma, beta) = (random([d], 1.0), random([d], 1.0));
        let [x32, x64] = [taped(&x), taped(&wide(&x))];
        let [gamma32, gamma64] = [taped(&gamma), taped(&wide(&gamma))];
        let [beta32, beta64] = [taped(&beta), taped(&wide(&beta))];
        let short = layer_norm(&x32, &gamma32, &beta32, epsilon).unwrap();
        let long = by_parts(x64.clone(), gamma64.clone(), beta64.clone(), epsilon);
        // A sum of d entries on sixteen lanes is off by d/16 + 1 units of the sum of their sizes; a row's smallest
        // deviation is what the mean's error is divided by.
        let deviation = host(x.clone().var_bias(1).sqrt()).into_iter().fold(f64::INFINITY, f64::min);
        let units = (d as f64 / 16.0 + 8.0) * (1.0 + largest(&x) / deviation);
        close("y", short.clone().inner(), long.clone().inner(), largest(&long.clone().inner()), units);
        let short = (short * g.clone().autodiff()).sum().backward();
        let long = (long * wide(&g).autodiff()).sum().backward();
        let (got, expected) = (x32.grad(&short).unwrap(), x64.grad(&long).unwrap());
        let size = largest(&g) * largest(&gamma) / deviation;
        close("x'", got, expected, size, 4.0 * units);
        let (got, expected) = (gamma32.grad(&short).unwrap(), gamma64.grad(&long).unwrap());
        let rows = rows as f64;
        close("gamma'", got, expected, rows * largest(&g), units + 64.0);
        close("beta'", beta32.grad(&short).unwrap(), beta64.grad(&long).unwrap(), rows * largest(&g), 64.0);
    }
}

#[test]
fn frozen_layer_norms_have_the_same_input_gradient() {
    Device::flex().seed(5);
    let (x, gamma, beta) = (random([9, 20], 1.0), random([20], 1.0), random([20], 1.0));
    let of = |gamma: Tensor<1>, beta: Tensor<1>| {
        let x = taped(&x);
        let gradients = layer_norm(&x, &gamma, &beta, 1e-6).unwrap().square().sum().backward();
        host(x.grad(&gradients).unwrap())
    };
    assert_eq!(of(taped(&gamma), taped(&beta)), of(gamma.autodiff(), beta.autodiff()));
}

/// Attention by Burn's operations in the precision of the inputs.
fn attention_by_parts(heads: usize, [q, k, v]: [Tensor<3>; 3]) -> Tensor<3> {
    let [n, t, d] = q.dims();
    let split = |x: Tensor<3>| x.reshape([n, t, heads, d / heads]).swap_dims(1, 2);
    let scale = ((d / heads) as f64).sqrt().recip();
    let weights = softmax(split(q).matmul(split(k).swap_dims(2, 3)).mul_scalar(scale), 3);
    weights.matmul(split(v)).swap_dims(1, 2).reshape([n, t, d])
}

#[test]
fn attention_and_its_gradients_are_those_of_the_formula() {
    Device::flex().seed(6);
    for (n, t, heads, e) in [(1, 1, 1, 1), (2, 5, 3, 4), (3, 17, 2, 16), (2, 65, 4, 32), (1, 33, 1, 70)] {
        let inputs: [Tensor<3>; 3] = std::array::from_fn(|_| random([n, t, heads * e], 1.0));
        let g = random([n, t, heads * e], 1.0);
        let short = inputs.clone().map(|x| taped(&x));
        let long = inputs.clone().map(|x| taped(&wide(&x)));
        let [q, k, v] = &short;
        let y = attention(heads, q, k, v).unwrap();
        let expected = attention_by_parts(heads, long.clone());
        // Scores are sums of e products and are off by about √e units of their size, which is some units; weights by as
        // much relative to themselves, and results are sums of t of them: a few times √e + √t units of the results' size
        // would do, and e + t + 16 leaves room for the largest of thousands. A wrong index is off by the size itself.
        let units = 4.0 * (e + t + 16) as f64;
        let size = largest(&expected.clone().inner());
        close("y", y.clone().inner(), expected.clone().inner(), size, units);
        let gradients = (y * g.clone().autodiff()).sum().backward();
        let expected = (expected * wide(&g).autodiff()).sum().backward();
        for ((name, short), long) in ["q", "k", "v"].into_iter().zip(&short).zip(&long) {
            let (got, expected) = (short.grad(&gradients).unwrap(), long.grad(&expected).unwrap());
            // As above, through two more products; of a single token q and k have no gradient, but for roundings of g.
            let size = largest(&expected).max(1e-2 * largest(&g));
            close(name, got, expected, size, 2.0 * units);
        }
    }
}

#[test]
fn nothing_is_taken_that_does_not_fit() {
    let x = random([2, 4, 6], 1.0);
    assert!(attention(4, &x, &x, &x).is_none());
    assert!(attention(0, &x, &x, &x).is_none());
    assert!(attention(2, &x, &x, &random([2, 3, 6], 1.0)).is_none());
    assert!(attention(2, &wide(&x), &wide(&x), &wide(&x)).is_none());
    assert!(gelu(&wide(&x)).is_none());
}
