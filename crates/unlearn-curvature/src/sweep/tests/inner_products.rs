//! Norms, inner products and weighted sums.

use std::collections::BTreeMap;

use super::nets::{Net, residual};
use super::{forward, oracle, same, same_tree, samples};
use crate::estimate::Columns;
use crate::oracle::{LogitRows, Samples};
use crate::reduce::{Dots, Norms, Reduce, Route, SumSquares, WeightedGradient};
use crate::sweep::Targets;
use crate::tape::Record;
use crate::tree::read;
use crate::{CurvatureError, Estimator, FisherDiag, ParamPath, ParamTree, PerSample};

const TOLERANCE: f64 = 2e-5;

fn weights(n: usize) -> Vec<f64> {
    (0..n).map(|i| 0.3 * i as f64 - 1.0).collect()
}

/// Weighted sums, in which much may cancel: |Σ w_n e_n| ≤ ‖w‖ √(Σ e_n²) for errors e_n, and those are in proportion to
/// the gradients, of which `squares` has Σ g_n².
#[track_caller]
fn same_sum(got: &ParamTree, expected: &ParamTree, squares: &ParamTree, weights: &[f64]) {
    let length = weights.iter().map(|w| w * w).sum::<f64>().sqrt();
    assert_eq!(got.len(), expected.len());
    for ((path, got), (_, expected)) in got.iter().zip(expected.iter()) {
        let largest = squares.get(path).unwrap().to_vec().unwrap().into_iter().fold(0.0, f32::max);
        let within = 1e-5 * length * f64::from(largest).sqrt();
        assert!(within > 0.0, "{path}: nothing to compare");
        for (g, e) in got.to_vec().unwrap().iter().zip(expected.to_vec().unwrap()) {
            assert!(f64::from(g - e).abs() <= within, "{path}: {g:e} but expected {e:e}, within {within:e}");
        }
    }
}

/// Every way of cutting and both routes.
fn ways() -> Vec<PerSample<'static>> {
    let mut ways = vec![PerSample::new()];
    for route in [Route::Direct, Route::Ghost] {
        for (batch, chunk) in [(9, 1 << 20), (4, 5000), (1, 1)] {
            ways.push(PerSample::new().route(route).batch(batch).chunk(chunk));
        }
    }
    ways
}

#[test]
fn they_are_those_of_explicit_gradients() {
    for net in Net::all(4) {
        let (n, oracle) = (9, oracle(&net));
        let samples = samples(n, 4);
        let direction = oracle.weighted_sum(&samples, &weights(n)).unwrap();
        let expected = oracle.pairs(&samples, &direction).unwrap();
        let norms = oracle.norms_squared(&samples).unwrap();
        let squares = oracle.empirical(&samples).unwrap().sum;
        for way in ways() {
            let sum = way.weighted_gradient(&net, forward, &samples, &weights(n)).unwrap();
            same_sum(&sum, &direction, &squares, &weights(n));
            same(&way.norms_squared(&net, forward, &samples).unwrap(), &norms, TOLERANCE);
            same(&way.dots(&net, forward, &samples, &direction).unwrap(), &expected.dots, TOLERANCE);
            // All held at once; blocks of some; blocks of one.
            for budget in [1 << 30, 250_000, 0] {
                let pairs = way.clone().budget(budget).pairs(&net, forward, &samples, &direction).unwrap();
                same(&pairs.gram, &expected.gram, TOLERANCE);
                same(&pairs.dots, &expected.dots, TOLERANCE);
            }
        }
    }
}

/// Independent code paths that must agree.
#[test]
fn sums_of_squares_norms_products_and_gradients_fit_together() {
    for net in Net::all(4) {
        let n = 8;
        let samples = samples(n, 4);
        let engine = PerSample::new().batch(3);
        let norms = engine.norms_squared(&net, forward, &samples).unwrap();
        let fisher = FisherDiag::empirical().run(&net, forward, &samples).unwrap().sum;
        let ones = fisher.map(|_, x| x.ones_like());
        same(&[fisher.dot(&ones).unwrap()], &[norms.iter().sum()], TOLERANCE);

        let gram = engine.gram(&net, forward, &samples).unwrap();
        same(&(0..n).map(|i| gram[i * n + i]).collect::<Vec<_>>(), &norms, TOLERANCE);
        let gradient = engine.weighted_gradient(&net, forward, &samples, &vec![1.0; n]).unwrap();
        let dots = engine.dots(&net, forward, &samples, &gradient).unwrap();
        same(&gram.chunks(n).map(|row| row.iter().sum()).collect::<Vec<_>>(), &dots, TOLERANCE);
        same(&[gradient.dot(&gradient).unwrap()], &[dots.iter().sum()], TOLERANCE);
    }
}

#[test]
fn dropped_entries_are_no_parameters() {
    for net in Net::all(3) {
        let samples = samples(5, 3);
        let keep: BTreeMap<ParamPath, Vec<bool>> = ParamTree::of_parameters(&net)
            .iter()
            .map(|(path, leaf)| {
                let size = leaf.shape.iter().product::<usize>();
                (path.clone(), (0..size).map(|i| i % 4 != 2).collect())
            })
            .collect();
        let oracle = oracle(&net).with_kept(&keep).unwrap();
        // A direction that is not zero where entries are dropped.
        let direction = ParamTree::of_parameters(&net);
        let expected = oracle.pairs(&samples, &direction).unwrap();
        let sum = oracle.weighted_sum(&samples, &weights(5)).unwrap();
        for way in ways() {
            let way = way.kept(keep.clone());
            let pairs = way.pairs(&net, forward, &samples, &direction).unwrap();
            same(&pairs.gram, &expected.gram, TOLERANCE);
            same(&pairs.dots, &expected.dots, TOLERANCE);
            same(
                &way.norms_squared(&net, forward, &samples).unwrap(),
                &oracle.norms_squared(&samples).unwrap(),
                TOLERANCE,
            );
            same_tree(&way.weighted_gradient(&net, forward, &samples, &weights(5)).unwrap(), &sum, 2e-5);
        }
    }
}

#[test]
fn bad_directions_and_weights_are_errors() {
    let (net, samples) = (residual(3), samples(3, 3));
    let engine = PerSample::new();
    let short = engine.weighted_gradient(&net, forward, &samples, &[1.0]);
    assert!(matches!(short, Err(CurvatureError::Argument { field: "weights", .. })));
    let infinite = engine.weighted_gradient(&net, forward, &samples, &[1.0, f64::INFINITY, 1.0]);
    assert!(matches!(infinite, Err(CurvatureError::Argument { field: "weights", .. })));
    let empty = engine.dots(&net, forward, &samples, &ParamTree::new());
    assert!(matches!(empty, Err(CurvatureError::Keys { ref missing, .. }) if missing.len() == 1));
    let mut more = ParamTree::of_parameters(&net);
    more.insert_host("extra".into(), vec![1], vec![1.0], &burn::tensor::Device::flex()).unwrap();
    let more = engine.pairs(&net, forward, &samples, &more);
    assert!(matches!(more, Err(CurvatureError::Keys { ref unknown, .. }) if unknown == &["extra"]));
    let mut shape = ParamTree::of_parameters(&net);
    let device = burn::tensor::Device::flex();
    shape.insert_host("Residual.head.bias".into(), vec![4], vec![1.0; 4], &device).unwrap();
    let shape = engine.dots(&net, forward, &samples, &shape);
    assert!(matches!(shape, Err(CurvatureError::Shape { .. })), "{shape:?}");
}

/// One sweep feeds any number of reducers, and gives each what it would get alone.
#[test]
fn several_reducers_share_a_sweep() {
    let (net, n) = (residual(4), 6);
    let all = samples(n, 4);
    let device = burn::tensor::Device::flex();
    let targets = Targets::of(&net).unwrap();
    let direction = ParamTree::of_parameters(&net);
    let mut squares = SumSquares::new(1 << 20, None);
    let mut norms = Norms::new(n, 1 << 20, None);
    let mut dots = Dots::new(direction.clone(), n, 1 << 20);
    let mut gradient = WeightedGradient::new(weights(n), 1 << 20);
    for range in [0..4, 4..6] {
        let images = all.inputs(range.clone(), &device).unwrap().inner();
        let record = Record::new(targets.ids());
        let (logits, recording) = record.forward(images, |x, tape| net.forward(x, tape)).unwrap();
        let rows = LogitRows::new(read(logits.reshape([range.len() * 4])).unwrap(), 4).unwrap();
        let labels: Vec<usize> = range.clone().map(|i| all.label(i)).collect();
        let columns = Estimator::Empirical.columns(&rows, &labels, range.start).unwrap();
        let reducers: &mut [&mut dyn Reduce] = &mut [&mut squares, &mut norms, &mut dots, &mut gradient];
        recording.sweep(&columns, range.start, &targets, &device, reducers).unwrap();
    }
    let oracle = oracle(&net);
    same_tree(&squares.finish().unwrap(), &oracle.empirical(&all).unwrap().sum, 2e-5);
    same(&norms.finish(), &oracle.norms_squared(&all).unwrap(), TOLERANCE);
    same(&dots.finish(), &oracle.dots(&all, &direction).unwrap(), TOLERANCE);
    same_tree(&gradient.finish().unwrap(), &oracle.weighted_sum(&all, &weights(n)).unwrap(), 2e-5);

    // What is of one gradient a sample refuses several.
    let images = all.inputs(0..1, &device).unwrap().inner();
    let record = Record::new(targets.ids());
    let (_, recording) = record.forward(images, |x, tape| net.forward(x, tape)).unwrap();
    let columns = Columns::new(&[1.0; 8], 2, 4, 1).unwrap();
    let mut dots = Dots::new(direction, 1, 1 << 20);
    let refused = recording.sweep(&columns, 0, &targets, &device, &mut [&mut dots]);
    assert!(matches!(refused, Err(CurvatureError::Argument { field: "columns", .. })));
}
