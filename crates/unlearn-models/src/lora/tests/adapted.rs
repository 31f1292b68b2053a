//! What an adapted network is and does.

use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig};
use unlearn_curvature::parameters;

use super::*;
use crate::{Classifier, Taped};

/// As loading a record does, which brings identifiers of its own.
#[test]
fn branches_find_their_layers_under_new_identifiers() {
    let device = Device::flex();
    let adapted = stirred(add_adapters(base(&device), &config(), &mut rng(3)).unwrap());
    let (pictures, before) = (images(3, &device), host(adapted.forward(images(3, &device))));
    let ids =
        |model: &Adapted<crate::ResNet>| parameters(model).into_iter().map(|p| p.id).collect::<Vec<_>>();
    let renamed = crate::with_stable_ids(adapted.clone());
    assert_ne!(ids(&renamed), ids(&adapted));
    assert_eq!(host(renamed.forward(pictures.clone())), before);
    renamed.check_reached(pictures).unwrap();
}

#[test]
fn weights_that_were_frozen_before_are_parameters_too() {
    let model = base(&Device::flex());
    let report = |model| add_adapters(model, &config(), &mut rng(1)).unwrap().trainable();
    assert_eq!(report(model.clone().no_grad()), report(model));
}

#[test]
fn new_adapters_change_nothing() {
    let device = Device::flex();
    let model = base(&device);
    let before = host(model.forward(images(3, &device)));
    let adapted = add_adapters(model.clone(), &config(), &mut rng(3)).unwrap();
    assert_eq!(host(adapted.forward(images(3, &device))), before);
    assert_eq!(adapted.num_classes(), 5);
    let stirred = stirred(adapted);
    assert!(distance(&host(stirred.forward(images(3, &device))), &before) > 0.05);
}

/// Against the definition, written out in float64: y = x W + b + (α/r) (x A) B.
#[test]
fn a_linear_branch_is_its_formula() {
    #[derive(Module, Debug)]
    struct Head {
        fc: Linear,
    }
    impl Taped for Head {
        fn forward_on(
            &self,
            images: unlearn_curvature::tape::Var<4>,
            tape: &mut dyn unlearn_curvature::tape::Tape,
        ) -> unlearn_curvature::tape::Var<2> {
            let x = tape.global_avg_pool(images);
            tape.linear(&self.fc, x)
        }
    }
    impl Classifier for Head {
        fn forward(&self, images: Tensor<4>) -> Tensor<2> {
            crate::forward_plain(self, images)
        }

        fn num_classes(&self) -> usize {
            4
        }

        fn taped(&self) -> Option<&dyn Taped> {
            Some(self)
        }
    }
    let device = Device::flex();
    for rs_lora in [false, true] {
        let head = Head { fc: LinearConfig::new(3, 4).init(&device) };
        let lora = LoraConfig { rs_lora, ..LoraConfig::new(2, 5.0, ["fc"]) };
        let adapted = stirred(add_adapters(head.clone(), &lora, &mut rng(4)).unwrap());
        let [adapter] = adapted.linears() else { panic!("one adapter") };
        let x: Vec<f64> = (0..6).map(|i| f64::from(i) / 7.0 - 0.3).collect();
        let pixels: Vec<f32> = x.iter().flat_map(|v| [*v as f32; 4]).collect();
        let got = host(adapted.forward(Tensor::from_data(TensorData::new(pixels, [2, 3, 2, 2]), &device)));
        let wide = |t: Vec<f32>| t.into_iter().map(f64::from).collect::<Vec<_>>();
        let (w, bias) = (wide(host(head.fc.weight.val())), wide(host(head.fc.bias.as_ref().unwrap().val())));
        let (a, b) = (wide(host(adapter.a.val())), wide(host(adapter.b.val())));
        let scale = 5.0 / if rs_lora { 2.0_f64.sqrt() } else { 2.0 };
        for n in 0..2 {
            for o in 0..4 {
                let row = |i: usize| x[n * 3 + i];
                let straight: f64 = (0..3).map(|i| row(i) * w[i * 4 + o]).sum();
                let branch: f64 =
                    (0..2).map(|r| (0..3).map(|i| row(i) * a[i * 2 + r]).sum::<f64>() * b[r * 4 + o]).sum();
                let expected = straight + bias[o] + scale * branch;
                // Ten roundings of values below three.
                let got = f64::from(got[n * 4 + o]);
                assert!((got - expected).abs() < 10.0 * 3.0 * 2f64.powi(-24), "{got} {expected}");
            }
        }
    }
}

#[test]
fn factors_start_as_peft_starts_them() {
    let adapted = add_adapters(base(&Device::flex()), &config(), &mut rng(5)).unwrap();
    for adapter in adapted.convs() {
        let fan: usize = adapter.a.dims()[1..].iter().product();
        let (a, bound) = (host(adapter.a.val()), 1.0 / (fan as f32).sqrt());
        assert!(a.iter().all(|v| v.abs() <= bound), "uniform within ±1/√{fan}");
        assert!(a.iter().any(|v| v.abs() > 0.8 * bound) && a.iter().any(|v| *v < 0.0));
        assert!(host(adapter.b.val()).iter().all(|v| *v == 0.0));
    }
    let [fc] = adapted.linears() else { panic!("one linear layer") };
    assert_eq!((fc.a.dims(), fc.b.dims()), ([32, 3], [3, 5]));
    assert!(host(fc.b.val()).iter().all(|v| *v == 0.0));
    let again = add_adapters(base(&Device::flex()), &config(), &mut rng(5)).unwrap();
    assert_eq!(bits(&adapted), bits(&again));
    let ids = |m: &Adapted<ResNet>| {
        let adapters = parameters(m).into_iter().filter(|p| p.path.as_str().starts_with("lora."));
        adapters.map(|p| (p.path, p.id.val())).collect::<Vec<_>>()
    };
    assert_eq!(ids(&adapted), ids(&again));
    assert!(ids(&adapted).iter().any(|(path, _)| path.as_str() == "lora.layer1.0.conv1.a"));
}

#[test]
fn the_report_counts_parameters() {
    let model = base(&Device::flex());
    let total: usize =
        parameters(&model).iter().filter(|p| p.trainable).map(|p| p.shape.iter().product::<usize>()).sum();
    let lora = LoraConfig::new(2, 4.0, ["layer1.0.conv1", "fc"]);
    let report = add_adapters(model.clone(), &lora, &mut rng(1)).unwrap().trainable();
    let adapters = (2 * 4 * 9 + 4 * 2) + (32 * 2 + 2 * 5);
    assert_eq!(report, TrainableReport { trainable: adapters, total: total + adapters });
    assert!((report.share() - adapters as f64 / (total + adapters) as f64).abs() < 1e-12);

    let lora =
        LoraConfig { modules_to_save: vec!["fc".into()], ..LoraConfig::new(2, 4.0, ["layer1.0.conv1"]) };
    let report = add_adapters(model, &lora, &mut rng(1)).unwrap().trainable();
    let adapters = 2 * 4 * 9 + 4 * 2;
    assert_eq!(report, TrainableReport { trainable: adapters + 33 * 5, total: total + adapters });
}

#[test]
fn patterns_choose_layers() {
    let names = |targets: &[&str]| {
        let lora = LoraConfig::new(1, 1.0, targets.iter().copied());
        let adapted = add_adapters(base(&Device::flex()), &lora, &mut rng(1)).unwrap();
        adapted.modules().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(&["1.conv2"]), ["layer2.1.conv2"]);
    assert_eq!(names(&["fc", "layer3.0.downsample.0"]), ["layer3.0.downsample.0", "fc"]);
    assert_eq!(names(&["conv1"]).len(), 6);
}

/// One step of SGD with the loss Σ logits².
fn step(model: Adapted<ResNet>, optimizer: &mut ModuleOptimizer) -> Adapted<ResNet> {
    let device = Device::flex().autodiff();
    let loss = model.forward(images(4, &device)).square().mean();
    let gradients = GradientsParams::from_grads(loss.backward(), &model);
    optimizer.step(0.05, model, gradients)
}

#[test]
fn training_moves_the_adapters_and_nothing_else() {
    let device = Device::flex().autodiff();
    for (norms, full) in
        [(Norms::Frozen, vec![]), (Norms::Frozen, vec!["fc".to_owned()]), (Norms::Train, vec![])]
    {
        let lora = LoraConfig {
            norms,
            modules_to_save: full.clone(),
            dropout: 0.2,
            ..LoraConfig::new(3, 6.0, ["conv1", "conv2"])
        };
        let mut model = add_adapters(base(&device), &lora, &mut rng(3)).unwrap();
        let before = bits(&model);
        let mut optimizer = SgdConfig::new().init();
        for _ in 0..3 {
            model = step(model, &mut optimizer);
        }
        for ((path, before), (_, after)) in before.into_iter().zip(bits(&model)) {
            let norm = path.contains("bn") || path.contains("downsample.1");
            let moves = !path.starts_with("base.")
                || (norms == Norms::Train && norm)
                || full.iter().any(|f| path.starts_with(&format!("base.{f}.")));
            assert_eq!(before != after, moves, "{path}");
        }
        // What is handed back trains as the base did, and its norms do.
        let merged = model.merge().unwrap();
        let trains = |m: &ResNet| {
            parameters(m).into_iter().filter(|p| p.trainable).map(|p| p.path).collect::<Vec<_>>()
        };
        assert_eq!(trains(&merged), trains(&base(&device)));
        assert!(merged.train().bn1.training.is_enabled());
    }
}

#[test]
fn nothing_before_the_first_adapter_is_on_the_graph() {
    use unlearn_curvature::tape::{AnyTensor, ErasedVar, Inputs, Op, Plain, Tape};
    /// Notes for every sum and every branch whether its result is tracked.
    #[derive(Default)]
    struct Watching(Plain, Vec<bool>);
    impl Tape for Watching {
        fn run(&mut self, op: Op<'_>, inputs: Inputs) -> ErasedVar {
            let y = self.0.run(op, inputs);
            if let (Op::AddRelu | Op::BranchedConv2d { .. }, AnyTensor::R4(t)) = (op, &y.value) {
                self.1.push(t.is_tracked());
            }
            y
        }
    }
    let device = Device::flex().autodiff();
    let lora = LoraConfig::new(3, 6.0, ["layer3.0.conv2"]);
    let model = add_adapters(base(&device), &lora, &mut rng(3)).unwrap();
    let mut watching = Watching::default();
    let tape: &mut dyn Tape = &mut watching;
    let x = tape.constant(images(2, &device));
    model.forward_on(x, tape);
    // Additions: one shortcut a block (layers 1, 2, 2), the branch and the shortcut of layer 3, layer 4.
    assert_eq!(watching.1, [false, false, false, true, true, true]);
}

#[test]
fn dropout_acts_in_training_only() {
    let device = Device::flex().autodiff();
    let lora = LoraConfig { dropout: 0.5, ..config() };
    let model = stirred(add_adapters(base(&Device::flex()), &lora, &mut rng(3)).unwrap()).train();
    let outputs = |seed| {
        device.seed(seed);
        host(model.forward(images(3, &device)))
    };
    assert_ne!(outputs(1), outputs(2));
    let plain = model.valid();
    let evaluated = host(plain.forward(images(3, &Device::flex())));
    assert_eq!(evaluated, host(plain.forward(images(3, &Device::flex()))));
    let without = stirred(add_adapters(base(&Device::flex()), &config(), &mut rng(3)).unwrap());
    assert_eq!(evaluated, host(without.forward(images(3, &Device::flex()))));
}

#[test]
fn adapters_lie_where_the_base_does() {
    let plain = add_adapters(base(&Device::flex()), &config(), &mut rng(3)).unwrap();
    assert!(plain.devices().iter().all(|d| !d.is_autodiff()));
    let training = add_adapters(base(&Device::flex().autodiff()), &config(), &mut rng(3)).unwrap();
    assert!(training.convs()[0].a.is_require_grad() && !training.base().conv1.weight.is_require_grad());
}

#[test]
fn adapters_on_an_adapted_network_stand_beside_the_same_layers() {
    let device = Device::flex();
    let inner = stirred(add_adapters(base(&device), &config(), &mut rng(3)).unwrap());
    let outer = stirred(add_adapters(inner.clone(), &config(), &mut rng(4)).unwrap());
    let got = host(outer.forward(images(3, &device)));
    // Both branches, one after the other, in the weights.
    let merged = host(outer.merge().unwrap().merge().unwrap().forward(images(3, &device)));
    let alone = host(inner.forward(images(3, &device)));
    let most = got.iter().fold(0f32, |most, y| most.max(y.abs()));
    let apart = |other: &[f32]| got.iter().zip(other).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(apart(&merged) <= 1e-5 * most, "{} of {most}", apart(&merged));
    assert!(apart(&alone) > 1e-3 * most);
}
