//! Where arithmetic is easily lost.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::nets::{Net, residual, rows, shared};
use super::{forward, oracle, same, same_tree, samples, tensor};
use crate::oracle::{Oracle, TensorSamples};
use crate::tape::{Tape, Var};
use crate::{FisherDiag, ParamTree, PerSample};

/// `net` with some parameters scaled.
fn scaled(net: &Net, part: &str, factor: f64) -> Net {
    let tree = ParamTree::of_parameters(net);
    tree.map(|path, x| if path.as_str().contains(part) { x.mul_scalar(factor) } else { x })
        .write_into(net)
        .unwrap()
}

#[test]
fn sure_and_undecided_predictions_match_the_oracle() {
    for base in [residual(4), rows(4), shared(4)] {
        let samples = samples(5, 4);
        // Undecided: all logits equal. Sure: gaps of tens.
        for (factor, part) in [(0.0, "head"), (5.0, "head"), (12.0, "head.weight")] {
            let net = scaled(&base, part, factor);
            let exact = FisherDiag::exact().run(&net, forward, &samples).unwrap().sum;
            let expected = oracle(&net).exact(&samples).unwrap().sum;
            if factor == 0.0 {
                // Only the head sees anything; the rest is exactly zero.
                for (path, leaf) in exact.iter() {
                    let (got, want) = (leaf.to_vec().unwrap(), expected.get(path).unwrap().to_vec().unwrap());
                    let scale = want.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
                    assert_eq!(scale > 0.0, path.as_str().contains("head"), "{path}");
                    assert!(got.iter().zip(&want).all(|(g, w)| (g - w).abs() <= 2e-5 * scale), "{path}");
                }
            } else {
                same_tree(&exact, &expected, 5e-5);
            }
        }
    }
}

#[derive(Module, Debug)]
struct Head {
    linear: Linear,
}

fn head(net: &Head, images: Var<4>, tape: &mut dyn Tape) -> Var<2> {
    let x = tape.global_avg_pool(images);
    tape.linear(&net.linear, x)
}

fn head_of(classes: usize, gap: f32) -> Head {
    let device = Device::flex();
    let net = Head { linear: LinearConfig::new(3, classes).init(&device) };
    let mut tree = ParamTree::new();
    let weight = super::numbers(3 * classes, 1.0);
    tree.insert_host("linear.weight".into(), vec![3, classes], weight, &device).unwrap();
    let bias = (0..classes).map(|c| if c == 0 { gap } else { 0.0 }).collect();
    tree.insert_host("linear.bias".into(), vec![classes], bias, &device).unwrap();
    tree.write_into(&net).unwrap()
}

/// For a linear classifier F_b\[c\] = Σ_n p_nc (1 − p_nc), entry by entry, however sure the model is.
#[test]
fn gaps_of_up_to_eighty_keep_every_digit() {
    for classes in [2, 10, 100] {
        for gap in [0.0, 20.0, 40.0, 80.0] {
            let net = head_of(classes, gap);
            let samples = TensorSamples::new(tensor([6, 3, 2, 2], 4.0), vec![0; 6]).unwrap();
            let oracle = Oracle::new(&net, |net: &Head, x: Tensor<4>| {
                let [n, c, h, w] = x.dims();
                net.linear.forward(x.reshape([n, c, h * w]).mean_dim(2).reshape([n, c]))
            })
            .unwrap();
            for (got, expected) in [
                (FisherDiag::exact().run(&net, head, &samples).unwrap(), oracle.exact(&samples).unwrap()),
                (
                    FisherDiag::empirical().run(&net, head, &samples).unwrap(),
                    oracle.empirical(&samples).unwrap(),
                ),
            ] {
                for (path, leaf) in expected.sum.iter() {
                    let got = got.sum.get(path).unwrap().to_vec().unwrap();
                    for (g, e) in got.iter().zip(leaf.to_vec().unwrap()) {
                        if e > 1e-36 {
                            assert!(
                                (g / e - 1.0).abs() < 1e-4,
                                "{classes} classes, gap {gap}, {path}: {g:e} vs {e:e}"
                            );
                        }
                    }
                }
            }
            // Norms and products of gradients far below the range of float32 squares.
            let norms = PerSample::new().norms_squared(&net, head, &samples).unwrap();
            let expected = oracle.norms_squared(&samples).unwrap();
            for (g, e) in norms.iter().zip(&expected) {
                assert!((g / e - 1.0).abs() < 1e-4, "gap {gap}: {g:e} vs {e:e}");
            }
            let gram = PerSample::new().batch(4).gram(&net, head, &samples).unwrap();
            same(&(0..6).map(|i| gram[i * 7]).collect::<Vec<_>>(), &expected, 1e-4);
        }
    }
}

#[test]
fn many_classes_and_two() {
    for classes in [2, 100] {
        let net = residual(classes);
        let samples = samples(3, classes);
        let exact = FisherDiag::exact().run(&net, forward, &samples).unwrap().sum;
        same_tree(&exact, &oracle(&net).exact(&samples).unwrap().sum, 5e-5);
    }
}

/// x̂ must come from the input: with γ = 0 the output is β everywhere.
#[test]
fn a_scale_of_zero_has_curvature() {
    let net = scaled(&residual(4), "last_bn.gamma", 0.0);
    // β positive, so that something passes the ReLU behind.
    let tree = ParamTree::of_parameters(&net);
    let net = tree
        .map(|path, x| if path.as_str().ends_with("last_bn.beta") { x.abs() + 0.1 } else { x })
        .write_into(&net)
        .unwrap();
    let samples = samples(4, 4);
    let exact = FisherDiag::exact().run(&net, forward, &samples).unwrap().sum;
    let expected = oracle(&net).exact(&samples).unwrap().sum;
    for end in ["last_bn.gamma", "last_bn.beta", "head.weight"] {
        let (path, leaf) = exact.iter().find(|(path, _)| path.as_str().ends_with(end)).unwrap();
        let (got, want) = (leaf.to_vec().unwrap(), expected.get(path).unwrap().to_vec().unwrap());
        let scale = want.iter().fold(0.0_f32, |m, v| m.max(*v));
        assert!(scale > 0.0, "{path}");
        assert!(got.iter().zip(&want).all(|(g, w)| (g - w).abs() <= 2e-5 * scale), "{path}");
    }
}

#[test]
fn one_sample_is_enough_and_duplicates_count() {
    let net = residual(4);
    let one = samples(1, 4);
    let single = FisherDiag::exact().run(&net, forward, &one).unwrap();
    same_tree(&single.sum, &oracle(&net).exact(&one).unwrap().sum, 2e-5);
    let images = Tensor::cat(vec![tensor::<4>([1, 2, 9, 7], 3.0); 3], 0);
    let three = TensorSamples::new(images, vec![0; 3]).unwrap();
    let triple = FisherDiag::exact().run(&net, forward, &three).unwrap();
    assert_eq!(triple.count, 3);
    same_tree(&triple.sum, &single.sum.scale(3.0), 2e-5);
}
