//! What the engine will not do, and says so.

use burn::module::{Module, ModuleMapper, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{DType, Device, Tensor};

use super::nets::residual;
use super::{forward, samples, tensor, unsupported};
use crate::estimate::Columns;
use crate::oracle::{Oracle, TensorSamples};
use crate::reduce::SumSquares;
use crate::sweep::{Frame, Targets};
use crate::tape::{AnyTensor, Inputs, Op, Record, Tape, TokenPool, Var};
use crate::{CurvatureError, FisherDiag, ParamTree, PerSample};

#[derive(Module, Debug)]
struct Small {
    conv: Conv2d,
    head: Linear,
}

fn small(groups: usize) -> Small {
    let device = Device::flex();
    Small {
        conv: Conv2dConfig::new([2, 4], [3, 3]).with_groups(groups).init(&device),
        head: LinearConfig::new(4, 3).init(&device),
    }
}

fn straight(net: &Small, images: Var<4>, tape: &mut dyn Tape) -> Var<2> {
    let x = tape.conv2d(&net.conv, images);
    let x = tape.relu(x);
    let x = tape.global_avg_pool(x);
    tape.linear(&net.head, x)
}

#[test]
fn grouped_convolutions() {
    unsupported(FisherDiag::exact().run(&small(2), straight, &samples(2, 3)), "2 groups");
    assert!(FisherDiag::exact().run(&small(1), straight, &samples(2, 3)).is_ok());
}

#[test]
fn parameters_that_are_not_float32() {
    struct ToDouble;
    impl ModuleMapper for ToDouble {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|t| t.cast(DType::F64))
        }
    }
    let net = small(1).map(&mut ToDouble);
    unsupported(FisherDiag::exact().run(&net, straight, &samples(2, 3)), "`conv.weight` of type F64");
    let oracle = Oracle::new(&net, |_: &Small, x: Tensor<4>| x.flatten::<2>(1, 3)).map(|_| ());
    unsupported(oracle, "`conv.weight` of type F64");
}

#[test]
fn sums_that_spread_a_followed_summand() {
    let net = small(1);
    let targets = Targets::of(&net).unwrap();
    let run = |other: [usize; 4]| {
        Record::new(targets.ids()).forward(tensor::<4>([2, 2, 3, 3], 0.0), |images, tape| {
            let x = tape.conv2d(&net.conv, images);
            let other = tape.constant(tensor::<4>(other, 1.0));
            let x = tape.add(x, other);
            let x = tape.global_avg_pool(x);
            tape.linear(&net.head, x)
        })
    };
    // The convolution gives 1 × 1: its cotangent would have the shape of the sum.
    unsupported(run([2, 4, 5, 5]), "spreads a summand to [2, 4, 5, 5]");
    assert!(run([2, 4, 1, 1]).is_ok());
    // What is not followed may be spread: nothing is carried back to it.
    assert!(run([1, 4, 1, 1]).is_ok());
}

#[test]
fn autodiff_tensors() {
    let net = residual(3);
    let targets = Targets::of(&net).unwrap();
    let run = |net: &super::Net, images| {
        Record::new(targets.ids())
            .forward(images, |x, tape| net.forward(x, tape))
            .map(|(logits, _)| logits.dims())
    };
    let images = || tensor::<4>([2, 2, 9, 7], 0.0);
    unsupported(run(&net, images().autodiff()), "autodiff");
    unsupported(run(&net.clone().train(), images()), "autodiff");
    assert_eq!(run(&net, images()).unwrap(), [2, 3]);
    // The builders take a plain copy, so a model in training is no obstacle, and is not moved.
    let training = net.clone().train();
    let before = ParamTree::of_parameters(&training);
    FisherDiag::exact().run(&training, forward, &samples(2, 3)).unwrap();
    let moved = ParamTree::of_parameters(&training).sub(&before).unwrap();
    assert_eq!(moved.dot(&moved).unwrap(), 0.0);
}

#[test]
fn parameters_that_do_not_reach_the_logits_on_the_tape() {
    let cut = |net: &Small, images: Var<4>, tape: &mut dyn Tape| {
        let x = tape.conv2d(&net.conv, images);
        // Leaves the tape and comes back as something else.
        let x = tape.constant(x.into_value().mul_scalar(2.0));
        let x = tape.global_avg_pool(x);
        tape.linear(&net.head, x)
    };
    unsupported(FisherDiag::exact().run(&small(1), cut, &samples(2, 3)), "2 of 4 trainable parameters");
    unsupported(FisherDiag::exact().run(&small(1), cut, &samples(2, 3)), "`conv.");
    let never = |net: &Small, images: Var<4>, tape: &mut dyn Tape| {
        let x = tape.constant(images.into_value().mean_dims(&[2, 3]).repeat_dim(1, 2));
        let x = tape.global_avg_pool(x);
        tape.linear(&net.head, x)
    };
    unsupported(FisherDiag::exact().run(&small(1), never, &samples(2, 3)), "2 of 4 trainable parameters");
    let all_off = |net: &Small, images: Var<4>, tape: &mut dyn Tape| {
        let x = straight(net, images, tape);
        tape.constant(x.into_value())
    };
    unsupported(PerSample::new().norms_squared(&small(1), all_off, &samples(2, 3)), "0 of 4");
}

#[test]
fn one_parameter_under_two_names() {
    #[derive(Module, Debug)]
    struct Tied {
        first: Linear,
        second: Linear,
    }
    let linear = LinearConfig::new(3, 3).init(&Device::flex());
    let tied = Tied { first: linear.clone(), second: linear };
    unsupported(Targets::of(&tied).map(|t| t.len()), "two names");
    let oracle = Oracle::new(&tied, |tied: &Tied, x: Tensor<4>| {
        tied.second.forward(tied.first.forward(x.flatten::<2>(1, 3)))
    });
    unsupported(oracle.map(|_| ()), "two names");
}

#[test]
fn positions_that_are_spread_over_tokens() {
    #[derive(Module, Debug)]
    struct Shifted {
        patches: Conv2d,
        shift: Param<Tensor<3>>,
        head: Linear,
    }
    let run = |shape: [usize; 3], frozen: bool| {
        let head = LinearConfig::new(2, 3).init(&Device::flex());
        let patches = Conv2dConfig::new([2, 2], [1, 1]).init(&Device::flex());
        let net = Shifted {
            patches,
            shift: Param::from_tensor(tensor(shape, 0.0)).set_require_grad(!frozen),
            head,
        };
        let forward = |net: &Shifted, images: Var<4>, tape: &mut dyn Tape| {
            let x = tape.patch_embedding(&net.patches, images);
            let x = tape.position(&net.shift, x);
            let x = tape.pool_tokens(TokenPool::Mean, x);
            tape.linear(&net.head, x)
        };
        PerSample::new().norms_squared(&net, forward, &samples(2, 3)).map(|norms| norms.len())
    };
    // Pictures of 9 × 7 pixels and two channels.
    assert_eq!(run([1, 63, 2], false).unwrap(), 2);
    unsupported(run([1, 1, 2], false), "positions of shape [1, 1, 2]");
    assert_eq!(run([1, 1, 2], true).unwrap(), 2, "no gradient is wanted of it");
}

#[test]
fn columns_of_another_number_of_logits() {
    let net = small(1);
    let targets = Targets::of(&net).unwrap();
    let images = tensor::<4>([2, 2, 3, 3], 0.0);
    let recorded = Record::new(targets.ids()).forward(images, |images, tape| straight(&net, images, tape));
    let columns = Columns::new(&[1.0; 2 * 5], 1, 5, 1).unwrap();
    let error = recorded.unwrap().1.sweep(&columns, 0, &targets, &Device::flex(), &mut []).unwrap_err();
    assert!(error.to_string().contains("cotangents of 5 logits"), "{error}");
}

#[test]
fn rows_that_are_not_samples() {
    let half = |net: &Small, images: Var<4>, tape: &mut dyn Tape| {
        let images = tape.constant(images.into_value().narrow(0, 0, 1));
        straight(net, images, tape)
    };
    unsupported(FisherDiag::exact().batch(2).run(&small(1), half, &samples(3, 3)), "1 rows of 2 pictures");
}

#[test]
fn values_of_another_tape() {
    let net = small(1);
    let mut one = Record::new(Targets::of(&net).unwrap().ids());
    let mut x = one.run(
        Op::Conv2d(&net.conv),
        Inputs::One(crate::tape::ErasedVar::untracked(AnyTensor::R4(tensor([1, 2, 5, 5], 0.0)))),
    );
    x = one.run(Op::Relu, Inputs::One(x));
    let mut other = Record::new(Targets::of(&net).unwrap().ids());
    other.run(Op::Relu, Inputs::One(x));
    unsupported(other.finish(None, 1).map(|_| ()), "another tape");
}

#[test]
fn bad_arguments() {
    let (net, all) = (small(1), samples(2, 3));
    for (run, name) in [
        (FisherDiag::exact().batch(0), "batch"),
        (FisherDiag::exact().columns(0), "columns"),
        (FisherDiag::exact().chunk(0), "chunk"),
        (FisherDiag::sign(0), "draws"),
        (FisherDiag::group_mean(0), "size"),
    ] {
        let refused = run.run(&net, straight, &all);
        assert!(
            matches!(refused, Err(CurvatureError::Argument { field, .. }) if field == name),
            "{refused:?}"
        );
    }
    let label = FisherDiag::empirical().run(&net, straight, &samples(2, 4).slice(1..2).unwrap());
    assert!(label.is_ok());
    let label = TensorSamples::new(tensor([1, 2, 9, 7], 0.0), vec![3]).unwrap();
    let label = FisherDiag::empirical().run(&net, straight, &label);
    assert!(matches!(label, Err(CurvatureError::Argument { field: "label", .. })));
    let none = TensorSamples::new(Tensor::empty([0, 2, 9, 7], &Device::flex()), vec![]).unwrap();
    let none = FisherDiag::exact().run(&net, straight, &none);
    assert!(matches!(none, Err(CurvatureError::Argument { field: "samples", .. })));
    let broken = ParamTree::of_parameters(&net).scale(f64::NAN).write_into(&net).unwrap();
    let broken = FisherDiag::exact().run(&broken, straight, &all);
    assert!(matches!(broken, Err(CurvatureError::NonFinite { .. })));
    let frozen = net.clone().no_grad();
    let frozen = FisherDiag::exact().run(&frozen, straight, &all);
    assert!(matches!(frozen, Err(CurvatureError::Argument { field: "model", .. })));
    // Finite logits, but squares that leave float32.
    let huge = TensorSamples::new(tensor::<4>([1, 2, 9, 7], 0.0) * 1e22, vec![0]).unwrap();
    let tiny = ParamTree::of_parameters(&net);
    let tiny = tiny.map(|path, x| if path.as_str() == "conv.weight" { x.mul_scalar(1e-22) } else { x });
    let tiny = tiny.write_into(&net).unwrap();
    let huge = FisherDiag::exact().run(&tiny, straight, &huge);
    assert!(matches!(huge, Err(CurvatureError::NonFinite { .. })), "{huge:?}");
    // Columns of another batch.
    let targets = Targets::of(&net).unwrap();
    let record = Record::new(targets.ids());
    let (_, recording) =
        record.forward(tensor([2, 2, 5, 5], 0.0), |x, tape| straight(&net, x, tape)).unwrap();
    assert_eq!(recording.batch(), 2);
    let columns = Columns::new(&[1.0; 9], 1, 3, 1).unwrap();
    let mut squares = SumSquares::new(1 << 20, None);
    let refused = recording.sweep(&columns, 0, &targets, &Device::flex(), &mut [&mut squares]);
    assert!(matches!(refused, Err(CurvatureError::Argument { field: "columns", .. })));
}

/// Rank 3 cannot reach logits on today's tape, but goes back all the same: against automatic differentiation
/// of ⟨output, cotangent⟩.
#[test]
fn rank_three_goes_back_exactly() {
    #[derive(Module, Debug)]
    struct Tokens {
        linear: Linear,
        norm: LayerNorm,
        last: Linear,
    }
    let device = Device::flex();
    let mut net = Tokens {
        linear: LinearConfig::new(4, 6).init(&device),
        norm: LayerNormConfig::new(6).init(&device),
        last: LinearConfig::new(6, 2).init(&device),
    };
    net.norm.gamma = Param::from_tensor(tensor::<1>([6], 2.0));
    let run = |net: &Tokens, x: Tensor<3>, tape: &mut dyn Tape| {
        let x = tape.constant(x);
        let x = tape.linear(&net.linear, x);
        let x = tape.gelu(x);
        let x = tape.layer_norm(&net.norm, x);
        let y = tape.relu(x.clone());
        let x = tape.add(x, y);
        tape.linear(&net.last, x)
    };
    let (x, cotangent) = (tensor::<3>([1, 5, 4], 1.0), tensor::<3>([1, 5, 2], 8.0));
    let targets = Targets::of(&net).unwrap();
    let mut record = Record::new(targets.ids());
    let out = run(&net, x.clone(), &mut record);
    let recording = record.finish(out.node(), 1).unwrap();
    let columns = Columns::new(&[1.0, 1.0], 1, 2, 1).unwrap();
    let frame = Frame::new(&columns, 0, &device);
    let mut squares = SumSquares::new(1 << 20, None);
    recording.carry(AnyTensor::R3(cotangent.clone()), &frame, &targets, &mut [&mut squares]).unwrap();

    let model = net.valid().train();
    let out = run(&model, x.autodiff(), &mut crate::tape::Plain).into_value();
    let gradients = burn::optim::GradientsParams::from_grads((out * cotangent).sum().backward(), &model);
    let expected = ParamTree::of_gradients(&model, &gradients).map(|_, g| g.square());
    super::same_tree(&squares.finish().unwrap(), &expected, 2e-5);
}
