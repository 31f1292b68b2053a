//! Fisher matrices over adapters only, by the engine and by the oracle: one sample at a time, Burn's autodiff.

use unlearn_curvature::inverse::{Damping, woodbury};
use unlearn_curvature::oracle::{Oracle, TensorSamples};
use unlearn_curvature::{FisherDiag, InverseFisher, ParamTree, PerSample, parameters};

use super::*;
use crate::{Classifier, forward_taped};

fn samples(n: usize) -> TensorSamples {
    TensorSamples::new(images(n, &Device::flex()), (0..n).map(|i| (i * 3 + i / 2) % 5).collect()).unwrap()
}

fn oracle(
    model: &Adapted<ResNet>,
) -> Oracle<'static, Adapted<ResNet>, impl Fn(&Adapted<ResNet>, Tensor<4>) -> Tensor<2> + Sync + use<>> {
    Oracle::new(model, |model: &Adapted<ResNet>, x: Tensor<4>| model.forward(x)).unwrap()
}

fn same(got: &ParamTree, expected: &ParamTree, tolerance: f32) {
    assert_eq!(got.len(), expected.len());
    for ((path, got), (other, expected)) in got.iter().zip(expected.iter()) {
        assert_eq!((path, &got.shape), (other, &expected.shape));
        let expected = expected.to_vec().unwrap();
        assert!(expected.iter().any(|v| *v != 0.0), "{path}: nothing to compare");
        let d = distance(&got.to_vec().unwrap(), &expected);
        assert!(d < tolerance, "{path}: {d:e}");
    }
}

#[test]
fn fisher_diagonals_are_of_the_adapters_and_the_head_only() {
    let lora = LoraConfig {
        modules_to_save: vec!["fc".into()],
        ..LoraConfig::new(2, 6.0, ["conv1", "downsample.0"])
    };
    let model = stirred(add_adapters(base(&Device::flex()), &lora, &mut rng(3)).unwrap());
    let samples = samples(6);
    for exact in [true, false] {
        let fisher = if exact { FisherDiag::exact() } else { FisherDiag::empirical() };
        let got = fisher.batch(4).run(&model, forward_taped, &samples).unwrap();
        let oracle = oracle(&model);
        let expected = if exact { oracle.exact(&samples) } else { oracle.empirical(&samples) }.unwrap();
        assert_eq!(got.count, expected.count);
        same(&got.sum, &expected.sum, 1e-4);
        let trained: Vec<_> =
            parameters(&model).into_iter().filter(|p| p.trainable).map(|p| p.path).collect();
        assert_eq!(got.sum.len(), trained.len());
        assert!(
            trained.iter().all(|p| !p.as_str().starts_with("base.") || p.as_str().starts_with("base.fc."))
        );
    }
}

#[test]
fn inverse_fisher_products_are_the_oracles() {
    let lora = LoraConfig::new(2, 6.0, ["conv2", "fc"]);
    let model = stirred(add_adapters(base(&Device::flex()), &lora, &mut rng(3)).unwrap());
    let samples = samples(7);
    let weights: Vec<f64> = (0..7).map(|i| f64::from(i) - 2.5).collect();
    let v = PerSample::new().weighted_gradient(&model, forward_taped, &samples, &weights).unwrap();
    // The solve amplifies what float32 leaves open of the gradients, about 1e-6, by the spectrum over λ.
    let damping = Damping::Relative(0.1);
    let got = InverseFisher::woodbury(7).damping(damping).solve(&model, forward_taped, &samples, &v).unwrap();
    let expected = woodbury(&oracle(&model), &samples, &v, damping).unwrap();
    same(&got.direction, &expected.direction, 1e-4);
    assert_eq!(got.samples, 7);
}
