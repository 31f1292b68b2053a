//! The oracle against closed forms, finite differences and dense algebra.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};

use super::{Oracle, Samples, TensorSamples, evaluation_copy};
use crate::inverse::{Cholesky, Damping, ReferenceRecursion, reference_recursion, woodbury};
use crate::{CurvatureError, ParamPath, ParamTree};

/// A small net with a convolution, a batch norm and a head.
#[derive(Module, Debug)]
struct Net {
    conv: Conv2d,
    norm: BatchNorm,
    head: Linear,
}

impl Net {
    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = burn::tensor::activation::relu(self.norm.forward(self.conv.forward(x)));
        self.head.forward(x.mean_dims(&[2, 3]).reshape([-1, 4]))
    }
}

/// Numbers that look random and are the same everywhere.
fn numbers(count: usize, salt: f32) -> Vec<f32> {
    (0..count).map(|i| ((i as f32 + salt) * 12.9898).sin() * 1.3).collect()
}

fn tensor<const D: usize>(shape: [usize; D], salt: f32) -> Tensor<D> {
    Tensor::from_data(TensorData::new(numbers(shape.iter().product(), salt), shape), &Device::flex())
}

fn net() -> Net {
    let device = Device::flex();
    let net = Net {
        conv: Conv2dConfig::new([2, 4], [3, 3]).init(&device),
        norm: BatchNormConfig::new(4).init(&device),
        head: LinearConfig::new(4, 3).init(&device),
    };
    let values = ParamTree::of_parameters(&net);
    let mut filled = ParamTree::new();
    for (number, (path, leaf)) in values.iter().enumerate() {
        let values = numbers(leaf.shape.iter().product(), number as f32 + 0.5);
        filled.insert_host(path.clone(), leaf.shape.clone(), values, &device).unwrap();
    }
    filled.write_into(&net).unwrap()
}

fn samples(n: usize) -> TensorSamples {
    TensorSamples::new(tensor([n, 2, 5, 5], 3.0), (0..n).map(|i| (i * 2 + i / 3) % 3).collect()).unwrap()
}

fn oracle() -> Oracle<'static, Net, impl Fn(&Net, Tensor<4>) -> Tensor<2> + Sync> {
    Oracle::new(&net(), |net: &Net, x: Tensor<4>| net.forward(x)).unwrap()
}

fn flat<M: Module, F>(oracle: &Oracle<'_, M, F>, tree: &ParamTree) -> Vec<f64> {
    oracle.layout().flatten(tree).unwrap().into_iter().map(f64::from).collect()
}

#[track_caller]
fn close(got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len());
    let scale = expected.iter().fold(1e-30_f64, |m, e| m.max(e.abs()));
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= tolerance * scale, "entry {i}: {g} but expected {e} (scale {scale})");
    }
}

/// Per-sample gradients through Burn's own cross-entropy: an independent route from logits to loss.
fn explicit(n: usize) -> Vec<Vec<f64>> {
    let model = evaluation_copy(&net());
    let device = Device::flex().autodiff();
    let samples = samples(n);
    (0..n)
        .map(|i| {
            let one = samples.slice(i..i + 1).unwrap();
            let logits = model.forward(one.inputs(0..1, &device).unwrap());
            let loss = CrossEntropyLossConfig::new().init(&device).forward(logits, one.targets(&device));
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            flat(&oracle(), &ParamTree::of_gradients(&model, &gradients))
        })
        .collect()
}

#[test]
fn empirical_is_the_sum_of_squares_of_explicit_gradients() {
    let gradients = explicit(7);
    let got = oracle().empirical(&samples(7)).unwrap();
    let expected: Vec<f64> =
        (0..gradients[0].len()).map(|j| gradients.iter().map(|g| g[j] * g[j]).sum()).collect();
    close(&flat(&oracle(), &got.sum), &expected, 1e-5);
    assert_eq!(got.count, 7);
    let shifted = oracle().shifted_empirical(&samples(7), 0.01).unwrap();
    let expected: Vec<f64> =
        (0..gradients[0].len()).map(|j| gradients.iter().map(|g| (0.01 - g[j]).powi(2)).sum()).collect();
    close(&flat(&oracle(), &shifted.sum), &expected, 1e-5);
}

#[test]
fn parts_merge_to_the_whole() {
    let all = samples(7);
    let whole = oracle().exact(&all).unwrap();
    let parts = oracle()
        .exact(&all.slice(0..3).unwrap())
        .unwrap()
        .merge(&oracle().exact(&all.slice(3..7).unwrap()).unwrap())
        .unwrap();
    assert_eq!(parts.count, 7);
    close(&flat(&oracle(), &parts.mean()), &flat(&oracle(), &whole.mean()), 1e-6);
}

/// For a linear classifier F_W[j, c] = Σ_n p_nc (1 − p_nc) x_nj² and F_b[c] = Σ_n p_nc (1 − p_nc).
#[test]
fn exact_has_the_closed_form_of_a_linear_head_even_for_sure_predictions() {
    let device = Device::flex();
    let model: Linear = LinearConfig::new(3, 4).init(&device);
    for gap in [1.0_f32, 20.0, 40.0, 90.0] {
        let mut tree = ParamTree::new();
        let weight: Vec<f32> = numbers(12, 1.0).iter().map(|w| w * gap / 10.0).collect();
        tree.insert_host(ParamPath::new("weight"), vec![3, 4], weight.clone(), &device).unwrap();
        tree.insert_host(ParamPath::new("bias"), vec![4], vec![gap, 0.0, -1.0, 2.0], &device).unwrap();
        let model = tree.write_into(&model).unwrap();
        let x = numbers(15, 9.0);
        let images = Tensor::<4>::from_data(TensorData::new(x.clone(), [5, 1, 1, 3]), &device);
        let samples = TensorSamples::new(images, vec![0; 5]).unwrap();
        let oracle = Oracle::new(&model, |m: &Linear, x: Tensor<4>| m.forward(x.flatten::<2>(1, 3))).unwrap();
        let got = oracle.exact(&samples).unwrap().sum;

        let (mut in_weight, mut in_bias) = (vec![0.0; 12], vec![0.0; 4]);
        for row in x.chunks(3) {
            // In float32, as the layer computes them.
            let logits: Vec<f64> = (0..4)
                .map(|c| {
                    let bias = [gap, 0.0, -1.0, 2.0][c];
                    f64::from((0..3).map(|j| row[j] * weight[j * 4 + c]).sum::<f32>() + bias)
                })
                .collect();
            let top = logits.iter().fold(f64::NEG_INFINITY, |m, z| m.max(*z));
            let e: Vec<f64> = logits.iter().map(|z| (z - top).exp()).collect();
            let sum: f64 = e.iter().sum();
            for c in 0..4 {
                let rest: f64 = (0..4).filter(|o| *o != c).map(|o| e[o] / sum).sum();
                let variance = e[c] / sum * rest;
                in_bias[c] += variance;
                (0..3).for_each(|j| in_weight[j * 4 + c] += variance * f64::from(row[j]).powi(2));
            }
        }
        let read = |path: &str| -> Vec<f64> {
            got.get(&path.into()).unwrap().to_vec().unwrap().into_iter().map(f64::from).collect()
        };
        // Entry by entry: small ones must have their digits too.
        for (got, expected) in read("weight").iter().zip(&in_weight).chain(read("bias").iter().zip(&in_bias))
        {
            if *expected > 1e-36 {
                assert!((got / expected - 1.0).abs() < 2e-4, "gap {gap}: {got:e} but {expected:e}");
            }
        }
    }
}

#[test]
fn a_group_of_one_is_the_exact_diagonal_and_larger_groups_square_the_mean() {
    let one = oracle().group_mean(&samples(5), 1).unwrap();
    let exact = oracle().exact(&samples(5)).unwrap();
    assert_eq!(one.count, 5);
    close(&flat(&oracle(), &one.sum), &flat(&oracle(), &exact.sum), 1e-6);

    // Groups {0, 1, 2} and {3, 4}, through Burn's own cross-entropy with every label.
    let model = evaluation_copy(&net());
    let device = Device::flex().autodiff();
    let all = samples(5);
    let mut expected = vec![0.0; oracle().layout().len()];
    for range in [0..3, 3..5] {
        for class in 0..3 {
            let logits = model.forward(all.inputs(range.clone(), &device).unwrap());
            let p = burn::tensor::activation::softmax(logits.clone().inner(), 1);
            let p: f64 = f64::from(p.slice([0..range.len(), class..class + 1]).mean().into_scalar::<f32>());
            let targets =
                Tensor::from_data(TensorData::new(vec![class as i32; range.len()], [range.len()]), &device);
            let loss = CrossEntropyLossConfig::new().init(&device).forward(logits, targets);
            let g = ParamTree::of_gradients(&model, &GradientsParams::from_grads(loss.backward(), &model));
            flat(&oracle(), &g).iter().zip(&mut expected).for_each(|(g, e)| *e += p * g * g);
        }
    }
    let two = oracle().group_mean(&all, 3).unwrap();
    assert_eq!(two.count, 2);
    close(&flat(&oracle(), &two.sum), &expected, 1e-5);
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let one = oracle().exact(&samples(11)).unwrap();
    let v = oracle().weighted_gradient(&samples(11), &[1.0; 11], 4).unwrap();
    let pairs = oracle().pairs(&samples(11), &v).unwrap();
    for workers in [2, 3, 8] {
        let many = oracle().with_workers(workers);
        assert_eq!(flat(&many, &many.exact(&samples(11)).unwrap().sum), flat(&oracle(), &one.sum));
        assert_eq!(many.pairs(&samples(11), &v).unwrap(), pairs);
    }
}

#[test]
fn inner_products_and_sums_are_those_of_explicit_gradients() {
    let n = 9;
    let gradients = explicit(n);
    let weights: Vec<f64> = (0..n).map(|i| 0.3 * i as f64 - 1.0).collect();
    let combine = |j: usize| gradients.iter().zip(&weights).map(|(g, w)| g[j] * w).sum();
    let expected: Vec<f64> = (0..gradients[0].len()).map(combine).collect();
    let batched = oracle().weighted_gradient(&samples(n), &weights, 4).unwrap();
    close(&flat(&oracle(), &oracle().weighted_sum(&samples(n), &weights).unwrap()), &expected, 1e-5);
    close(&flat(&oracle(), &batched), &expected, 1e-5);

    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let gram: Vec<f64> = gradients
        .iter()
        .flat_map(|a| gradients.iter().map(move |b| (a, b)))
        .map(|(a, b)| dot(a, b))
        .collect();
    let dots: Vec<f64> = gradients.iter().map(|g| dot(g, &expected)).collect();
    let bytes = oracle().layout().len() * 4;
    // One chunk, chunks of two (the last short), chunks of one.
    for memory in [1 << 20, 4 * bytes, 0] {
        let pairs = oracle().with_memory(memory).pairs(&samples(n), &batched).unwrap();
        close(&pairs.gram, &gram, 1e-5);
        close(&pairs.dots, &dots, 1e-5);
    }
    close(&oracle().dots(&samples(n), &batched).unwrap(), &dots, 1e-5);
    let norms: Vec<f64> = gradients.iter().map(|g| dot(g, g)).collect();
    close(&oracle().norms_squared(&samples(n)).unwrap(), &norms, 1e-5);
}

#[test]
fn dropped_entries_are_no_parameters() {
    let path = ParamPath::new("conv.weight");
    let keep: Vec<bool> = (0..4 * 2 * 9).map(|i| i % 3 == 0).collect();
    let masked = oracle().with_kept(&BTreeMap::from([(path.clone(), keep.clone())])).unwrap();
    let full = oracle().exact(&samples(4)).unwrap().sum;
    let part = masked.exact(&samples(4)).unwrap().sum;
    let (full, part) =
        (full.get(&path).unwrap().to_vec().unwrap(), part.get(&path).unwrap().to_vec().unwrap());
    for ((full, part), keep) in full.iter().zip(&part).zip(&keep) {
        assert_eq!(*part, if *keep { *full } else { 0.0 });
    }
    let wrong = BTreeMap::from([(path, vec![true; 3])]);
    assert!(matches!(oracle().with_kept(&wrong), Err(CurvatureError::Shape { .. })));
    let unknown = BTreeMap::from([(ParamPath::new("norm.running_mean"), vec![true; 4])]);
    assert!(matches!(oracle().with_kept(&unknown), Err(CurvatureError::Keys { .. })));
}

#[test]
fn the_callers_batch_norm_does_not_move() {
    let model = net().train();
    let before = model.norm.running_mean.value_sync().into_data();
    let oracle = Oracle::new(&model, |net: &Net, x: Tensor<4>| net.forward(x)).unwrap();
    oracle.exact(&samples(4)).unwrap();
    assert_eq!(before, model.norm.running_mean.value_sync().into_data());
}

#[test]
fn bad_input_is_an_error() {
    let none = TensorSamples::new(tensor([1, 2, 5, 5], 0.0), vec![0]).unwrap();
    assert!(matches!(none.slice(1..1), Err(CurvatureError::Argument { field: "range", .. })));
    assert!(TensorSamples::new(tensor([2, 2, 5, 5], 0.0), vec![0]).is_err());
    let label = TensorSamples::new(tensor([1, 2, 5, 5], 0.0), vec![3]).unwrap();
    assert!(matches!(oracle().empirical(&label), Err(CurvatureError::Argument { field: "label", .. })));
    let broken = TensorSamples::new(tensor([1, 2, 5, 5], 0.0).mul_scalar(f32::NAN), vec![0]).unwrap();
    assert!(matches!(oracle().exact(&broken), Err(CurvatureError::NonFinite { .. })));
    assert!(matches!(oracle().group_mean(&none, 0), Err(CurvatureError::Argument { field: "size", .. })));
    let weights = oracle().weighted_sum(&none, &[1.0, 2.0]);
    assert!(matches!(weights, Err(CurvatureError::Argument { field: "weights", .. })));
    let frozen = net().no_grad();
    let refused = Oracle::new(&frozen, |net: &Net, x: Tensor<4>| net.forward(x));
    assert!(matches!(refused, Err(CurvatureError::Argument { field: "model", .. })));
}

#[test]
fn woodbury_solves_the_dense_system() {
    let n = 6;
    let gradients = explicit(n);
    let p = gradients[0].len();
    let v =
        oracle().weighted_gradient(&samples(9), &[1.0, -1.0, 0.0, 2.0, 0.5, 1.0, 1.0, -3.0, 1.0], 4).unwrap();
    let flat_v = flat(&oracle(), &v);
    let subset = samples(9).slice(0..n).unwrap();
    assert_eq!(subset.len(), n);
    let trace: f64 = gradients.iter().flatten().map(|g| g * g).sum();
    for damping in [Damping::Absolute(1.0), Damping::Absolute(1e-3), Damping::Relative(0.1)] {
        let solution = woodbury(&oracle(), &subset, &v, damping).unwrap();
        let lambda = match damping {
            Damping::Absolute(l) => l,
            Damping::Relative(r) => r * trace / (n * n) as f64,
        };
        assert!((solution.damping / lambda - 1.0).abs() < 1e-5);
        let mut dense = vec![0.0; p * p];
        for g in &gradients {
            for i in 0..p {
                for j in 0..p {
                    dense[i * p + j] += g[i] * g[j] / n as f64;
                }
            }
        }
        (0..p).for_each(|i| dense[i * p + i] += lambda);
        let expected = Cholesky::new(&dense, p).unwrap().solve(&flat_v).unwrap();
        close(&flat(&oracle(), &solution.direction), &expected, 1e-4);
        assert!(solution.residual < 1e-9, "{}", solution.residual);
        assert!(solution.jitter == 0.0 && (0.0..=n as f64).contains(&solution.effective_rank.unwrap()));
        let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
        let cosine: f64 =
            expected.iter().zip(&flat_v).map(|(a, b)| a * b).sum::<f64>() / (norm(&expected) * norm(&flat_v));
        assert!((solution.cosine - cosine).abs() < 1e-4);
    }
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let refused = woodbury(&oracle(), &subset, &v, Damping::Absolute(bad));
        assert!(matches!(refused, Err(CurvatureError::Argument { field: "damping", .. })));
    }
}

/// The published loop, word for word, in float64.
fn literal(gradients: &[Vec<f64>], v: &[f64], n: usize) -> Vec<f64> {
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let (mut k, mut o) = (v.to_vec(), Vec::new());
    for (index, g) in gradients.iter().enumerate() {
        if index == 0 {
            o.clone_from(g);
        } else {
            let t = dot(&o, g);
            let along = dot(&k, g) / (n as f64 + t);
            k.iter_mut().zip(&o).for_each(|(k, o)| *k -= along * o);
            o = o.iter().map(|o| o - t / (n as f64 + t) * o).collect();
        }
        if index > n {
            return k;
        }
    }
    k
}

#[test]
fn the_closed_form_is_the_published_loop() {
    let gradients = explicit(9);
    let weights = [1.0, 1.0, 0.0, -2.0, 0.0, 1.0, 0.5, 1.0, 1.0];
    let v = oracle().weighted_gradient(&samples(9), &weights, 4).unwrap();
    let flat_v = flat(&oracle(), &v);
    // All samples; all but one; only five of them.
    for n in [1000, 6, 3] {
        let got = reference_recursion(&oracle(), &samples(9), &v, ReferenceRecursion { n }, 4).unwrap();
        close(&flat(&oracle(), &got), &literal(&gradients, &flat_v, n), 1e-5);
    }
    let refused = reference_recursion(&oracle(), &samples(2), &v, ReferenceRecursion { n: 0 }, 4);
    assert!(matches!(refused, Err(CurvatureError::Argument { field: "n", .. })));
}
