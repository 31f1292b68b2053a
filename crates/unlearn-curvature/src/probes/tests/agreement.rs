//! The same numbers as the oracle, and as a recorded tape.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{Odd, Probes, TOLERANCE, forward, odd, oracle, same_solution, through};
use crate::inverse::{ReferenceRecursion, reference_recursion, woodbury};
use crate::reduce::{Algorithm, Route};
use crate::sweep::tests::nets::{self, Net};
use crate::sweep::tests::{forward as on_tape, same, same_tree, samples};
use crate::tape::Tape;
use crate::{CurvatureError, FisherDiag, InverseFisher, ParamPath, ParamTree, PerSample, Progress};

/// A forward pass that is written on a tape, marked.
fn taped(net: &Net, images: Tensor<4>, probes: &mut Probes) -> Tensor<2> {
    let tape: &mut dyn Tape = probes;
    let images = tape.constant(images);
    net.forward(images, tape).into_value()
}

#[test]
fn every_estimator_without_draws_is_the_oracle() {
    let (net, samples) = (odd(4), samples(7, 4));
    let oracle = oracle(&net);
    // Batches of three: the last has one sample.
    let empirical = FisherDiag::empirical().marked().batch(3).run(&net, forward, &samples).unwrap();
    same_tree(&empirical.sum, &oracle.empirical(&samples).unwrap().sum, TOLERANCE);
    let exact = FisherDiag::exact().marked().batch(3).run(&net, forward, &samples).unwrap();
    same_tree(&exact.sum, &oracle.exact(&samples).unwrap().sum, TOLERANCE);
    assert_eq!((empirical.count, exact.count), (7, 7));
    for size in [1, 3, 32] {
        let group = FisherDiag::group_mean(size).marked().batch(4).run(&net, forward, &samples).unwrap();
        let expected = oracle.group_mean(&samples, size).unwrap();
        assert_eq!(group.count, expected.count);
        same_tree(&group.sum, &expected.sum, TOLERANCE);
    }
    let shifted = FisherDiag::shifted_empirical(0.05).marked().run(&net, forward, &samples).unwrap();
    same_tree(&shifted.sum, &oracle.shifted_empirical(&samples, 0.05).unwrap().sum, TOLERANCE);
}

#[test]
fn every_quantity_of_samples_is_the_oracles() {
    let (net, n) = (odd(4), 7);
    let (oracle, samples) = (oracle(&net), samples(n, 4));
    let weights: Vec<f64> = (0..n).map(|i| 0.3 * i as f64 - 1.0).collect();
    let direction = oracle.weighted_sum(&samples, &weights).unwrap();
    let expected = oracle.pairs(&samples, &direction).unwrap();
    let norms = oracle.norms_squared(&samples).unwrap();
    let tolerance = f64::from(TOLERANCE);
    for route in [Route::Direct, Route::Ghost] {
        let way = PerSample::new().marked().route(route).batch(3);
        let sum = way.weighted_gradient(&net, forward, &samples, &weights).unwrap();
        same_tree(&sum, &direction, TOLERANCE);
        same(&way.norms_squared(&net, forward, &samples).unwrap(), &norms, tolerance);
        same(&way.dots(&net, forward, &samples, &direction).unwrap(), &expected.dots, tolerance);
        // All held at once; blocks of one.
        for budget in [1 << 30, 0] {
            let pairs = way.clone().budget(budget).pairs(&net, forward, &samples, &direction).unwrap();
            same(&pairs.gram, &expected.gram, tolerance);
            same(&pairs.dots, &expected.dots, tolerance);
        }
    }
}

#[test]
fn inverse_products_are_the_oracles() {
    let (net, samples) = (odd(4), samples(7, 4));
    let oracle = oracle(&net);
    let v = oracle.weighted_sum(&samples, &[1.0, -1.0, 0.5, 2.0, 0.0, 1.0, -0.3]).unwrap();
    let expected = woodbury(&oracle, &samples, &v, 1.0.into()).unwrap();
    let exact = InverseFisher::woodbury(100).damping(1.0).marked();
    let norms = oracle.norms_squared(&samples).unwrap();
    let solved = exact.batch(4).solve(&net, forward, &samples, &v).unwrap();
    assert_eq!((solved.samples, solved.residual < 1e-6), (7, true));
    same_solution(&solved.direction, &expected.direction, &norms, 1.0);
    let iterated = InverseFisher::conjugate_gradient(100).damping(1.0).tolerance(1e-6).marked();
    let iterated = iterated.solve(&net, forward, &samples, &v).unwrap();
    same_solution(&iterated.direction, &expected.direction, &norms, 1.0);
    let recursion = InverseFisher::reference(ReferenceRecursion { n: 5 }).marked();
    let recursion = recursion.solve(&net, forward, &samples, &v).unwrap();
    let expected = reference_recursion(&oracle, &samples, &v, ReferenceRecursion { n: 5 }, 4).unwrap();
    // A difference, of which a quotient of inner products is a factor.
    same_tree(&recursion.direction, &expected, 10.0 * TOLERANCE);
}

#[test]
fn a_tape_that_is_marked_gives_what_a_tape_that_is_recorded_gives() {
    for net in Net::all(4) {
        let samples = samples(7, 4);
        for run in [
            FisherDiag::empirical(),
            FisherDiag::exact(),
            FisherDiag::group_mean(3),
            FisherDiag::sampled(2).seed(3),
            FisherDiag::sign(2).seed(3),
            FisherDiag::hybrid(1, 1).seed(3),
        ] {
            let recorded = run.clone().run(&net, on_tape, &samples).unwrap();
            let marked = run.clone().marked().batch(3).run(&net, taped, &samples).unwrap();
            assert_eq!(recorded.count, marked.count);
            same_tree(&marked.sum, &recorded.sum, TOLERANCE);
        }
        let gram = PerSample::new().marked().batch(3).gram(&net, taped, &samples).unwrap();
        same(&gram, &PerSample::new().gram(&net, on_tape, &samples).unwrap(), f64::from(TOLERANCE));
    }
}

#[test]
fn every_algorithm_and_every_cut_gives_the_same() {
    let (net, samples) = (odd(4), samples(7, 4));
    for base in [FisherDiag::exact(), FisherDiag::group_mean(3)] {
        let base = base.marked();
        let expected = base.run(&net, forward, &samples).unwrap().sum;
        for algorithm in [Algorithm::BatchedProduct, Algorithm::PairMoment, Algorithm::SquaredProduct] {
            for (batch, columns, chunk) in [(3, 3, 40_000), (1, 1, 1)] {
                let cut = base.clone().algorithm(algorithm).batch(batch).columns(columns).chunk(chunk);
                // One sample's pair moments may cancel.
                let tolerance = if algorithm == Algorithm::PairMoment { 1e-4 } else { TOLERANCE };
                same_tree(&cut.run(&net, forward, &samples).unwrap().sum, &expected, tolerance);
            }
        }
    }
}

#[test]
fn a_pair_merges_to_the_whole() {
    let (net, samples) = (odd(4), samples(7, 4));
    let run = FisherDiag::exact().marked();
    let (first, second) = (samples.slice(0..3).unwrap(), samples.slice(3..7).unwrap());
    let (first, second) = run.run_pair(&net, forward, &first, &second).unwrap();
    let whole = run.run(&net, forward, &samples).unwrap();
    same_tree(&first.merge(&second).unwrap().sum, &whole.sum, TOLERANCE);
}

/// A column is a forward and a backward pass; the first forward pass also gives the logits, and three more look at the
/// first samples.
#[test]
fn a_column_takes_one_forward_pass() {
    let (net, samples) = (odd(4), samples(7, 4));
    let batches = RefCell::new(Vec::new());
    let counted = |net: &Odd, images: Tensor<4>, probes: &mut Probes| {
        batches.borrow_mut().push(images.dims()[0]);
        through(net, images, probes)
    };
    for (run, columns) in
        [(FisherDiag::empirical(), 1), (FisherDiag::exact(), 3), (FisherDiag::hybrid(1, 1), 2)]
    {
        run.marked().batch(4).run(&net, counted, &samples).unwrap();
        let expected = [vec![1, 2, 2], vec![4; columns], vec![3; columns]].concat();
        assert_eq!(batches.take(), expected);
    }
    // A budget that has room for one sample at a time.
    FisherDiag::empirical().marked().budget(0).run(&net, counted, &samples).unwrap();
    assert_eq!(batches.take(), [vec![1, 2, 2], vec![1; 7]].concat());
}

#[test]
fn dropped_entries_are_no_parameters() {
    let (net, samples) = (odd(3), samples(5, 3));
    let keep: BTreeMap<ParamPath, Vec<bool>> = ParamTree::of_parameters(&net)
        .iter()
        .map(|(path, leaf)| {
            let size = leaf.shape.iter().product::<usize>();
            (path.clone(), (0..size).map(|i| i % 3 != 1).collect())
        })
        .collect();
    let oracle = oracle(&net).with_kept(&keep).unwrap();
    let got = FisherDiag::exact().marked().kept(keep.clone()).run(&net, forward, &samples).unwrap().sum;
    same_tree(&got, &oracle.exact(&samples).unwrap().sum, TOLERANCE);
    let gram = PerSample::new().marked().kept(keep).gram(&net, forward, &samples).unwrap();
    let expected = oracle.pairs(&samples, &ParamTree::of_parameters(&net)).unwrap().gram;
    same(&gram, &expected, f64::from(TOLERANCE));
}

#[test]
fn frozen_layers_are_left_out_marked_or_not() {
    let samples = samples(4, 3);
    let all = FisherDiag::exact().marked().run(&odd(3), forward, &samples).unwrap().sum;
    let mut frozen = odd(3);
    frozen.twice = frozen.twice.no_grad();
    frozen.norm.beta = frozen.norm.beta.set_require_grad(false);
    let rest = FisherDiag::exact().marked().run(&frozen, forward, &samples).unwrap().sum;
    assert_eq!(rest.len(), all.len() - 3);
    for (path, leaf) in rest.iter() {
        let expected = all.get(path).unwrap().to_vec().unwrap();
        assert_eq!(leaf.to_vec().unwrap(), expected, "{path}");
    }
    let Net::Residual(net) = nets::residual(3) else { unreachable!() };
    let frozen = Net::Residual(net.with_frozen_stem());
    let rest = FisherDiag::exact().marked().run(&frozen, taped, &samples).unwrap().sum;
    same_tree(&rest, &FisherDiag::exact().run(&frozen, on_tape, &samples).unwrap().sum, TOLERANCE);
}

/// A model in training is no obstacle, and neither its parameters nor its statistics are moved.
#[test]
fn the_model_is_left_alone() {
    let (net, samples) = (odd(3), samples(4, 3));
    let expected = FisherDiag::exact().marked().run(&net, forward, &samples).unwrap().sum;
    let training = net.train();
    let values = |net: &Odd| {
        let statistics = [&net.norm.running_mean, &net.norm.running_var].map(|s| s.value_sync().to_data());
        (ParamTree::of_parameters(net), statistics)
    };
    let (before, statistics) = values(&training);
    let got = FisherDiag::exact().marked().run(&training, forward, &samples).unwrap().sum;
    same_tree(&got, &expected, 0.0);
    let (after, statistics_after) = values(&training);
    let moved = after.sub(&before).unwrap();
    assert_eq!(moved.dot(&moved).unwrap(), 0.0);
    assert_eq!(statistics, statistics_after);
}

#[test]
fn runs_are_watched_and_stopped() {
    let (net, samples) = (odd(4), samples(7, 4));
    let left = Cell::new(4);
    let watch = |_: &Progress| {
        left.set(left.get() - 1);
        if left.get() == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let run = FisherDiag::exact().batch(3).watch(&watch).marked();
    let stopped = run.run(&net, forward, &samples).map(drop);
    assert_eq!(stopped, Err(CurvatureError::Interrupted { stage: "Fisher diagonal", done: 0, total: 7 }));
}

/// The other CPU backend, with convolutions and gradients of its own.
#[test]
fn another_backend_gives_the_same() {
    #[allow(deprecated)]
    let device = Device::ndarray();
    let (net, samples) = (odd(3), samples(3, 3));
    let expected = FisherDiag::exact().marked().run(&net, forward, &samples).unwrap().sum;
    let there = net.valid().fork(&device);
    let got = FisherDiag::exact().marked().run(&there, forward, &samples).unwrap().sum;
    same_tree(&got, &expected, 1e-4);
}
