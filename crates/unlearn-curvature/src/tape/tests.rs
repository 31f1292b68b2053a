use burn::nn::conv::Conv2dConfig;
use burn::nn::pool::MaxPool2dConfig;
use burn::nn::{BatchNormConfig, LayerNormConfig, LinearConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor, TensorData, activation};

use super::*;

fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 53 % 97) as f32) / 24.0 - 2.0).collect()
}

fn tensor<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values(shape.iter().product()), shape), &Device::flex())
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec_as::<f32>().unwrap()
}

/// Runs one operation on the plain tape.
fn plain<const I: usize, const O: usize>(
    x: Tensor<I>,
    run: impl FnOnce(&mut dyn Tape, Var<I>) -> Var<O>,
) -> Tensor<O>
where
    Tensor<I>: Ranked<I>,
{
    let mut plain = Plain;
    let tape: &mut dyn Tape = &mut plain;
    let x = tape.constant(x);
    run(tape, x).into_value()
}

#[track_caller]
fn same<const D: usize>(got: Tensor<D>, expected: Tensor<D>) {
    assert_eq!(got.dims(), expected.dims());
    assert_eq!(host(got), host(expected));
}

/// What may run on kernels of our own. Convolutions: 27 products of values below 2 in another order, so at most
/// (27 + 2) · 2⁻²⁴ · 27 · 4 apart. Norms, activations: a handful of roundings of values below 2.
#[track_caller]
fn near<const D: usize>(got: Tensor<D>, expected: Tensor<D>) {
    assert_eq!(got.dims(), expected.dims());
    for (got, expected) in host(got).into_iter().zip(host(expected)) {
        assert!((got - expected).abs() < 2e-4, "{got} {expected}");
    }
}

#[test]
fn layers_are_burns_own_calls() {
    let device = Device::flex();
    let x = tensor([2, 3, 6, 6]);
    let conv = Conv2dConfig::new([3, 4], [3, 3])
        .with_stride([2, 2])
        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        .init(&device);
    near(plain(x.clone(), |t, x| t.conv2d(&conv, x)), conv.forward(x.clone()));
    let pool = MaxPool2dConfig::new([3, 3])
        .with_strides([2, 2])
        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        .init();
    same(plain(x.clone(), |t, x| t.max_pool2d(&pool, x)), pool.forward(x.clone()));
    let norm = BatchNormConfig::new(3).init(&device);
    near(plain(x.clone(), |t, x| t.batch_norm(&norm, x)), norm.forward(x.clone()));
    let expected = activation::relu(norm.forward(x.clone()));
    near(plain(x.clone(), |t, x| t.batch_norm_relu(&norm, x)), expected);
    let end = plain(x.clone(), |t, x| {
        let y = t.scale(-2.0, x.clone());
        t.add_relu(y, x)
    });
    same(end, activation::relu(x.mul_scalar(-2.0) + tensor([2, 3, 6, 6])));

    let rows = tensor([4, 5]);
    let linear = LinearConfig::new(5, 3).init(&device);
    same(plain(rows.clone(), |t, x| t.linear(&linear, x)), linear.forward(rows.clone()));
    let norm = LayerNormConfig::new(5).init(&device);
    same(plain(rows.clone(), |t, x| t.layer_norm(&norm, x)), norm.forward(rows));
    let tokens = tensor([2, 4, 5]);
    same(plain(tokens.clone(), |t, x| t.linear(&linear, x)), linear.forward(tokens.clone()));
    same(plain(tokens.clone(), |t, x| t.layer_norm(&norm, x)), norm.forward(tokens));
}

#[test]
fn activations_and_sums_work_at_every_rank() {
    same(plain(tensor([2, 3]), |t, x| t.relu(x)), activation::relu(tensor([2, 3])));
    same(plain(tensor([2, 3, 4]), |t, x| t.relu(x)), activation::relu(tensor([2, 3, 4])));
    same(plain(tensor([2, 3, 4, 5]), |t, x| t.relu(x)), activation::relu(tensor([2, 3, 4, 5])));
    near(plain(tensor([2, 3]), |t, x| t.gelu(x)), activation::gelu(tensor([2, 3])));
    same(plain(tensor([2, 3]), |t, x| t.add(x.clone(), x)), tensor([2, 3]).mul_scalar(2.0));
    same(plain(tensor([2, 3, 4]), |t, x| t.add(x.clone(), x)), tensor([2, 3, 4]).mul_scalar(2.0));
    same(plain(tensor([1, 2, 3, 4]), |t, x| t.add(x.clone(), x)), tensor([1, 2, 3, 4]).mul_scalar(2.0));
}

#[test]
fn normalisation_is_per_channel() {
    let device = Device::flex();
    let mean = Tensor::<1>::from_data([0.5, -1.0], &device);
    let std = Tensor::<1>::from_data([2.0, 0.25], &device);
    let got = host(plain(tensor([2, 2, 3, 1]), |t, x| t.normalize(&mean, &std, x)));
    let expected: Vec<f32> = values(12)
        .iter()
        .enumerate()
        .map(|(i, x)| if (i / 3) % 2 == 0 { (x - 0.5) / 2.0 } else { (x + 1.0) / 0.25 })
        .collect();
    assert_eq!(got, expected);
}

#[test]
fn the_global_pool_is_a_mean_over_positions() {
    let got = host(plain(tensor([2, 3, 2, 5]), |t, x| t.global_avg_pool(x)));
    let expected: Vec<f32> = values(60).chunks(10).map(|c| c.iter().sum::<f32>() / 10.0).collect();
    for (got, expected) in got.iter().zip(&expected) {
        assert!((got - expected).abs() < 1e-6, "{got} {expected}");
    }
    assert_eq!(got.len(), 6);
}

#[test]
fn the_parameter_free_shortcut_takes_every_second_pixel_and_pads_channels() {
    let (n, c, h, w, pad) = (2, 2, 5, 4, 3);
    let input = values(n * c * h * w);
    let got = plain(tensor([n, c, h, w]), |t, x| t.subsample_pad(pad, x));
    let (oh, ow) = (h.div_ceil(2), w.div_ceil(2));
    assert_eq!(got.dims(), [n, c + 2 * pad, oh, ow]);
    let got = host(got);
    for i in 0..n {
        for channel in 0..c + 2 * pad {
            for row in 0..oh {
                for column in 0..ow {
                    let expected = match channel.checked_sub(pad).filter(|from| *from < c) {
                        Some(from) => input[((i * c + from) * h + 2 * row) * w + 2 * column],
                        None => 0.0,
                    };
                    let at = ((i * (c + 2 * pad) + channel) * oh + row) * ow + column;
                    assert_eq!(got[at], expected, "{i} {channel} {row} {column}");
                }
            }
        }
    }
    let unpadded = plain(tensor([1, 2, 4, 4]), |t, x| t.subsample_pad(0, x));
    assert_eq!(unpadded.dims(), [1, 2, 2, 2]);
}

/// A tape of a user's own: it counts operations and numbers the values it made.
#[derive(Default)]
struct Counting {
    operations: Vec<String>,
    inputs: usize,
}

impl Tape for Counting {
    fn run(&mut self, op: Op<'_>, inputs: Inputs) -> ErasedVar {
        let name = format!("{op:?}");
        self.operations.push(name.split(['(', ' ']).next().unwrap_or_default().to_owned());
        let value = op.compute(inputs.into_values());
        ErasedVar { value, node: Some(self.operations.len()) }
    }

    fn input(&mut self, value: AnyTensor) -> ErasedVar {
        self.inputs += 1;
        ErasedVar { value, node: Some(0) }
    }
}

#[test]
fn a_tape_of_a_users_own_sees_every_operation_and_computes_the_same() {
    let device = Device::flex();
    let conv = Conv2dConfig::new([2, 2], [1, 1]).init(&device);
    let head = LinearConfig::new(2, 3).init(&device);
    let model = |x: Var<4>, tape: &mut dyn Tape| {
        let y = tape.conv2d(&conv, x.clone());
        let y = tape.add(y, x);
        let y = tape.relu(y);
        let y = tape.global_avg_pool(y);
        tape.linear(&head, y)
    };
    let mut counting = Counting::default();
    let tape: &mut dyn Tape = &mut counting;
    let x = tape.constant(tensor([2, 2, 3, 3]));
    assert_eq!(x.node(), Some(0));
    let logits = model(x, tape);
    assert_eq!(logits.node(), Some(5));
    assert_eq!(counting.operations, ["Conv2d", "Add", "Relu", "GlobalAvgPool", "Linear"]);
    assert_eq!(counting.inputs, 1);
    same(logits.into_value(), Plain::forward(tensor([2, 2, 3, 3]), model));
}

#[test]
fn the_plain_tape_follows_nothing() {
    let mut plain = Plain;
    let tape: &mut dyn Tape = &mut plain;
    let x = tape.constant(tensor([2, 3]));
    let y = tape.relu(x.clone());
    assert_eq!((x.node(), y.node()), (None, None));
    assert_eq!(y.dims(), [2, 3]);
    assert_eq!(y.value().dims(), [2, 3]);
}

#[test]
fn gradients_flow_through_the_plain_tape() {
    let device = Device::flex().autodiff();
    let x = Tensor::<2>::from_data([[-1.0, 2.0]], &device).require_grad();
    let y = plain(x.clone(), |t, x| t.relu(x));
    let gradient = x.grad(&y.sum().backward()).unwrap();
    assert_eq!(host(gradient), [0.0, 1.0]);
}

/// Burn's own assertion speaks, whether our kernels are there or not.
#[test]
fn norms_of_other_sizes_are_refused() {
    for autodiff in [false, true] {
        let device = if autodiff { Device::flex().autodiff() } else { Device::flex() };
        let norm = BatchNormConfig::new(4).init(&device);
        let rows = LayerNormConfig::new(3).init(&device);
        for channels in [1, 3, 5] {
            let x = || Tensor::<4>::from_data(tensor([2, channels, 3, 3]).into_data(), &device);
            let run = || plain(x(), |t, x| t.batch_norm(&norm, x));
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err(), "{channels}");
            let run = || plain(x(), |t, x| t.batch_norm_relu(&norm, x));
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err(), "{channels}");
        }
        let x = || Tensor::<2>::from_data(tensor([2, 6]).into_data(), &device);
        let run = || plain(x(), |t, x| t.layer_norm(&rows, x));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
    }
}

#[test]
fn batch_norms_train_under_gradient_checkpointing() {
    let device = Device::flex().autodiff().gradient_checkpointing();
    let norm = BatchNormConfig::new(3).init(&device);
    let x = Tensor::<4>::from_data(tensor([2, 3, 4, 4]).into_data(), &device).require_grad();
    let y = plain(x.clone(), |t, x| t.batch_norm_relu(&norm, x));
    let gradients = y.clone().square().sum().backward();
    assert!(host(x.grad(&gradients).unwrap()).iter().any(|&g| g != 0.0));
    let mean = norm.running_mean.value_sync();
    assert!(host(mean).iter().any(|&m| m != 0.0));
}
