//! What a marked pass will not do, and says so.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::Probes;
use crate::sweep::tests::{samples, unsupported};
use crate::{CurvatureError, FisherDiag, PerSample};

#[derive(Module, Debug)]
struct Small {
    conv: Conv2d,
    norm: BatchNorm,
    head: Linear,
}

fn small(groups: usize) -> Small {
    let device = Device::flex();
    Small {
        conv: Conv2dConfig::new([2, 4], [3, 3]).with_groups(groups).init(&device),
        norm: BatchNormConfig::new(4).init(&device),
        head: LinearConfig::new(4, 3).init(&device),
    }
}

fn pooled(x: Tensor<4>) -> Tensor<2> {
    x.mean_dims(&[2, 3]).flatten(1, 3)
}

/// `between` comes between the batch norm and the head.
fn with(
    net: &Small,
    images: Tensor<4>,
    probes: &mut Probes,
    between: impl FnOnce(Tensor<2>) -> Tensor<2>,
) -> Tensor<2> {
    let x = probes.conv2d(&net.conv, images);
    let x = pooled(probes.batch_norm(&net.norm, x));
    probes.linear(&net.head, between(x))
}

/// What is said about a pass over four samples.
fn said(
    net: &Small,
    forward: impl Fn(&Small, Tensor<4>, &mut Probes) -> Tensor<2>,
) -> Result<usize, CurvatureError> {
    FisherDiag::exact().marked().run(net, forward, &samples(4, 3)).map(|diagonal| diagonal.count)
}

#[test]
fn nothing_is_said_about_a_good_pass() {
    let good = |net: &Small, x: Tensor<4>, probes: &mut Probes| with(net, x, probes, Tensor::tanh);
    assert_eq!(said(&small(1), good), Ok(4));
}

#[test]
fn parameters_that_no_marked_layer_holds() {
    let net = small(1);
    let plain = |net: &Small, x: Tensor<4>, probes: &mut Probes| {
        let x = probes.conv2d(&net.conv, x);
        net.head.forward(pooled(net.norm.forward(x)))
    };
    let parameters = ["head.bias", "head.weight", "norm.beta", "norm.gamma"].map(String::from).to_vec();
    let expected = CurvatureError::Unmarked { parameters };
    assert_eq!(said(&net, plain), Err(expected.clone()));
    assert!(expected.to_string().contains("\"norm.gamma\"") && expected.to_string().contains("freeze"));
    assert_eq!(PerSample::new().marked().norms_squared(&net, plain, &samples(4, 3)), Err(expected));
    // Frozen, they may be used as they are.
    let mut frozen = net;
    (frozen.norm, frozen.head) = (frozen.norm.no_grad(), frozen.head.no_grad());
    assert_eq!(said(&frozen, plain), Ok(4));
}

#[test]
fn layers_of_another_model() {
    let other = small(1).valid();
    let foreign = |net: &Small, x: Tensor<4>, probes: &mut Probes| {
        let x = probes.conv2d(&net.conv, x);
        let x = probes.batch_norm(&net.norm, x);
        probes.linear(&other.head, pooled(x))
    };
    let refused = said(&small(1), foreign);
    assert!(
        matches!(&refused, Err(CurvatureError::Argument { field: "a marked layer", got, .. }) if got.contains("linear")),
        "{refused:?}"
    );
}

#[test]
fn parameters_that_are_used_beside_their_layer() {
    let beside = |net: &Small, x: Tensor<4>, probes: &mut Probes| {
        let penalty = net.head.weight.val().square().sum().reshape([1, 1]);
        with(net, x, probes, |x| x) * (penalty + 1.0)
    };
    unsupported(said(&small(1), beside), "`head.weight` beside");
    // Computed from the model's own, under their identifier.
    let scaled = |net: &Small, x: Tensor<4>, probes: &mut Probes| {
        let mut net = net.clone();
        net.head.weight = net.head.weight.map(|weight| weight * 2.0);
        with(&net, x, probes, |x| x)
    };
    unsupported(said(&small(1), scaled), "computed from those of the model");
}

#[test]
fn samples_that_see_one_another() {
    let net = small(1);
    let centred =
        |net: &Small, x: Tensor<4>, probes: &mut Probes| with(net, x, probes, |x| x.clone() - x.mean_dim(0));
    unsupported(said(&net, centred), "mixes the samples");
    let turned = |net: &Small, x: Tensor<4>, probes: &mut Probes| with(net, x, probes, |x| x.flip([0]));
    unsupported(said(&net, turned), "mixes the samples");
}

#[test]
fn rows_that_are_not_samples() {
    let net = small(1);
    let flat = |net: &Small, x: Tensor<4>, probes: &mut Probes| {
        let x = probes.conv2d(&net.conv, x);
        let x = probes.batch_norm(&net.norm, x);
        let [n, c, height, width] = x.dims();
        let rows = x.permute([0, 2, 3, 1]).reshape([n * height * width, c]);
        probes.linear(&net.head, rows).reshape([n, height * width, 3]).mean_dim(1).squeeze_dim(1)
    };
    unsupported(said(&net, flat), "a linear layer on 35 rows of 1 samples");
    let half = |net: &Small, x: Tensor<4>, probes: &mut Probes| with(net, x, probes, |x| x).repeat_dim(0, 2);
    unsupported(said(&net, half), "2 rows of 1 pictures");
    let vector = |net: &Small, x: Tensor<4>, probes: &mut Probes| {
        let x = with(net, x, probes, |x| x);
        let extra = probes.linear(&net.head, Tensor::<1>::ones([4], &x.device()));
        x + extra.unsqueeze()
    };
    unsupported(said(&net, vector), "a linear layer on 0 rows");
}

#[test]
fn layers_that_cannot_be_marked() {
    let grouped = |net: &Small, x: Tensor<4>, probes: &mut Probes| with(net, x, probes, |x| x);
    unsupported(said(&small(2), grouped), "2 groups");
    let training = |net: &Small, x: Tensor<4>, probes: &mut Probes| {
        let mut net = net.clone();
        net.norm = net.norm.train();
        with(&net, x, probes, |x| x)
    };
    unsupported(said(&small(1), training), "a batch norm that trains");
}

#[test]
fn marks_that_do_not_lead_to_the_logits() {
    let net = small(1);
    let cut = |net: &Small, x: Tensor<4>, probes: &mut Probes| with(net, x, probes, Tensor::detach);
    unsupported(said(&net, cut), "4 of 6 trainable parameters");
    let all = |net: &Small, x: Tensor<4>, probes: &mut Probes| with(net, x, probes, |x| x).detach();
    unsupported(said(&net, all), "6 of 6 trainable parameters");
    let off = |net: &Small, x: Tensor<4>, probes: &mut Probes| with(net, x, probes, |x| x).inner();
    unsupported(said(&net, off), "6 of 6 trainable parameters");
}

/// A layer whose parameters were made anew has identifiers of its own.
#[test]
fn parameters_made_anew() {
    let anew = |net: &Small, x: Tensor<4>, probes: &mut Probes| {
        let mut net = net.clone();
        net.head.weight = Param::from_tensor(net.head.weight.val() * 2.0);
        with(&net, x, probes, |x| x)
    };
    let refused = said(&small(1), anew);
    assert!(matches!(&refused, Err(CurvatureError::Argument { field: "a marked layer", .. })), "{refused:?}");
}
