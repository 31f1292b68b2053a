//! Fisher diagonals.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use burn::module::Module;
use burn::tensor::Device;

use super::nets::{Net, residual, rows, shared};
use super::{forward, oracle, same, same_tree, samples};
use crate::estimate::{Columns, multinomial_cholesky};
use crate::oracle::{Joined, LogitRows, Samples};
use crate::reduce::{Algorithm, SumSquares};
use crate::sweep::Targets;
use crate::tape::Record;
use crate::tree::read;
use crate::{CurvatureError, Estimator, FisherDiag, ParamPath, ParamTree, PerSample, Progress, Watch};

const TOLERANCE: f32 = 2e-5;

#[test]
fn every_estimator_without_draws_is_the_oracle() {
    for net in Net::all(4) {
        let (oracle, samples) = (oracle(&net), samples(7, 4));
        // Batches of three: the last has one sample.
        let empirical = FisherDiag::empirical().batch(3).run(&net, forward, &samples).unwrap();
        same_tree(&empirical.sum, &oracle.empirical(&samples).unwrap().sum, TOLERANCE);
        let exact = FisherDiag::exact().batch(3).run(&net, forward, &samples).unwrap();
        same_tree(&exact.sum, &oracle.exact(&samples).unwrap().sum, TOLERANCE);
        assert_eq!((empirical.count, exact.count), (7, 7));
        for size in [1, 2, 3, 7, 32] {
            let group = FisherDiag::group_mean(size).batch(4).run(&net, forward, &samples).unwrap();
            let expected = oracle.group_mean(&samples, size).unwrap();
            assert_eq!(group.count, expected.count);
            same_tree(&group.sum, &expected.sum, TOLERANCE);
        }
    }
}

#[test]
fn every_algorithm_and_every_cut_gives_the_same() {
    for net in Net::all(5) {
        let samples = samples(8, 5);
        for base in [FisherDiag::exact(), FisherDiag::empirical(), FisherDiag::group_mean(3)] {
            let expected = base.run(&net, forward, &samples).unwrap().sum;
            for algorithm in [Algorithm::BatchedProduct, Algorithm::PairMoment, Algorithm::SquaredProduct] {
                for (batch, columns, chunk) in [(8, 9, 1 << 20), (3, 3, 40_000), (1, 1, 1), (32, 2, 3000)] {
                    let cut = base.clone().algorithm(algorithm).batch(batch).columns(columns).chunk(chunk);
                    let got = cut.run(&net, forward, &samples).unwrap().sum;
                    // One sample's pair moments may cancel.
                    let tolerance = if algorithm == Algorithm::PairMoment { 1e-4 } else { TOLERANCE };
                    same_tree(&got, &expected, tolerance);
                }
            }
            // A budget that has room for little.
            let tight = base.clone().budget(60_000).run(&net, forward, &samples).unwrap().sum;
            same_tree(&tight, &expected, 1e-4);
        }
    }
}

#[test]
fn the_choice_follows_the_shape() {
    assert_eq!(Algorithm::choose(1, 4608, 64, 9), Algorithm::SquaredProduct);
    assert_eq!(Algorithm::choose(9, 4608, 64, 9), Algorithm::PairMoment);
    assert_eq!(Algorithm::choose(16, 4608, 64, 9), Algorithm::BatchedProduct);
    assert_eq!(Algorithm::choose(9, 4608, 64, 1), Algorithm::BatchedProduct);
    // Tokens: few inputs beside many columns, whose moments would be most of the work.
    assert_eq!(Algorithm::choose(65, 128, 64, 99), Algorithm::BatchedProduct);
    // Too few terms to trust cancellation with.
    assert_eq!(Algorithm::choose(9, 4608, 4, 9), Algorithm::BatchedProduct);
}

#[test]
fn draws_do_not_depend_on_the_batch() {
    let (net, samples) = (residual(4), samples(7, 4));
    for base in [FisherDiag::sampled(2), FisherDiag::sign(2), FisherDiag::hybrid(1, 1)] {
        let base = base.seed(3);
        let whole = base.clone().batch(7).run(&net, forward, &samples).unwrap().sum;
        let parts = base.clone().batch(2).columns(1).run(&net, forward, &samples).unwrap().sum;
        same_tree(&parts, &whole, TOLERANCE);
        let other = base.seed(4).run(&net, forward, &samples).unwrap().sum;
        let distance = other.sub(&whole).unwrap();
        assert!(distance.dot(&distance).unwrap() > 0.0);
    }
}

/// Hand-made columns through the sweep.
fn swept(
    net: &Net,
    all: &impl Samples<Input = burn::Tensor<4>>,
    make: impl Fn(&[f64]) -> Vec<f64>,
) -> ParamTree {
    let device = Device::flex();
    let model = net.valid();
    let targets = Targets::of(net).unwrap();
    let images = all.inputs(0..all.len(), &device).unwrap().inner();
    let (logits, recording) =
        Record::new(targets.ids()).forward(images, |x, tape| model.forward(x, tape)).unwrap();
    let [n, k] = logits.dims();
    let rows = LogitRows::new(read(logits.reshape([n * k])).unwrap(), k).unwrap();
    let values: Vec<f64> = (0..n).flat_map(|n| make(&rows.probabilities(n))).collect();
    let columns = Columns::new(&values, values.len() / (n * k), k, 1).unwrap();
    let mut squares = SumSquares::new(1 << 20, None);
    recording.sweep(&columns, 0, &targets, &device, &mut [&mut squares]).unwrap();
    squares.finish().unwrap()
}

#[test]
fn all_sign_patterns_together_are_exact_and_so_are_k_columns() {
    for net in [residual(4), rows(4)] {
        let samples = samples(5, 4);
        let exact = FisherDiag::exact().run(&net, forward, &samples).unwrap().sum;
        let signs = swept(&net, &samples, |p| {
            let (k, factor) = (p.len(), multinomial_cholesky(p));
            let mut values = Vec::new();
            for pattern in 0..1_u32 << (k - 1) {
                let mut column = vec![0.0; k];
                for (j, part) in factor.chunks_exact(k).enumerate() {
                    let sign = if pattern >> j & 1 == 0 { 1.0 } else { -1.0 };
                    column.iter_mut().zip(part).for_each(|(sum, v)| *sum += sign * v);
                }
                values.extend(column.into_iter().map(|v| v / f64::from(1 << (k - 1)).sqrt()));
            }
            values
        });
        same_tree(&signs, &exact, TOLERANCE);
        // √p_c (e_c − p) for every class.
        let full = swept(&net, &samples, |p| {
            let columns = (0..p.len()).flat_map(|c| {
                p.iter().enumerate().map(move |(j, q)| p[c].sqrt() * (f64::from(u8::from(j == c)) - q))
            });
            columns.collect()
        });
        same_tree(&full, &exact, TOLERANCE);
    }
}

#[test]
fn parts_merge_to_the_whole() {
    let (net, all) = (shared(3), samples(7, 3));
    let whole = FisherDiag::exact().run(&net, forward, &all).unwrap();
    let part = |range| FisherDiag::exact().run(&net, forward, &all.slice(range).unwrap()).unwrap();
    let merged = part(0..3).merge(&part(3..7)).unwrap();
    assert_eq!(merged.count, 7);
    same_tree(&merged.sum, &whole.sum, TOLERANCE);
}

#[test]
fn dropped_entries_are_no_parameters() {
    for net in Net::all(3) {
        let samples = samples(5, 3);
        let keep: BTreeMap<ParamPath, Vec<bool>> = ParamTree::of_parameters(&net)
            .iter()
            .map(|(path, leaf)| {
                let size = leaf.shape.iter().product::<usize>();
                (path.clone(), (0..size).map(|i| i % 3 != 1).collect())
            })
            .collect();
        let expected = oracle(&net).with_kept(&keep).unwrap().exact(&samples).unwrap().sum;
        for algorithm in [Algorithm::BatchedProduct, Algorithm::PairMoment, Algorithm::SquaredProduct] {
            let run = FisherDiag::exact().kept(keep.clone()).algorithm(algorithm).chunk(4000);
            same_tree(&run.run(&net, forward, &samples).unwrap().sum, &expected, 1e-4);
        }
    }
}

#[test]
fn frozen_parameters_are_left_out_and_the_rest_is_unchanged() {
    let Net::Residual(net) = residual(3) else { unreachable!() };
    let full = Net::Residual(net.clone());
    let frozen = Net::Residual(net.with_frozen_stem());
    let samples = samples(4, 3);
    let all = FisherDiag::exact().run(&full, forward, &samples).unwrap().sum;
    let rest = FisherDiag::exact().run(&frozen, forward, &samples).unwrap().sum;
    same_tree(&rest, &oracle(&frozen).exact(&samples).unwrap().sum, TOLERANCE);
    assert_eq!(rest.len(), all.len() - 3);
    for (path, leaf) in rest.iter() {
        assert_eq!(leaf.to_vec().unwrap(), all.get(path).unwrap().to_vec().unwrap(), "{path}");
    }
}

#[test]
fn the_estimator_is_what_was_asked_for() {
    assert_eq!(FisherDiag::sampled(3).seed(5).estimator(), Estimator::LabelMc { draws: 3, seed: 5 });
    assert_eq!(FisherDiag::hybrid(2, 1).estimator(), Estimator::Hybrid { exact: 2, draws: 1, seed: 0 });
    assert_eq!(FisherDiag::exact().seed(9).estimator(), Estimator::Exact);
}

/// The other CPU backend has its own convolutions, pools and products.
#[test]
fn another_backend_gives_the_same() {
    #[allow(deprecated)]
    let device = Device::ndarray();
    for net in Net::all(3) {
        let samples = samples(3, 3);
        let expected = FisherDiag::exact().run(&net, forward, &samples).unwrap().sum;
        let there = net.valid().fork(&device);
        for algorithm in [Algorithm::BatchedProduct, Algorithm::PairMoment] {
            let got = FisherDiag::exact().algorithm(algorithm).run(&there, forward, &samples).unwrap().sum;
            same_tree(&got, &expected, 1e-4);
        }
        let norms = PerSample::new().norms_squared(&there, forward, &samples).unwrap();
        same(&norms, &PerSample::new().norms_squared(&net, forward, &samples).unwrap(), 1e-4);
        let gram = PerSample::new().batch(2).gram(&there, forward, &samples).unwrap();
        same(&gram, &PerSample::new().gram(&net, forward, &samples).unwrap(), 1e-4);
    }
}

#[test]
fn the_shifted_diagonal_is_the_oracles() {
    for net in Net::all(4) {
        let samples = samples(7, 4);
        // The published shift, one of the size of the gradients, and one far larger.
        for epsilon in [1e-8, 0.05, -3.0] {
            let fast = FisherDiag::shifted_empirical(epsilon).batch(3);
            let got = fast.run(&net, forward, &samples).unwrap();
            let expected = oracle(&net).shifted_empirical(&samples, epsilon).unwrap();
            assert_eq!(got.count, expected.count);
            same_tree(&got.sum, &expected.sum, TOLERANCE);
        }
    }
    let bad = FisherDiag::shifted_empirical(f64::NAN).run(&residual(4), forward, &samples(3, 4));
    assert!(matches!(bad, Err(CurvatureError::Argument { field: "epsilon", .. })));
}

#[test]
fn a_pair_is_two_runs() {
    let (net, all) = (residual(4), samples(9, 4));
    let (first, second) = (all.slice(0..4).unwrap(), all.slice(4..9).unwrap());
    for how in [FisherDiag::exact(), FisherDiag::shifted_empirical(0.1), FisherDiag::sign(2)] {
        let how = how.batch(3);
        let (a, b) = how.run_pair(&net, forward, &first, &second).unwrap();
        for (got, alone) in [(a, &first), (b, &second)] {
            let alone = how.run(&net, forward, alone).unwrap();
            assert_eq!(got.count, alone.count);
            same_tree(&got.sum, &alone.sum, 0.0);
        }
    }
}

/// One pass over two sets is a pass over both.
#[test]
fn joined_sets_are_one_set() {
    let (net, all) = (residual(4), samples(9, 4));
    let (first, second) = (all.slice(0..4).unwrap(), all.slice(4..9).unwrap());
    let joined = Joined::new(&first, &second);
    for batch in [1, 3, 64] {
        let got = FisherDiag::empirical().batch(batch).run(&net, forward, &joined).unwrap();
        let expected = FisherDiag::empirical().batch(batch).run(&net, forward, &all).unwrap();
        assert_eq!(got.count, 9);
        same_tree(&got.sum, &expected.sum, 0.0);
    }
}

/// Engine and oracle tell every sample once, and end when told to.
#[test]
fn runs_are_watched_and_stopped() {
    let (net, samples) = (residual(4), samples(7, 4));
    let run = |fast: bool, watch: &dyn Watch| {
        if fast {
            let exact = FisherDiag::exact().batch(3).columns(2);
            exact.watch(watch).run(&net, forward, &samples).map(drop)
        } else {
            oracle(&net).with_workers(2).with_watch(watch).exact(&samples).map(drop)
        }
    };
    for fast in [true, false] {
        let seen = RefCell::new(Vec::new());
        let watch = |progress: &Progress| {
            seen.borrow_mut().push((progress.done, progress.total));
            ControlFlow::Continue(())
        };
        run(fast, &watch).unwrap();
        let seen = seen.into_inner();
        assert!(seen.is_sorted() && seen[0] == (0, 7) && seen.last() == Some(&(7, 7)), "{seen:?}");
        for calls in 1..=seen.len() {
            let left = Cell::new(calls);
            let watch = |_: &Progress| {
                left.set(left.get() - 1);
                if left.get() == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let (done, total) = seen[calls - 1];
            let expected = CurvatureError::Interrupted { stage: "Fisher diagonal", done, total };
            assert_eq!(run(fast, &watch), Err(expected));
        }
    }
}
