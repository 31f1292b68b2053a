//! A branched layer in one piece against its three parts in float64, forward and back.
//!
//! Tolerance: a float32 sum of k products is off by at most k · 2⁻²⁴ times the sum of the products' absolute values;
//! nested sums add up their lengths. That magnitude is what the same expression makes of absolute values.

use burn::Tensor;
use burn::module::{Param, ParamId};
use burn::nn::conv::Conv2d;
use burn::nn::{Linear, PaddingConfig2d};
use burn::tensor::{DType, Device, Distribution};

use crate::layer::low_rank;
use crate::tape::{Op, Tape, Var};

const FACTOR: f64 = 1.5;

/// What is made of some numbers: the result, and the gradients of x, A and B.
type Values = [Vec<f64>; 4];

fn host<const D: usize>(x: Tensor<D>) -> Vec<f64> {
    x.into_data().convert::<f64>().try_into_vec_as::<f64>().unwrap()
}

fn random<const D: usize>(dims: [usize; D]) -> Tensor<D> {
    Tensor::random(dims, Distribution::Normal(0.0, 1.0), &Device::flex())
}

/// A copy on the autodiff device, in float64 and of absolute values where asked for.
fn tracked<const D: usize>(x: &Tensor<D>, wide: bool, absolute: bool) -> Tensor<D> {
    let x = if absolute { x.clone().abs() } else { x.clone() };
    let x = if wide { x.cast(DType::F64) } else { x };
    Tensor::from_inner(x).require_grad()
}

fn param<const D: usize>(value: Tensor<D>) -> Param<Tensor<D>> {
    Param::initialized(ParamId::new(), value)
}

/// |got − expected| ≤ terms · 2⁻²⁴ · magnitude, entry by entry.
#[track_caller]
fn close(got: &Values, expected: &Values, magnitude: &Values, terms: [usize; 4]) {
    for (which, terms) in terms.into_iter().enumerate() {
        assert_eq!(got[which].len(), expected[which].len());
        let bound = (terms + 8) as f64 * 2f64.powi(-24);
        for ((got, expected), magnitude) in got[which].iter().zip(&expected[which]).zip(&magnitude[which]) {
            assert!((got - expected).abs() <= bound * magnitude, "{which}: {got} {expected} of {magnitude}");
        }
    }
}

/// Everything but the numbers of a convolution.
struct Case {
    n: usize,
    channels: usize,
    outputs: usize,
    rank: usize,
    size: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: PaddingConfig2d,
    bias: bool,
}

impl Case {
    /// x, W, A, B, bias, and a cotangent of the result.
    fn numbers(&self) -> ([Tensor<4>; 4], Tensor<1>, Tensor<4>) {
        let &Self { n, channels, outputs, rank, size: [h, w], kernel: [kh, kw], .. } = self;
        let x = random([n, channels, h, w]);
        let weights = [random([outputs, channels, kh, kw]), random([rank, channels, kh, kw])];
        let [weight, a] = weights;
        let layer = self.layer(weight.clone(), None);
        let cotangent = random(layer.forward(x.clone()).dims());
        ([x, weight, a, random([outputs, rank, 1, 1])], random([outputs]), cotangent)
    }

    fn layer(&self, weight: Tensor<4>, bias: Option<Tensor<1>>) -> Conv2d {
        Conv2d {
            weight: param(weight),
            bias: bias.map(param),
            stride: self.stride,
            kernel_size: self.kernel,
            dilation: [1, 1],
            groups: 1,
            padding: self.padding.clone(),
        }
    }

    /// By the whole (float32) or by its three parts in float64.
    fn values(
        &self,
        (numbers, bias, cotangent): &([Tensor<4>; 4], Tensor<1>, Tensor<4>),
        exact: bool,
        absolute: bool,
    ) -> Values {
        let at = |i: usize| tracked(&numbers[i], exact, absolute);
        let (x, weight, a, b) = (at(0), at(1).set_require_grad(false), at(2), at(3));
        let bias = self.bias.then(|| tracked(bias, exact, absolute).set_require_grad(false));
        let layer = self.layer(weight, bias);
        let down = self.layer(a.clone(), None);
        let up = Conv2d {
            kernel_size: [1, 1],
            stride: [1, 1],
            padding: PaddingConfig2d::Valid,
            ..self.layer(b.clone(), None)
        };
        let y = if exact {
            layer.forward(x.clone()) + up.forward(down.forward(x.clone()).mul_scalar(FACTOR))
        } else {
            low_rank::conv(&layer, [&down, &up], FACTOR, x.clone())
        };
        let cotangent = tracked(cotangent, exact, absolute).set_require_grad(false);
        let gradients = (y.clone() * cotangent).sum().backward();
        let [x, a, b] = [x, a, b].map(|t| host(t.grad(&gradients).unwrap()));
        [host(y.inner()), x, a, b]
    }
}

fn case(channels: usize, outputs: usize, rank: usize, size: [usize; 2], kernel: [usize; 2]) -> Case {
    let padding = PaddingConfig2d::Explicit(kernel[0] / 2, kernel[1] / 2, kernel[0] / 2, kernel[1] / 2);
    Case { n: 3, channels, outputs, rank, size, kernel, stride: [1, 1], padding, bias: false }
}

#[test]
fn a_convolution_with_its_branch_is_layer_plus_branch() {
    let cases = [
        case(5, 12, 3, [7, 6], [3, 3]),
        case(4, 33, 8, [8, 8], [3, 3]),
        Case { stride: [2, 2], bias: true, ..case(6, 9, 2, [9, 7], [3, 3]) },
        Case { stride: [2, 2], ..case(6, 20, 1, [8, 8], [1, 1]) },
        Case { stride: [2, 3], padding: PaddingConfig2d::Same, ..case(3, 4, 4, [11, 9], [5, 2]) },
        Case { n: 1, bias: true, ..case(1, 1, 1, [1, 1], [1, 1]) },
    ];
    for case in cases {
        let numbers = case.numbers();
        let got = case.values(&numbers, false, false);
        let [expected, magnitude] = [false, true].map(|absolute| case.values(&numbers, true, absolute));
        let patch = case.channels * case.kernel[0] * case.kernel[1];
        let positions = numbers.2.shape().num_elements() / case.outputs;
        let (o, r) = (case.outputs, case.rank);
        let reach = o * case.kernel[0] * case.kernel[1];
        close(&got, &expected, &magnitude, [patch + r, reach + r, positions + o, positions + patch]);
    }
}

#[test]
fn a_linear_layer_with_its_branch_is_layer_plus_branch() {
    for (tokens, inputs, outputs, rank) in [(7, 12, 9, 3), (1, 1, 1, 1), (65, 48, 96, 8)] {
        let x: Tensor<3> = random([2, tokens, inputs]);
        let numbers = [random([inputs, outputs]), random([inputs, rank]), random([rank, outputs])];
        let (bias, cotangent): (Tensor<1>, Tensor<3>) = (random([outputs]), random([2, tokens, outputs]));
        let values = |exact: bool, absolute: bool| -> (Values, Vec<f64>) {
            let x = tracked(&x, exact, absolute);
            let [weight, a, b] = numbers.each_ref().map(|t: &Tensor<2>| tracked(t, exact, absolute));
            let bias = tracked(&bias, exact, absolute);
            let linear = |weight: &Tensor<2>, bias| Linear {
                weight: param(weight.clone()),
                bias: Option::map(bias, param),
            };
            let layer = linear(&weight.set_require_grad(false), Some(bias.clone()));
            let (down, up) = (linear(&a, None), linear(&b, None));
            let y = if exact {
                layer.forward(x.clone()) + up.forward(down.forward(x.clone()).mul_scalar(FACTOR))
            } else {
                low_rank::linear(&layer, [&down, &up], FACTOR, x.clone())
            };
            let cotangent = tracked(&cotangent, exact, absolute).set_require_grad(false);
            let gradients = (y.clone() * cotangent).sum().backward();
            let [of_a, of_b] = [a, b].map(|t| host(t.grad(&gradients).unwrap()));
            let of_bias = host(bias.grad(&gradients).unwrap());
            ([host(y.inner()), host(x.grad(&gradients).unwrap()), of_a, of_b], of_bias)
        };
        let rows = 2 * tokens;
        let terms = [inputs + rank, outputs + rank, rows + outputs, rows + inputs];
        let ((got, of_bias), (expected, exact), (magnitude, all)) =
            (values(false, false), values(true, false), values(true, true));
        close(&got, &expected, &magnitude, terms);
        for ((got, exact), all) in of_bias.into_iter().zip(exact).zip(all) {
            assert!(
                (got - exact).abs() <= rows as f64 * 2f64.powi(-24) * all,
                "bias: {got} {exact} of {all}"
            );
        }
    }
}

#[test]
fn a_weight_that_trains_keeps_its_gradient() {
    let case = Case { bias: false, ..case(4, 6, 2, [5, 5], [3, 3]) };
    let ([x, weight, a, b], _, _) = case.numbers();
    let [weight, a, b] = [weight, a, b].map(|t| tracked(&t, false, false));
    let (layer, down) = (case.layer(weight.clone(), None), case.layer(a, None));
    let up = Conv2d { kernel_size: [1, 1], padding: PaddingConfig2d::Valid, ..case.layer(b, None) };
    let y = low_rank::conv(&layer, [&down, &up], FACTOR, Tensor::from_inner(x));
    let gradients = y.sum().backward();
    assert!(host(weight.grad(&gradients).unwrap()).iter().any(|&g| g != 0.0));
}

/// A recording sees layer, branch and sum, and makes of them what a plain run does.
#[test]
fn a_recording_keeps_the_parts() {
    let case = case(4, 6, 2, [5, 5], [3, 3]);
    let ([x, weight, a, b], _, _) = case.numbers();
    let (layer, down) = (case.layer(weight, None), case.layer(a, None));
    let up = Conv2d { kernel_size: [1, 1], padding: PaddingConfig2d::Valid, ..case.layer(b, None) };
    let branched = Op::BranchedConv2d { layer: &layer, down: &down, up: &up, factor: FACTOR };
    let run = |tape: &mut dyn Tape| -> Vec<f64> {
        let x = tape.constant(x.clone());
        let y = tape.run(branched, crate::tape::Inputs::One(x.into_any()));
        host(Var::<4>::from_any(y).into_value())
    };
    let mut record = crate::tape::Record::new([down.weight.id, up.weight.id]);
    let (recorded, plain) = (run(&mut record), run(&mut crate::tape::Plain));
    assert_eq!(record.finish(Some(0), 3).unwrap().nodes.len(), 4);
    let most = plain.iter().fold(0f64, |most, y| most.max(y.abs()));
    for (a, b) in recorded.into_iter().zip(plain) {
        assert!((a - b).abs() <= 64.0 * 2f64.powi(-24) * most, "{a} {b}");
    }
}
