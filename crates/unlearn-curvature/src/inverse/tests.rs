//! The inverse products of the engine against a dense float64 solve and against the oracle.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use burn::module::{Module, ModuleMapper, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor, TensorData};

use super::{Cholesky, Damping, InverseFisher, ReferenceRecursion, Solution, reference_recursion, woodbury};
use crate::oracle::{Oracle, TensorSamples};
use crate::reduce::Route;
use crate::tape::{Plain, Tape, Var};
use crate::{CurvatureError, ParamPath, ParamTree, PerSample, Progress};

/// A residual block between a stem and a head.
#[derive(Module, Debug)]
struct Net {
    stem: Conv2d,
    norm: BatchNorm,
    deep: Conv2d,
    head: Linear,
}

fn forward(net: &Net, images: Var<4>, tape: &mut dyn Tape) -> Var<2> {
    let x = tape.conv2d(&net.stem, images);
    let x = tape.relu(x);
    let y = tape.conv2d(&net.deep, x.clone());
    let y = tape.batch_norm(&net.norm, y);
    let x = tape.add(x, y);
    let x = tape.relu(x);
    let x = tape.global_avg_pool(x);
    tape.linear(&net.head, x)
}

/// Numbers that look random and are the same everywhere.
fn numbers(count: usize, salt: f32) -> Vec<f32> {
    (0..count).map(|i| ((i as f32 + salt) * 12.9898).sin() * 0.9).collect()
}

fn net() -> Net {
    struct Fill(f32);
    impl ModuleMapper for Fill {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            self.0 += 17.3;
            param.map(|old| {
                let data = TensorData::new(numbers(old.shape().num_elements(), self.0), old.shape());
                Tensor::from_data(data, &old.device())
            })
        }
    }
    let device = Device::flex();
    let same = || PaddingConfig2d::Explicit(1, 1, 1, 1);
    let net = Net {
        stem: Conv2dConfig::new([2, 3], [3, 3]).with_padding(same()).init(&device),
        norm: BatchNormConfig::new(3).init(&device),
        deep: Conv2dConfig::new([3, 3], [3, 3]).with_padding(same()).with_bias(false).init(&device),
        head: LinearConfig::new(3, 4).init(&device),
    };
    // Only what is trained: running statistics stay zero and one.
    ParamTree::of_parameters(&net.valid().map(&mut Fill(0.0))).write_into(&net).unwrap()
}

fn samples(n: usize) -> TensorSamples {
    let images =
        Tensor::from_data(TensorData::new(numbers(n * 2 * 5 * 6, 3.0), [n, 2, 5, 6]), &Device::flex());
    TensorSamples::new(images, (0..n).map(|i| (i * 2 + i / 3) % 4).collect()).unwrap()
}

fn oracle(net: &Net) -> Oracle<'static, Net, impl Fn(&Net, Tensor<4>) -> Tensor<2> + Sync + use<>> {
    Oracle::new(net, |net: &Net, x: Tensor<4>| Plain::forward(x, |x, tape| forward(net, x, tape))).unwrap()
}

/// A vector with a part in the span of the gradients and a part outside.
fn vector(net: &Net) -> ParamTree {
    let n = 8;
    let weights: Vec<f64> = (0..n).map(|i| 0.3 * f64::from(i) - 1.0).collect();
    let inside = PerSample::new().weighted_gradient(net, forward, &samples(n as usize), &weights).unwrap();
    inside.add(&ParamTree::of_parameters(net).scale(0.1)).unwrap()
}

fn flat(net: &Net, tree: &ParamTree) -> Vec<f64> {
    oracle(net).layout().flatten(tree).unwrap().into_iter().map(f64::from).collect()
}

/// λI + Σ g gᵀ / n, `[p, p]`, as it stands, in float64 from the gradients of the first `n` samples one by one; and λ.
fn dense_matrix(net: &Net, n: usize, damping: Damping, dropped: &dyn Fn(usize) -> bool) -> (Vec<f64>, f64) {
    let (oracle, samples) = (oracle(net), samples(12));
    let gradient = |i: usize| {
        let g = oracle.weighted_sum(&samples.slice(i..i + 1).unwrap(), &[1.0]).unwrap();
        let g = oracle.layout().flatten(&g).unwrap().into_iter().enumerate();
        g.map(|(j, g)| if dropped(j) { 0.0 } else { f64::from(g) }).collect()
    };
    let all: Vec<Vec<f64>> = (0..n).map(gradient).collect();
    let trace: f64 = all.iter().flatten().map(|g| g * g).sum();
    let lambda = match damping {
        Damping::Absolute(lambda) => lambda,
        Damping::Relative(rho) => rho * trace / (n * n) as f64,
    };
    let p = all[0].len();
    let mut matrix = vec![0.0; p * p];
    for g in &all {
        for (i, row) in matrix.chunks_exact_mut(p).enumerate() {
            row.iter_mut().zip(g).for_each(|(m, gj)| *m += g[i] * gj / n as f64);
        }
    }
    (0..p).for_each(|i| matrix[i * p + i] += lambda);
    (matrix, lambda)
}

/// The solution of the dense system for `v`, and λ.
fn dense(
    net: &Net,
    n: usize,
    v: &[f64],
    damping: Damping,
    dropped: &dyn Fn(usize) -> bool,
) -> (Vec<f64>, f64) {
    let (matrix, lambda) = dense_matrix(net, n, damping, dropped);
    let v: Vec<f64> = v.iter().enumerate().map(|(j, v)| if dropped(j) { 0.0 } else { *v }).collect();
    (Cholesky::new(&matrix, v.len()).unwrap().solve(&v).unwrap(), lambda)
}

/// Relative to the largest entry.
#[track_caller]
fn close(got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len());
    let scale = expected.iter().fold(0.0_f64, |m, e| m.max(e.abs()));
    assert!(scale > 0.0, "nothing to compare");
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= tolerance * scale, "entry {i}: {g:e} but expected {e:e} (scale {scale:e})");
    }
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

const DAMPINGS: [Damping; 3] = [Damping::Absolute(1.0), Damping::Absolute(1e-2), Damping::Relative(0.1)];

/// float32 gradients are good to about 1e-6 of their largest entry; dividing by λ after the cancellation in
/// v − Gᵀ a, or inverting H, makes at most (largest eigenvalue)/λ of that, which is under 100 here.
const TOLERANCE: f64 = 1e-4;

#[track_caller]
fn check(net: &Net, solution: &Solution, n: usize, v: &ParamTree, damping: Damping) {
    let v = flat(net, v);
    let (expected, lambda) = dense(net, n, &v, damping, &|_| false);
    close(&flat(net, &solution.direction), &expected, TOLERANCE);
    assert!((solution.damping / lambda - 1.0).abs() < 1e-5, "{} {lambda}", solution.damping);
    assert_eq!(solution.samples, n);
    let inner: f64 = expected.iter().zip(&v).map(|(a, b)| a * b).sum();
    let cosine = inner / (norm(&expected) * norm(&v));
    assert!((solution.cosine - cosine).abs() < 1e-5, "{} {cosine}", solution.cosine);
}

#[test]
fn woodbury_is_the_dense_solve_however_it_is_cut() {
    let (net, n) = (net(), 7);
    let v = vector(&net);
    for damping in DAMPINGS {
        // All held at once; in blocks of some; one sample at a time.
        for (batch, budget) in [(64, 1 << 30), (3, 1 << 30), (2, 60_000), (64, 0)] {
            for route in [None, Some(Route::Direct), Some(Route::Ghost)] {
                let mut how = InverseFisher::woodbury(n).damping(damping).batch(batch).budget(budget);
                if let Some(route) = route {
                    how = how.route(route);
                }
                let solution = how.solve(&net, forward, &samples(12), &v).unwrap();
                check(&net, &solution, n, &v, damping);
                assert!(solution.residual < 1e-9, "{}", solution.residual);
                assert_eq!((solution.jitter, solution.iterations), (0.0, 0));
                assert!((0.0..=n as f64).contains(&solution.effective_rank.unwrap()));
            }
        }
    }
}

/// tr(F (F + λI)⁻¹) = n − λn tr (K + λnI)⁻¹ by the eigenvalues; here by the dense matrix: p − λ tr (F + λI)⁻¹.
#[test]
fn the_effective_rank_is_the_trace_of_the_smoother() {
    let (net, n) = (net(), 3);
    let (p, damping) = (ParamTree::of_parameters(&net).num_scalars(), Damping::Absolute(0.05));
    let solution = InverseFisher::woodbury(n).damping(damping);
    let solution = solution.solve(&net, forward, &samples(12), &vector(&net)).unwrap();
    let matrix = dense_matrix(&net, n, damping, &|_| false).0;
    let factor = Cholesky::new(&matrix, p).unwrap();
    let diagonal = (0..p).map(|i| {
        let mut unit = vec![0.0; p];
        unit[i] = 1.0;
        factor.solve(&unit).unwrap()[i]
    });
    let expected = p as f64 - 0.05 * diagonal.sum::<f64>();
    let got = solution.effective_rank.unwrap();
    assert!(got > 0.5 && (got - expected).abs() < 1e-4, "{got} {expected}");
}

#[test]
fn conjugate_gradients_are_the_dense_solve() {
    let (net, n) = (net(), 7);
    let v = vector(&net);
    for damping in DAMPINGS {
        for (batch, budget) in [(64, 1 << 30), (2, 0)] {
            let how = InverseFisher::conjugate_gradient(n).damping(damping).tolerance(1e-5);
            let solution = how.batch(batch).budget(budget).solve(&net, forward, &samples(12), &v).unwrap();
            check(&net, &solution, n, &v, damping);
            assert!(solution.residual < 1e-5, "{}", solution.residual);
            // n + 1 in exact arithmetic, for the n eigenvalues other than λ and λ itself; in float32 directions lose
            // their orthogonality and some are gone along twice.
            assert!((1..=2 * (n + 1)).contains(&solution.iterations), "{}", solution.iterations);
            assert!(solution.effective_rank.is_none());
        }
    }
    // Cut short, it says how far it came.
    let how = InverseFisher::conjugate_gradient(n).damping(1e-2).iterations(1);
    let solution = how.solve(&net, forward, &samples(12), &v).unwrap();
    assert!(solution.iterations == 1 && solution.residual > 1e-3, "{solution:?}");
    let zero = how.solve(&net, forward, &samples(12), &v.zeros_like()).unwrap();
    assert!(flat(&net, &zero.direction).iter().all(|x| *x == 0.0) && zero.residual == 0.0);
}

#[test]
fn the_reference_is_the_oracles() {
    let net = net();
    let v = vector(&net);
    for n in [1000, 6, 3] {
        let recursion = ReferenceRecursion { n };
        let expected = reference_recursion(&oracle(&net), &samples(9), &v, recursion, 4).unwrap();
        for batch in [64, 2, 1] {
            let how = InverseFisher::reference(recursion).batch(batch);
            let solution = how.solve(&net, forward, &samples(9), &v).unwrap();
            close(&flat(&net, &solution.direction), &flat(&net, &expected), 1e-5);
            assert_eq!((solution.samples, solution.damping), (9.min(n + 2), 1.0));
            assert!(solution.residual < 1e-5, "{}", solution.residual);
        }
    }
}

#[test]
fn one_fit_serves_many_vectors() {
    let net = net();
    let samples = samples(9);
    let (first, second) = (vector(&net), ParamTree::of_parameters(&net));
    for how in [
        InverseFisher::woodbury(9),
        InverseFisher::woodbury(9).budget(0),
        InverseFisher::conjugate_gradient(9),
        InverseFisher::reference_compat(),
    ] {
        let mut fitted = how.fit(&net, forward, &samples).unwrap();
        for v in [&first, &second, &first] {
            let alone = how.solve(&net, forward, &samples, v).unwrap();
            let again = fitted.apply(v).unwrap();
            assert_eq!(flat(&net, &again.direction), flat(&net, &alone.direction));
        }
    }
}

#[test]
fn dropped_entries_have_no_part_in_it() {
    let net = net();
    let keep: BTreeMap<ParamPath, Vec<bool>> = ParamTree::of_parameters(&net)
        .iter()
        .map(|(path, leaf)| (path.clone(), (0..leaf.shape.iter().product()).map(|i| i % 4 != 2).collect()))
        .collect();
    let dropped: Vec<bool> = keep.values().flatten().map(|keep| !keep).collect();
    let (v, damping) = (vector(&net), Damping::Absolute(1e-2));
    let (expected, _) = dense(&net, 7, &flat(&net, &v), damping, &|j| dropped[j]);
    let slow = oracle(&net).with_kept(&keep).unwrap();
    let slow = woodbury(&slow, &samples(7), &v, damping).unwrap();
    close(&flat(&net, &slow.direction), &expected, TOLERANCE);
    for how in [
        InverseFisher::woodbury(7),
        InverseFisher::woodbury(7).budget(0),
        InverseFisher::conjugate_gradient(7).tolerance(1e-5),
    ] {
        let how = how.damping(damping).kept(keep.clone());
        let got = how.solve(&net, forward, &samples(7), &v).unwrap().direction;
        let got = flat(&net, &got);
        close(&got, &expected, TOLERANCE);
        assert!(got.iter().zip(&dropped).all(|(k, dropped)| !dropped || *k == 0.0));
    }
}

#[test]
fn bad_settings_and_vectors_are_refused() {
    let (net, v) = (net(), vector(&net()));
    let refused = |how: InverseFisher<'_>, name: &str| match how.solve(&net, forward, &samples(4), &v) {
        Err(CurvatureError::Argument { field, .. }) => assert_eq!(field, name),
        other => panic!("expected a refusal of {name}, got {other:?}"),
    };
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        refused(InverseFisher::woodbury(4).damping(bad), "damping");
        refused(InverseFisher::conjugate_gradient(4).damping(Damping::Relative(bad)), "damping");
        refused(InverseFisher::conjugate_gradient(4).tolerance(bad), "tolerance");
    }
    refused(InverseFisher::woodbury(0), "samples");
    refused(InverseFisher::conjugate_gradient(4).iterations(0), "iterations");
    refused(InverseFisher::reference(ReferenceRecursion { n: 0 }), "n");
    refused(InverseFisher::woodbury(4).batch(0), "batch");

    let solve = |v: &ParamTree| InverseFisher::woodbury(4).solve(&net, forward, &samples(4), v);
    assert!(matches!(solve(&ParamTree::new()), Err(CurvatureError::Keys { .. })));
    let mut more = v.clone();
    more.insert_host("nowhere".into(), vec![1], vec![1.0], &Device::flex()).unwrap();
    assert!(matches!(solve(&more), Err(CurvatureError::Keys { .. })));
    let mut other = v.clone();
    other.insert_host("head.bias".into(), vec![2, 2], vec![1.0; 4], &Device::flex()).unwrap();
    assert!(matches!(solve(&other), Err(CurvatureError::Shape { .. })));
    assert!(matches!(solve(&v.scale(f64::INFINITY)), Err(CurvatureError::NonFinite { .. })));
}

/// Whatever is asked for tells how far it is, reaches the end of each stage, and ends where it is told to.
#[test]
fn runs_are_watched_and_stopped() {
    let (net, v) = (net(), vector(&net()));
    let all = [
        InverseFisher::woodbury(7).batch(3),
        InverseFisher::woodbury(7).batch(3).budget(0),
        InverseFisher::conjugate_gradient(7).batch(3).budget(0),
        InverseFisher::reference_compat().batch(3),
    ];
    for how in all {
        let seen = RefCell::new(Vec::<Progress>::new());
        let watch = |progress: &Progress| {
            seen.borrow_mut().push(*progress);
            ControlFlow::Continue(())
        };
        how.clone().watch(&watch).solve(&net, forward, &samples(7), &v).unwrap();
        let seen = seen.into_inner();
        assert!(seen.iter().all(|p| p.done <= p.total), "{seen:?}");
        for pair in seen.windows(2) {
            assert!(pair[1].done >= pair[0].done || pair[0].done == pair[0].total, "{pair:?}");
        }
        assert!(seen.last().is_some_and(|p| p.done == p.total), "{seen:?}");
        for calls in [1, 2, seen.len()] {
            let left = Cell::new(calls);
            let watch = |_: &Progress| {
                left.set(left.get() - 1);
                if left.get() == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let stopped = how.clone().watch(&watch).solve(&net, forward, &samples(7), &v);
            assert!(matches!(stopped, Err(CurvatureError::Interrupted { .. })), "{calls}: {stopped:?}");
        }
    }
}
