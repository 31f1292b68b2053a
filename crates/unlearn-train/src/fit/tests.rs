mod adapters;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use unlearn_data::{Batch, Loader, Seed};
use unlearn_models::Classifier;

use crate::testing::{CLASSES, TinyNet, bits, loader, pictures};
use crate::{
    BatchNormMode, CrossEntropy, Event, Fit, FitConfig, Loss, Moment, Objective, Observer, OptimizerConfig,
    Schedule, Silent, TrainError, Unconstrained, fit,
};

const PLAIN: CrossEntropy = CrossEntropy { label_smoothing: 0.0 };

fn config(epochs: u64, rate: f64) -> FitConfig {
    FitConfig::new(epochs, rate, OptimizerConfig::sgd(0.9, 5e-4))
}

fn run(net: &TinyNet, loader: &Loader, config: &FitConfig) -> Result<Fit<TinyNet>, TrainError> {
    fit(net.clone(), loader, &PLAIN, &Unconstrained, config, &mut Silent)
}

#[test]
fn a_run_learns_and_says_so() {
    let (net, loader) = (TinyNet::new(8, 1), loader(96, 16));
    let done = run(&net, &loader, &config(12, 0.1)).unwrap();
    assert_eq!(done.steps, 12 * 6);
    assert_eq!(done.history.len(), 12);
    let (first, last) = (&done.history[0], &done.history[11]);
    assert!(last.loss < 0.5 * first.loss, "{first:?} {last:?}");
    assert!(last.accuracy > 0.9, "{last:?}");
    assert!(!done.model.devices()[0].is_autodiff());
}

#[test]
fn equal_settings_give_equal_bits_and_the_callers_model_stays() {
    let (net, loader) = (TinyNet::new(4, 2), loader(40, 16));
    let before = bits(&net);
    let config = FitConfig { schedule: Schedule::CosineSteps, clip_norm: Some(0.5), ..config(2, 0.1) };
    let a = run(&net, &loader, &config).unwrap();
    let b = run(&net, &loader, &config).unwrap();
    // A model that comes from an autodiff device is no different.
    let c = run(&net.clone().valid().train(), &loader, &config).unwrap();
    assert_eq!(bits(&a.model), bits(&b.model));
    assert_eq!(bits(&a.model), bits(&c.model));
    assert_ne!(bits(&a.model), before);
    assert_eq!(bits(&net), before);
}

#[test]
fn snapshots_are_the_models_of_shorter_runs() {
    let (net, loader) = (TinyNet::new(4, 2), loader(40, 16));
    let whole = FitConfig { snapshot_epochs: vec![0, 2, 3], ..config(3, 0.05) };
    let done = run(&net, &loader, &whole).unwrap();
    assert_eq!(done.snapshots.keys().copied().collect::<Vec<_>>(), [0, 2, 3]);
    assert_eq!(bits(&done.snapshots[&0]), bits(&net));
    let short = run(&net, &loader, &config(2, 0.05)).unwrap();
    assert_eq!(bits(&done.snapshots[&2]), bits(&short.model));
    assert_eq!(bits(&done.snapshots[&3]), bits(&done.model));
}

#[test]
fn a_zero_rate_moves_statistics_and_nothing_else() {
    let (net, loader) = (TinyNet::new(4, 2), loader(32, 16));
    for optimizer in [OptimizerConfig::sgd(0.9, 5e-4), OptimizerConfig::adam_w()] {
        // Two warm-up epochs of one step each: the first has rate zero, the second half.
        let one = Loader::new(loader.dataset(), loader.indices(), 32).unwrap();
        let config = FitConfig { warmup_epochs: 2, ..FitConfig::new(1, 0.1, optimizer) };
        let done = run(&net, &one, &config).unwrap();
        let (before, after) = (bits(&net), bits(&done.model));
        let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        assert!(moved > 0 && moved <= 8, "{moved} of four means and four variances");
    }
}

#[test]
fn frozen_batch_norms_keep_their_statistics_and_thaw_in_the_result() {
    let (net, loader) = (TinyNet::new(4, 2), loader(32, 16));
    let frozen = FitConfig { batch_norm: BatchNormMode::Frozen, ..config(1, 0.05) };
    let done = run(&net, &loader, &frozen).unwrap();
    let statistics = |net: &TinyNet| {
        let mut statistics = Statistics::default();
        net.valid().visit(&mut statistics);
        assert_eq!(statistics.found.len(), 8);
        statistics.found
    };
    assert_eq!(statistics(&done.model), statistics(&net));
    assert_ne!(bits(&done.model), bits(&net));
    // The next run trains them again.
    let next = run(&done.model, &loader, &config(1, 0.05)).unwrap();
    assert_ne!(statistics(&next.model), statistics(&net));
}

/// The running statistics, as bits.
#[derive(Default)]
struct Statistics {
    names: Vec<String>,
    found: Vec<u32>,
}

impl burn::module::ModuleVisitor for Statistics {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.names.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.names.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
        if self.names.last().is_some_and(|n| n.starts_with("running")) {
            let values = param.val().into_data().try_into_vec_as::<f32>().unwrap();
            self.found.extend(values.into_iter().map(f32::to_bits));
        }
    }
}

/// Gives the loss `f(step)` of the true one.
struct Spoiled<F>(F);

impl<M: Classifier, F: Fn(Tensor<1>, u64) -> Tensor<1> + Send + Sync> Objective<M> for Spoiled<F> {
    fn loss(&self, model: &M, batch: &Batch, at: Moment) -> Loss {
        let Loss { value, logits } = PLAIN.loss(model, batch, at);
        Loss { value: (self.0)(value, at.step), logits }
    }
}

fn diverged(result: Result<Fit<TinyNet>, TrainError>) -> (u64, &'static str, f64) {
    match result.unwrap_err() {
        TrainError::Diverged { step, what, last_loss, .. } => (step, what, last_loss),
        other => panic!("{other}"),
    }
}

#[test]
fn divergence_ends_the_run_within_the_step() {
    let (net, loader) = (TinyNet::new(4, 2), loader(64, 16));
    let spoil = |f: &(dyn Fn(Tensor<1>, u64) -> Tensor<1> + Send + Sync)| {
        fit(net.clone(), &loader, &Spoiled(f), &Unconstrained, &config(2, 0.05), &mut Silent)
    };
    let (step, what, last) =
        diverged(spoil(&|loss, step| if step == 5 { loss.log().log().log() } else { loss }));
    assert_eq!((step, what), (5, "loss"));
    assert!(last.is_finite());
    let (step, what, last) = diverged(spoil(&|loss, _| loss * f32::INFINITY));
    assert_eq!((step, what), (0, "loss"));
    assert!(last.is_nan());
    // A finite loss whose gradient is not: √(x − x) = 0 has slope 1/0.
    let (step, what, _) =
        diverged(spoil(&|loss, step| if step == 2 { (loss.clone() - loss).sqrt() } else { loss }));
    assert_eq!((step, what), (2, "gradient"));
}

#[test]
fn a_weight_that_leaves_the_range_in_the_last_step_is_not_handed_back() {
    let (net, loader) = (TinyNet::new(4, 2), loader(16, 16));
    let huge = FitConfig::new(1, 1e38, OptimizerConfig::sgd(0.0, 1e3));
    let (_, what, _) = diverged(run(&net, &loader, &huge));
    assert_eq!(what, "parameter");
}

#[test]
fn a_model_that_is_not_finite_is_refused() {
    let net = TinyNet::new(4, 2);
    let mut tree = unlearn_curvature::ParamTree::new();
    tree.insert_host("head.bias".into(), vec![CLASSES], vec![f32::NAN; CLASSES], &Device::flex()).unwrap();
    let error = run(&tree.write_into(&net).unwrap(), &loader(16, 8), &config(1, 0.1)).unwrap_err();
    assert!(matches!(error, TrainError::Config { field: "model", .. }), "{error}");
}

#[test]
fn an_observer_sees_every_step_and_can_stop_the_run() {
    #[derive(Default)]
    struct Watch {
        events: Vec<Event>,
        stop_after: Option<u64>,
    }
    impl Observer for Watch {
        fn on_event(&mut self, event: &Event) {
            self.events.push(event.clone());
        }
        fn should_stop(&mut self) -> bool {
            let steps = self.events.iter().filter(|e| matches!(e, Event::Step { .. })).count();
            self.stop_after.is_some_and(|s| steps as u64 >= s)
        }
    }
    let (net, loader) = (TinyNet::new(4, 2), loader(40, 16));
    let mut watch = Watch::default();
    let config = FitConfig { schedule: Schedule::CosineSteps, ..config(2, 0.05) };
    let done = fit(net.clone(), &loader, &PLAIN, &Unconstrained, &config, &mut watch).unwrap();
    assert!(matches!(watch.events[0], Event::Started { step: 0, steps: 6, epochs: 2, samples: 40 }));
    assert!(matches!(watch.events.last(), Some(Event::Finished { steps: 6, .. })));
    let mut sums = (0.0, 0, 0);
    for event in &watch.events {
        match *event {
            Event::Step { step, loss, correct, samples, rate, .. } => {
                assert_eq!(rate, config.rate_at(step - 1, 3));
                sums = (sums.0 + loss * samples as f64, sums.1 + correct, sums.2 + samples);
            }
            Event::Epoch { epoch, loss, accuracy, .. } => {
                assert_eq!(sums.2, 40);
                assert_eq!((loss, accuracy), (sums.0 / 40.0, sums.1 as f64 / 40.0));
                assert_eq!(done.history[epoch as usize].loss, loss);
                sums = (0.0, 0, 0);
            }
            _ => {}
        }
    }
    let mut watch = Watch { stop_after: Some(4), ..Watch::default() };
    let error = fit(net, &loader, &PLAIN, &Unconstrained, &config, &mut watch).unwrap_err();
    assert!(matches!(error, TrainError::Interrupted { step: 4 }), "{error}");
}

#[test]
fn every_setting_is_checked_before_any_work() {
    let (net, loader) = (TinyNet::new(4, 2), loader(16, 8));
    let good = config(2, 0.1);
    let sgd = |momentum, weight_decay, nesterov| OptimizerConfig::Sgd { momentum, weight_decay, nesterov };
    let adam = |beta_1, beta_2, epsilon, weight_decay| OptimizerConfig::AdamW {
        beta_1,
        beta_2,
        epsilon,
        weight_decay,
    };
    let steps = |milestones: &[u64], gamma| Schedule::MultiStep { milestones: milestones.to_vec(), gamma };
    let with = |optimizer| FitConfig { optimizer, ..good.clone() };
    let checkpoint = |every_steps, keep| FitConfig {
        checkpoint: crate::CheckpointConfig { every_steps, keep },
        ..good.clone()
    };
    let bad = [
        ("epochs", FitConfig { epochs: 0, ..good.clone() }),
        ("learning_rate", FitConfig { learning_rate: 0.0, ..good.clone() }),
        ("learning_rate", FitConfig { learning_rate: -0.1, ..good.clone() }),
        ("learning_rate", FitConfig { learning_rate: f64::NAN, ..good.clone() }),
        ("optimizer.momentum", with(sgd(1.0, 0.0, false))),
        ("optimizer.momentum", with(sgd(-0.1, 0.0, false))),
        ("optimizer.momentum", with(sgd(0.0, 0.0, true))),
        ("optimizer.weight_decay", with(sgd(0.9, -1.0, false))),
        ("optimizer.beta_1", with(adam(1.0, 0.999, 1e-8, 0.0))),
        ("optimizer.beta_2", with(adam(0.9, f64::NAN, 1e-8, 0.0))),
        ("optimizer.epsilon", with(adam(0.9, 0.999, 0.0, 0.0))),
        ("optimizer.weight_decay", with(adam(0.9, 0.999, 1e-8, f64::INFINITY))),
        ("schedule.milestones", FitConfig { schedule: steps(&[5, 5], 0.1), ..good.clone() }),
        ("schedule.gamma", FitConfig { schedule: steps(&[5], 0.0), ..good.clone() }),
        ("epochs", FitConfig { epochs: u64::MAX, ..good.clone() }),
        ("schedule_offset", FitConfig { schedule_offset: u64::MAX, ..good.clone() }),
        ("warmup_epochs", FitConfig { warmup_epochs: u64::MAX, ..good.clone() }),
        ("clip_norm", FitConfig { clip_norm: Some(0.0), ..good.clone() }),
        ("snapshot_epochs", FitConfig { snapshot_epochs: vec![0, 3], ..good.clone() }),
        ("checkpoint.every_steps", checkpoint(Some(0), 2)),
        ("checkpoint.keep", checkpoint(None, 1)),
    ];
    for (expected, config) in bad {
        match run(&net, &loader, &config).unwrap_err() {
            TrainError::Config { field, .. } => assert_eq!(field, expected),
            other => panic!("{expected}: {other}"),
        }
    }
    let smooth = CrossEntropy { label_smoothing: 1.0 };
    let error = fit(net.clone(), &loader, &smooth, &Unconstrained, &good, &mut Silent).unwrap_err();
    assert!(error.to_string().contains("label_smoothing"), "{error}");
    // Five classes in the data, four in the model.
    let few = pictures(10, 1);
    let names = (0..5).map(|c| c.to_string()).collect();
    let labels = vec![4; 10];
    let images = (0..10).flat_map(|i| few.image(i).unwrap().to_vec()).collect();
    let wide =
        unlearn_data::Dataset::new("wide", few.shape(), images, labels, names, few.normalization().clone())
            .unwrap();
    let wide = Loader::new(&wide, &[0, 1], 2).unwrap().with_shuffle(Seed(1));
    let error = run(&net, &wide, &good).unwrap_err();
    assert!(matches!(error, TrainError::Config { field: "num_classes", .. }), "{error}");
}

/// Burn's clone keeps identifiers, and gradients go by them: one layer would be trained with the other's.
#[test]
fn two_layers_of_one_identifier_are_refused() {
    #[derive(Module, Debug)]
    struct Twice {
        first: TinyNet,
        second: TinyNet,
    }
    impl Classifier for Twice {
        fn forward(&self, images: Tensor<4>) -> Tensor<2> {
            self.first.forward(images.clone()) + self.second.forward(images)
        }

        fn num_classes(&self) -> usize {
            CLASSES
        }
    }
    let (first, loader) = (TinyNet::new(4, 1), loader(20, 10));
    let run = |net: Twice| fit(net, &loader, &PLAIN, &Unconstrained, &config(1, 0.1), &mut Silent);
    let error = run(Twice { second: first.clone(), first: first.clone() }).unwrap_err();
    assert_eq!(error.code(), "E_CONFIG");
    for word in ["one parameter under two names", "`first.conv.weight`", "`second.conv.weight`"] {
        assert!(error.to_string().contains(word), "{error}");
    }
    assert!(run(Twice { first, second: TinyNet::new(4, 2) }).is_ok());
}
