use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use unlearn_curvature::{ParamTree, parameters};
use unlearn_models::Classifier;
use unlearn_train::{Constraint, CrossEntropy, FitConfig, OptimizerConfig, Silent, Unconstrained, fit};

use super::mask::thirds;
use super::net::{INPUT, TinyNet, bits, loader, values};

fn optimizers() -> Vec<(OptimizerConfig, f64)> {
    let sgd = |momentum, nesterov| OptimizerConfig::Sgd { momentum, weight_decay: 0.05, nesterov };
    let adam_w = OptimizerConfig::AdamW { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, weight_decay: 0.3 };
    vec![(sgd(0.0, false), 0.05), (sgd(0.9, false), 0.05), (sgd(0.9, true), 0.05), (adam_w, 0.02)]
}

/// Pruned weights that are not +0.0 exactly.
fn leaks(net: &TinyNet) -> usize {
    let of = |path| values(net, path).into_iter().step_by(3).filter(|w| w.to_bits() != 0).count();
    of("conv2.weight") + of("head.weight")
}

#[test]
fn pruned_weights_stay_exactly_zero_through_twenty_steps() {
    let net = TinyNet::flex(3);
    let mask = thirds(&net);
    let sparse = mask.apply(&net).unwrap();
    let constraint = mask.constraint(&sparse).unwrap();
    for (optimizer, rate) in optimizers() {
        let config = FitConfig::new(5, rate, optimizer); // 4 steps an epoch
        let train = |start: &TinyNet, constraint: &dyn Constraint<TinyNet>| {
            let objective = CrossEntropy::default();
            fit(start.valid(), &loader(32, 8), &objective, constraint, &config, &mut Silent).unwrap()
        };
        let held = train(&sparse, &constraint);
        assert_eq!(held.steps, 20);
        assert_eq!(leaks(&held.model), 0, "{optimizer:?}");
        let moved = |path| values(&held.model, path) != values(&sparse, path);
        assert!(moved("conv2.weight") && moved("head.weight") && moved("conv1.weight"), "{optimizer:?}");
        // Entering with weights under the mask comes to the same.
        assert_eq!(bits(&train(&net, &constraint).model), bits(&held.model), "{optimizer:?}");
        // And it is the constraint that does it.
        assert!(leaks(&train(&sparse, &Unconstrained).model) > 50, "{optimizer:?}");
    }
}

#[test]
#[allow(deprecated)]
fn it_holds_on_the_other_backend_too() {
    let net = TinyNet::new(&Device::ndarray(), 3);
    let mask = thirds(&net);
    let constraint = mask.constraint(&net).unwrap();
    for (optimizer, rate) in optimizers() {
        let config = FitConfig::new(1, rate, optimizer);
        let objective = CrossEntropy::default();
        let held = fit(net.valid(), &loader(8, 4), &objective, &constraint, &config, &mut Silent).unwrap();
        assert_eq!(leaks(&held.model), 0, "{optimizer:?}");
    }
}

fn gradients(net: &TinyNet) -> GradientsParams {
    let device = Device::flex().autodiff();
    let x = Tensor::<4>::ones([2, INPUT.channels, INPUT.height, INPUT.width], &device);
    GradientsParams::from_grads(net.forward(x).powf_scalar(2.0).sum().backward(), net)
}

#[test]
fn gradients_are_zero_under_the_mask_and_the_same_elsewhere() {
    let net = TinyNet::flex(4).train();
    let constraint = thirds(&net).constraint(&net).unwrap();
    let raw = ParamTree::of_gradients(&net, &gradients(&net));
    let held = ParamTree::of_gradients(&net, &constraint.gradients(&net, gradients(&net)));
    assert_eq!(raw.len(), held.len());
    let mut zeroed = 0;
    for ((path, raw), (_, held)) in raw.iter().zip(held.iter()) {
        let masked = ["conv2.weight", "head.weight"].contains(&path.as_str());
        for (i, (raw, held)) in raw.to_vec().unwrap().into_iter().zip(held.to_vec().unwrap()).enumerate() {
            let gone = masked && i % 3 == 0;
            zeroed += usize::from(gone && raw != 0.0);
            assert_eq!(held.to_bits(), if gone { 0.0 } else { raw }.to_bits(), "{path}[{i}]");
        }
    }
    assert!(zeroed > 20, "the test saw only {zeroed} gradients to zero");
}

#[test]
fn gradients_that_are_not_numbers_are_filled_too() {
    let net = TinyNet::flex(4).train();
    let constraint = thirds(&net).constraint(&net).unwrap();
    let mut bad = gradients(&net);
    let id = net.head.weight.id;
    bad.register(id, Tensor::<2>::full([6, 4], f32::NAN, &Device::flex()));
    let held = constraint.gradients(&net, bad).get::<2>(id).unwrap().into_data();
    for (i, g) in held.try_to_vec::<f32>().unwrap().into_iter().enumerate() {
        assert_eq!(g.is_nan(), i % 3 != 0, "entry {i} is {g}");
    }
}

/// `Param::map` on an autodiff parameter makes it the result of an operation: it would silently
/// stop training.
#[test]
fn projected_parameters_stay_trainable_leaves() {
    for device in [Device::flex().autodiff(), Device::flex().autodiff().gradient_checkpointing()] {
        let net = TinyNet::flex(5).train().fork(&device);
        let constraint = thirds(&net).constraint(&net).unwrap();
        let projected = constraint.project(net.clone());
        assert_eq!(parameters(&projected), parameters(&net));
        for weight in [&projected.conv2.weight, &projected.conv1.weight] {
            assert!(weight.is_require_grad());
        }
        let gradients = gradients(&projected);
        assert!(gradients.get::<4>(projected.conv2.weight.id).is_some(), "stopped training");
        assert_eq!(gradients.len(), 10);
        assert_eq!(leaks(&projected), 0);
    }
}

#[test]
fn frozen_parameters_stay_frozen_and_plain_ones_plain() {
    let net = TinyNet::flex(5).no_grad().train();
    let constraint = thirds(&net).constraint(&net).unwrap();
    let projected = constraint.project(net);
    assert!(parameters(&projected).iter().all(|p| !p.trainable));
    assert_eq!(leaks(&projected), 0);
    let plain = constraint.project(TinyNet::flex(5));
    assert!(!plain.conv2.weight.val().is_autodiff());
    assert!(parameters(&plain).iter().any(|p| p.trainable));
}

#[test]
fn a_run_directory_can_tell_masks_apart() {
    let net = TinyNet::flex(1);
    let mask = thirds(&net);
    let say = |mask: &crate::MaskSet| Constraint::<TinyNet>::describe(&mask.constraint(&net).unwrap());
    assert!(say(&mask).contains(&mask.fingerprint()));
    assert_ne!(say(&mask), say(&crate::MaskSet::new()));
}
