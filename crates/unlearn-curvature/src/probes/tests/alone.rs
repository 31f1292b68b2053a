//! One sample at a time, with the same builders.

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::{Bare, Odd, Probes, TOLERANCE, forward, odd, oracle, same_solution, through};
use crate::oracle::Oracle;
use crate::sweep::tests::{same, same_tree, samples, unsupported};
use crate::{CurvatureError, FisherDiag, InverseFisher, ParamTree, PerSample};

fn unmarked(net: &Odd, images: Tensor<4>, _: &mut Probes) -> Tensor<2> {
    through(net, images, &mut Bare)
}

#[test]
fn every_estimator_is_that_of_marked_layers() {
    let (net, samples) = (odd(4), samples(7, 4));
    for run in [
        FisherDiag::empirical(),
        FisherDiag::shifted_empirical(0.05),
        FisherDiag::exact(),
        FisherDiag::group_mean(3),
        FisherDiag::sampled(2).seed(3),
        FisherDiag::sign(2).seed(3),
        FisherDiag::hybrid(1, 1).seed(3),
    ] {
        let marked = run.clone().marked().run(&net, forward, &samples).unwrap();
        for alone in [
            run.clone().one_by_one().run(&net, unmarked, &samples).unwrap(),
            run.one_by_one().batch(3).columns(2).run(&net, forward, &samples).unwrap(),
        ] {
            assert_eq!(alone.count, marked.count);
            same_tree(&alone.sum, &marked.sum, TOLERANCE);
        }
    }
    let exact = FisherDiag::exact().one_by_one().run(&net, unmarked, &samples).unwrap();
    same_tree(&exact.sum, &oracle(&net).exact(&samples).unwrap().sum, TOLERANCE);
}

#[test]
fn so_are_inner_and_inverse_products() {
    let (net, samples) = (odd(4), samples(5, 4));
    let weights = [1.0, -1.0, 0.5, 2.0, 0.3];
    let (marked, alone) = (PerSample::new().marked(), PerSample::new().one_by_one());
    let v = marked.weighted_gradient(&net, forward, &samples, &weights).unwrap();
    same_tree(&alone.weighted_gradient(&net, unmarked, &samples, &weights).unwrap(), &v, TOLERANCE);
    let tolerance = f64::from(TOLERANCE);
    let norms = marked.norms_squared(&net, forward, &samples).unwrap();
    same(&alone.norms_squared(&net, unmarked, &samples).unwrap(), &norms, tolerance);
    let expected = marked.pairs(&net, forward, &samples, &v).unwrap();
    for budget in [1 << 30, 0] {
        let pairs = alone.clone().budget(budget).pairs(&net, unmarked, &samples, &v).unwrap();
        same(&pairs.gram, &expected.gram, tolerance);
        same(&pairs.dots, &expected.dots, tolerance);
    }
    let solver = InverseFisher::woodbury(100).damping(1.0);
    let expected = solver.clone().marked().solve(&net, forward, &samples, &v).unwrap();
    let solved = solver.one_by_one().solve(&net, unmarked, &samples, &v).unwrap();
    same_solution(&solved.direction, &expected.direction, &norms, 1.0);
}

/// A parameter of no layer, one that is used twice, and one that is not used: what cannot be marked.
#[derive(Module, Debug)]
struct Free {
    scale: Param<Tensor<1>>,
    tied: Linear,
    idle: Linear,
}

#[test]
fn any_use_of_a_parameter_will_do() {
    let device = Device::flex();
    let net = Free {
        scale: Param::from_data([0.4_f32, -0.7], &device),
        tied: LinearConfig::new(2, 2).init(&device),
        idle: LinearConfig::new(2, 2).init(&device),
    };
    let plain = |net: &Free, images: Tensor<4>| {
        let x = images.mean_dims(&[2, 3]).flatten::<2>(1, 3) * net.scale.val().unsqueeze();
        net.tied.forward(x).sin().matmul(net.tied.weight.val().transpose())
    };
    let with_probes = |net: &Free, images: Tensor<4>, _: &mut Probes| plain(net, images);
    let samples = samples(5, 2);
    let refused = FisherDiag::exact().marked().run(&net, with_probes, &samples).map(|d| d.count);
    assert!(
        matches!(&refused, Err(CurvatureError::Unmarked { parameters }) if parameters.len() == 5),
        "{refused:?}"
    );
    let got = FisherDiag::exact().one_by_one().run(&net, with_probes, &samples).unwrap().sum;
    let expected = Oracle::new(&net, plain).unwrap().exact(&samples).unwrap().sum;
    let used = |tree: &ParamTree| {
        let mut used = ParamTree::new();
        for (path, leaf) in tree.iter() {
            if path.as_str().starts_with("idle") {
                assert!(leaf.to_vec().unwrap().iter().all(|&v| v == 0.0), "{path}");
            } else {
                used.insert(path.clone(), leaf.shape.clone(), leaf.values.clone()).unwrap();
            }
        }
        used
    };
    assert_eq!((got.len(), expected.len()), (5, 5));
    same_tree(&used(&got), &used(&expected), TOLERANCE);
}

#[test]
fn rows_that_are_not_samples() {
    let twice =
        |net: &Odd, images: Tensor<4>, _: &mut Probes| through(net, images, &mut Bare).repeat_dim(0, 2);
    let refused = FisherDiag::exact().one_by_one().run(&odd(3), twice, &samples(2, 3));
    unsupported(refused, "2 rows of 1 pictures");
}
