//! The engine and the oracle in the methods that use them, on a small residual network.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use serde_json::{Value, json};
use unlearn_curvature::oracle::TensorSamples;
use unlearn_curvature::{CurvatureError, FisherDiag, ParamTree};
use unlearn_data::source::synthetic::Synthetic;
use unlearn_data::{Augment, Dataset, ForgetSpec, Partition, Seed, Split, SplitRule, Stream};
use unlearn_models::{Classifier, ResNet, ResNetConfig, forward_taped};
use unlearn_prune::{Magnitude, MaskSet, PruneConfig, one_shot};
use unlearn_train::{Event, FitConfig, Observer, OptimizerConfig, Silent};

use crate::testing::Suite;
use crate::{Context, Outcome, TrainingRecipe, UnlearnError, by_name};

fn fresh() -> ResNet {
    let config = ResNetConfig::resnet18(10).with_width(4);
    let config = ResNetConfig { blocks: [1, 1, 1, 1], ..config };
    let rng = &mut Seed(4).rng(Stream::Init, 0, 0);
    config.init(&[0.5; 3], &[0.25; 3], &Device::flex(), rng).unwrap()
}

struct Fixture {
    dataset: Dataset,
    partition: Partition,
    training: TrainingRecipe,
    mask: MaskSet,
}

impl Fixture {
    fn new() -> Self {
        let data = Synthetic { train: 30, test: 10, size: 8, ..Synthetic::default() }.generate().unwrap();
        let split = Split::new(&data.train, SplitRule::None).unwrap();
        let spec = ForgetSpec::Indices((0..5).collect());
        let partition = Partition::new(&data.train, &split, &spec, Seed(1)).unwrap();
        let fit = FitConfig::new(1, 0.1, OptimizerConfig::sgd(0.9, 5e-4));
        let training = TrainingRecipe { fit, batch_size: 8, augment: Augment::None, label_smoothing: 0.0 };
        let mask = one_shot(&fresh(), &Magnitude, &PruneConfig::new(0.5), None).unwrap();
        Self { dataset: data.train, partition, training, mask }
    }

    fn run(
        &self,
        name: &str,
        parameters: Value,
        masked: bool,
        observer: &mut dyn Observer,
    ) -> Result<Outcome<ResNet>, UnlearnError> {
        let mut context = Context::new(&self.dataset, &fresh, &self.training, Seed(11), observer);
        context.mask = masked.then_some(&self.mask);
        context.workers = 2;
        by_name::<ResNet>(name, parameters)?.unlearn(fresh(), &self.partition, &mut context)
    }
}

/// `parameters` with another engine.
fn with(engine: &str, parameters: &Value) -> Value {
    let mut parameters = parameters.clone();
    parameters["engine"] = engine.into();
    parameters
}

/// Every way in which a method needs curvature; the clamps are out of the way, so that the diagonal shows.
fn forms() -> Vec<(&'static str, Value)> {
    vec![
        ("fisher", json!({"clamp": 1e12, "head_clamp": 1e12, "samples": 12})),
        ("fisher", json!({"reference": "fisher_new"})),
        ("fisher", json!({"reference": "fisher", "alpha": 1e-12})),
        ("influence", json!({"damping": {"relative": 0.1}, "samples": 12, "batch_size": 7})),
        ("influence", json!({"reference": true, "batch_size": 7})),
    ]
}

/// Both ways, on a dense and on a pruned network. What moved is compared parameter by parameter: float32 gradients
/// agree to about 1e-5 of the largest, and 1/F and H⁻¹ enlarge that by the ratios of their eigenvalues.
#[test]
fn the_engine_gives_what_the_oracle_gives() {
    let fixture = Fixture::new();
    for masked in [false, true] {
        let start = if masked { fixture.mask.apply(&fresh()).unwrap() } else { fresh() };
        let start = ParamTree::of_parameters(&start);
        for (name, parameters) in forms() {
            let run = |engine| fixture.run(name, with(engine, &parameters), masked, &mut Silent).unwrap();
            let (fast, slow) = (run("tape"), run("autodiff"));
            let moved =
                |outcome: &Outcome<ResNet>| ParamTree::of_parameters(&outcome.model).sub(&start).unwrap();
            let (got, expected) = (moved(&fast), moved(&slow));
            for ((path, got), (_, expected)) in got.iter().zip(expected.iter()) {
                let (got, expected) = (got.to_vec().unwrap(), expected.to_vec().unwrap());
                let scale = expected.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
                assert!(scale > 0.0, "{name}: `{path}` did not move");
                for (g, e) in got.iter().zip(&expected) {
                    // Weights are of the order of one, so that a step is known to 1e-7 at best.
                    let tolerance = 2e-3 * scale + 2e-7;
                    assert!(
                        (g - e).abs() <= tolerance,
                        "{name} {parameters} {path}: {g:e} {e:e} of {scale:e}"
                    );
                }
            }
            for (key, value) in &slow.diagnostics {
                let got = fast.diagnostics[key];
                // Residuals are rounding errors.
                let near = (got - value).abs() <= 1e-3 * value.abs() || (key == "residual" && got < 1e-6);
                assert!(near, "{name} {parameters} {key}: {got} {value}");
            }
            // What is not chosen is the engine, to the last bit.
            let auto = fixture.run(name, parameters.clone(), masked, &mut Silent).unwrap();
            assert_eq!(bits(&auto.model), bits(&fast.model), "{name} {parameters}");
            assert_ne!(bits(&slow.model), bits(&fast.model), "{name} {parameters}: one way only");
        }
    }
}

fn bits(model: &ResNet) -> BTreeMap<String, Vec<u32>> {
    let values = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
    let tree = ParamTree::of_parameters(model);
    tree.iter().map(|(path, leaf)| (path.to_string(), values(leaf.to_vec().unwrap()))).collect()
}

#[test]
fn on_a_tape_the_methods_keep_their_contract() {
    let fixture = Fixture::new();
    let suite = Suite {
        fresh: &fresh,
        model: fresh(),
        dataset: &fixture.dataset,
        partition: &fixture.partition,
        training: fixture.training.clone(),
        mask: fixture.mask.clone(),
        dense: false,
    };
    for (name, parameters) in forms() {
        let method = by_name::<ResNet>(name, with("tape", &parameters)).unwrap();
        assert_eq!(suite.violations(method.as_ref()), Vec::<String>::new(), "{parameters}");
    }
}

/// Counts what it is told, and stops after so many events.
struct Stop {
    after: usize,
    stages: BTreeMap<&'static str, (usize, usize)>,
    events: usize,
}

impl Stop {
    fn after(after: usize) -> Self {
        Self { after, stages: BTreeMap::new(), events: 0 }
    }
}

impl Observer for Stop {
    fn on_event(&mut self, event: &Event) {
        let Event::Progress { stage, done, total } = event else { panic!("{event:?}") };
        assert!(done <= total, "{event:?}");
        self.stages.insert(stage, (*done, *total));
        self.events += 1;
    }

    fn should_stop(&mut self) -> bool {
        self.events >= self.after
    }
}

#[test]
fn both_ways_tell_how_far_they_are_and_end_when_asked() {
    let fixture = Fixture::new();
    for (name, parameters) in forms() {
        for engine in ["tape", "autodiff"] {
            let parameters = with(engine, &parameters);
            let mut whole = Stop::after(usize::MAX);
            fixture.run(name, parameters.clone(), false, &mut whole).unwrap();
            assert!(whole.events > 1 && !whole.stages.is_empty(), "{name} {parameters}");
            for (stage, (done, total)) in &whole.stages {
                assert_eq!(done, total, "{name} {parameters}: {stage}");
            }
            for after in [1, 2, whole.events] {
                let mut stop = Stop::after(after);
                let stopped = fixture.run(name, parameters.clone(), false, &mut stop);
                let Err(UnlearnError::Curvature(CurvatureError::Interrupted { .. })) = stopped else {
                    panic!("{name} {parameters} was not interrupted after {after}")
                };
                assert_eq!(stop.events, after);
            }
        }
    }
}

/// A classifier without a tape: refused by the engine, whether it says so or only has no tape behind the method's
/// back, and taken by the oracle.
#[test]
fn without_a_tape_the_engine_refuses_and_the_oracle_takes_over() {
    #[derive(burn::module::Module, Debug)]
    struct Plain {
        inner: ResNet,
    }
    impl Classifier for Plain {
        fn forward(&self, images: Tensor<4>) -> Tensor<2> {
            self.inner.forward(images)
        }
        fn num_classes(&self) -> usize {
            10
        }
    }
    let fixture = Fixture::new();
    let plain = || Plain { inner: fresh() };
    let run = |engine: &str| {
        let observer = &mut Silent;
        let mut context = Context::new(&fixture.dataset, &plain, &fixture.training, Seed(11), observer);
        let method = by_name::<Plain>("fisher", json!({"engine": engine, "samples": 4})).unwrap();
        method.unlearn(plain(), &fixture.partition, &mut context)
    };
    let refused = run("tape");
    let Err(UnlearnError::Curvature(CurvatureError::Unsupported { mend, .. })) = refused else {
        panic!("not refused")
    };
    assert!(mend.contains("autodiff"), "{mend}");
    let slow =
        fixture.run("fisher", json!({"engine": "autodiff", "samples": 4}), false, &mut Silent).unwrap();
    for engine in ["auto", "autodiff"] {
        assert_eq!(bits(&run(engine).unwrap().model.inner), bits(&slow.model), "{engine}");
    }
    let samples = TensorSamples::new(Tensor::ones([2, 3, 8, 8], &Device::flex()), vec![0, 1]).unwrap();
    let refused = FisherDiag::empirical().run(&plain(), forward_taped, &samples);
    assert!(matches!(refused, Err(CurvatureError::Unsupported { .. })), "{refused:?}");
}
