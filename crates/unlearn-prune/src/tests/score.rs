use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Device, Tensor, TensorData};
use unlearn_curvature::{ParamInfo, ParamPath, PathTracker};
use unlearn_data::{HostBatch, ImageShape, Seed};
use unlearn_models::Classifier;

use super::net::{CLASSES, INPUT, TinyNet, bits, loader, values};
use crate::score::{GradientFlow, GraspRanking, Precision, SnipForm};
use crate::{
    Grasp, Magnitude, Prunable, PrunableRule, PruneConfig, PruneError, Random, Score, Scores, ScoringData,
    Snip, SynFlow, one_shot,
};

const LAYERS: [&str; 3] = ["conv1.weight", "conv2.weight", "shortcut.weight"];

fn prunable(net: &TinyNet) -> Vec<ParamInfo> {
    Prunable::from(PrunableRule::Conv).select(net).unwrap()
}

fn data() -> ScoringData {
    ScoringData::first(&loader(16, 6), 11).unwrap()
}

/// Some weights of each layer, to be checked one by one.
fn probes() -> impl Iterator<Item = (&'static str, usize)> {
    [("conv1.weight", 108), ("conv2.weight", 180), ("shortcut.weight", 20)]
        .into_iter()
        .flat_map(|(path, n)| [0, n / 3, n / 2, n - 1].map(|i| (path, i)))
}

/// `net` in float64 with weight `i` of `path` changed.
fn with_weight(net: &TinyNet, path: &'static str, i: usize, change: impl Fn(f64) -> f64) -> TinyNet {
    struct Change<F>(PathTracker, &'static str, usize, F);
    impl<F: Fn(f64) -> f64> ModuleMapper for Change<F> {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.0.enter(name, container_type);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.exit();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if self.0.path().as_str() != self.1 {
                return param;
            }
            param.map(|t| {
                let (shape, device) = (t.shape(), t.device());
                let mut values = t.into_data().try_into_vec::<f64>().unwrap();
                values[self.2] = (self.3)(values[self.2]);
                Tensor::from_data(TensorData::new(values, shape), (&device, DType::F64))
            })
        }
    }
    double(net).map(&mut Change(PathTracker::default(), path, i, change))
}

struct ToDouble;

impl ModuleMapper for ToDouble {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|t| t.cast(DType::F64))
    }
}

fn double(net: &TinyNet) -> TinyNet {
    net.valid().map(&mut ToDouble)
}

/// Mean cross-entropy of logits / temperature in float64, in inference mode, without any gradient.
fn loss(net: &TinyNet, temperature: f64) -> f64 {
    let net = double(net);
    let (mut sum, mut n) = (0.0, 0);
    for batch in loader(16, 11).epoch(0).take(1) {
        let batch = batch.to_device(&Device::flex());
        n += batch.len();
        let logits = net.forward(batch.images.cast(DType::F64)).div_scalar(temperature);
        let picked = log_softmax(logits, 1).gather(1, batch.targets.unsqueeze_dim(1));
        sum -= picked.sum().into_scalar::<f64>();
    }
    sum / f64::from(n as u32)
}

fn score(net: &TinyNet, score: &dyn Score<TinyNet>) -> Scores {
    score.scores(net, &prunable(net)).unwrap()
}

fn at(scores: &Scores, path: &str, i: usize) -> f64 {
    f64::from(scores.get(&path.into()).unwrap()[i])
}

fn largest(scores: &Scores) -> f64 {
    scores.iter().flat_map(|(_, v)| v).fold(0.0, |m, v| m.max(f64::from(v.abs())))
}

#[test]
fn magnitude_is_the_absolute_value() {
    let net = TinyNet::flex(1);
    let scores = score(&net, &Magnitude);
    assert_eq!(scores.iter().map(|(p, _)| p.as_str()).collect::<Vec<_>>(), LAYERS);
    for path in LAYERS {
        let expected: Vec<_> = values(&net, path).into_iter().map(f32::abs).collect();
        assert_eq!(scores.get(&path.into()).unwrap(), expected);
    }
}

#[test]
fn random_scores_are_a_function_of_seed_and_path() {
    let net = TinyNet::flex(1);
    let random = |seed| Random { seed: Seed(seed) };
    let scores = score(&net, &random(0));
    assert_eq!(score(&TinyNet::flex(2), &random(0)), scores);
    assert_ne!(score(&net, &random(1)), scores);
    let one: Vec<_> = prunable(&net).into_iter().filter(|p| p.path.as_str() == "conv2.weight").collect();
    let alone = Score::<TinyNet>::scores(&random(0), &net, &one).unwrap();
    assert_eq!(alone.get(&"conv2.weight".into()), scores.get(&"conv2.weight".into()));
    let all: Vec<f32> = scores.iter().flat_map(|(_, v)| v.to_vec()).collect();
    assert!(all.iter().all(|s| (0.0..1.0).contains(s)));
    let mean = all.iter().sum::<f32>() / all.len() as f32;
    // 308 uniform draws: the standard error of their mean is 0.0164.
    assert!((mean - 0.5).abs() < 0.07, "{mean}");
    let paths: [&ParamPath; 2] = [&LAYERS[0].into(), &LAYERS[1].into()];
    assert_ne!(scores.get(paths[0]).unwrap()[0], scores.get(paths[1]).unwrap()[0]);
}

#[test]
fn snip_is_the_weight_times_the_slope_of_the_loss() {
    let net = TinyNet::flex(6);
    let snip = Snip::new(data());
    let scores = score(&net, &snip);
    let plain = score(&net, &Snip { form: SnipForm::Reference, ..snip });
    let h = 1e-6;
    for (path, i) in probes() {
        let (up, down) = (with_weight(&net, path, i, |w| w + h), with_weight(&net, path, i, |w| w - h));
        let slope = (loss(&up, 1.0) - loss(&down, 1.0)) / (2.0 * h);
        let expected = (slope * f64::from(values(&net, path)[i])).abs();
        let (a, b) = (at(&scores, path, i), at(&plain, path, i));
        assert!((a - expected).abs() < 1e-5 * largest(&scores), "{path}[{i}]: {a} {expected}");
        assert!((b - slope.abs()).abs() < 1e-5 * largest(&plain), "{path}[{i}]: {b} {slope}");
    }
}

/// Hg is the gradient of ½‖g‖²: an oracle that differences along each weight, not along g.
#[test]
fn grasp_is_the_weight_times_the_slope_of_half_the_squared_gradient() {
    let net = TinyNet::flex(6);
    let targets = prunable(&net);
    let half_square = |net: &TinyNet| {
        // |g| from the SNIP score, in float64 as the net is; the square does not mind the sign.
        let snip = Snip { form: SnipForm::Reference, precision: Precision::Double, ..Snip::new(data()) };
        let scores = Score::<TinyNet>::scores(&snip, net, &targets).unwrap();
        scores.iter().flat_map(|(_, v)| v).map(|g| f64::from(*g).powi(2)).sum::<f64>() / 2.0
    };
    let exact = Grasp { temperature: 1.0, flow: GradientFlow::Prunable, ..Grasp::new(data()) };
    let scores = score(&net, &exact);
    let h = 1e-5;
    let mut signs = [0, 0];
    for (path, i) in probes() {
        let (up, down) = (with_weight(&net, path, i, |w| w + h), with_weight(&net, path, i, |w| w - h));
        let slope = (half_square(&up) - half_square(&down)) / (2.0 * h);
        let (expected, got) = (slope * f64::from(values(&net, path)[i]), at(&scores, path, i));
        assert!((got - expected).abs() < 2e-3 * largest(&scores), "{path}[{i}]: {got} {expected}");
        signs[usize::from(expected > 0.0)] += 1;
    }
    assert!(signs[0] > 0 && signs[1] > 0, "the sign was never tested: {signs:?}");
    let reference = score(&net, &Grasp { ranking: GraspRanking::Reference, ..exact });
    for (path, i) in probes() {
        assert_eq!(at(&reference, path, i), at(&scores, path, i).abs());
    }
}

/// What is pruned does not move, so that nothing flows along it: the oracle leaves it out of ‖g‖².
#[test]
fn grasp_on_a_sparse_network_knows_only_what_is_left() {
    let net = TinyNet::flex(6);
    let targets = prunable(&net);
    let mask = one_shot(&net, &Random { seed: Seed(3) }, &PruneConfig::new(0.5), None).unwrap();
    let sparse = mask.apply(&net).unwrap();
    let keep = |path: &ParamPath| mask.get(path).unwrap().keep().to_vec();
    let half_square = |net: &TinyNet| {
        let snip = Snip { form: SnipForm::Reference, precision: Precision::Double, ..Snip::new(data()) };
        let scores = Score::<TinyNet>::scores(&snip, net, &targets).unwrap();
        let left = scores.iter().flat_map(|(path, v)| v.iter().zip(keep(path)).filter(|(_, keep)| *keep));
        left.map(|(g, _)| f64::from(*g).powi(2)).sum::<f64>() / 2.0
    };
    let grasp = Grasp { temperature: 1.0, flow: GradientFlow::Prunable, ..Grasp::new(data()) };
    let scores = score(&sparse, &grasp);
    let (h, mut compared) = (1e-5, 0);
    let all = [("conv1.weight", 108), ("conv2.weight", 180), ("shortcut.weight", 20)];
    let some = all.into_iter().flat_map(|(path, n)| (0..n).step_by(9).map(move |i| (path, i)));
    for (path, i) in some.filter(|(path, i)| keep(&(*path).into())[*i]) {
        let (up, down) = (with_weight(&sparse, path, i, |w| w + h), with_weight(&sparse, path, i, |w| w - h));
        let slope = (half_square(&up) - half_square(&down)) / (2.0 * h);
        let (expected, got) = (slope * f64::from(values(&sparse, path)[i]), at(&scores, path, i));
        assert!((got - expected).abs() < 2e-3 * largest(&scores), "{path}[{i}]: {got} {expected}");
        compared += 1;
    }
    assert!(compared > 10, "{compared}");
}

#[test]
fn synflow_is_the_weight_times_the_slope_of_the_summed_logits() {
    struct Abs;
    impl ModuleMapper for Abs {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(Tensor::abs)
        }
    }
    let net = TinyNet::flex(6);
    let scores = score(&net, &SynFlow::new(INPUT));
    let positive = net.valid().map(&mut Abs);
    let flow = |net: &TinyNet| {
        let ones = Tensor::<4>::ones([1, 3, 6, 6], &Device::flex()).cast(DType::F64);
        double(net).forward(ones).sum().into_scalar::<f64>()
    };
    let h = 1e-5;
    for (path, i) in probes() {
        let up = with_weight(&positive, path, i, |w| w * (1.0 + h));
        let down = with_weight(&positive, path, i, |w| w * (1.0 - h));
        let expected = (flow(&up) - flow(&down)) / (2.0 * h);
        assert!(expected > 0.0);
        assert!((at(&scores, path, i) - expected).abs() < 1e-5 * largest(&scores), "{path}[{i}]");
    }
    let double = score(&net, &SynFlow { precision: Precision::Double, ..SynFlow::new(INPUT) });
    for (path, i) in probes() {
        assert!((at(&scores, path, i) - at(&double, path, i)).abs() < 1e-5 * largest(&scores));
    }
}

/// Products over many layers leave float32's range: then float64 ranks, brought into range.
#[test]
fn synflow_survives_overflow_in_double() {
    struct Huge;
    impl ModuleMapper for Huge {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if D == 4 { param.map(|t| t * 1e25) } else { param }
        }
    }
    let net = TinyNet::flex(6).map(&mut Huge);
    let single = SynFlow { precision: Precision::Single, ..SynFlow::new(INPUT) };
    let scores = score(&net, &single);
    assert!(scores.iter().flat_map(|(_, v)| v).any(|s| !s.is_finite()), "the test does not overflow");
    let scores = score(&net, &SynFlow { precision: Precision::Double, ..single });
    assert!(scores.iter().flat_map(|(_, v)| v).all(|s| s.is_finite()));
    assert!(largest(&scores) > 1e38);
}

#[test]
fn data_are_taken_as_asked() {
    let all = loader(16, 6); // labels 0 1 2 3 0 1 2 3 …
    assert_eq!(ScoringData::first(&all, 11).unwrap().num_samples(), 11);
    assert_eq!(ScoringData::first(&all, 99).unwrap().num_samples(), 16);
    assert_eq!(ScoringData::per_class(&all, 3).unwrap().num_samples(), 12);
    assert_eq!(ScoringData::per_class(&all, 9).unwrap().num_samples(), 16);
    for empty in [ScoringData::first(&all, 0), ScoringData::per_class(&all, 0), ScoringData::of(Vec::new())] {
        assert_eq!(empty.unwrap_err().code(), "E_CONFIG");
    }
    // Another batch size over the same samples gives the same mean gradient.
    let net = TinyNet::flex(6);
    let whole = score(&net, &Snip::new(ScoringData::first(&loader(16, 16), 12).unwrap()));
    let parts = score(&net, &Snip::new(ScoringData::first(&loader(16, 5), 12).unwrap()));
    for (path, i) in probes() {
        assert!((at(&whole, path, i) - at(&parts, path, i)).abs() < 1e-5 * largest(&whole));
    }
}

#[test]
fn bad_data_and_settings_are_refused() {
    let net = TinyNet::flex(1);
    let batch = HostBatch { pixels: vec![0.5; 108], shape: INPUT, labels: vec![CLASSES], indices: vec![0] };
    let past = ScoringData::of(vec![batch.clone()]).unwrap();
    let refused = |s: &dyn Score<TinyNet>, says: &str| {
        let error: PruneError = s.scores(&net, &prunable(&net)).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    };
    refused(&Snip::new(past.clone()), "below the model's 4 classes");
    refused(&Grasp::new(past), "below the model's 4 classes");
    for temperature in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        refused(&Grasp { temperature, ..Grasp::new(data()) }, "temperature");
    }
    refused(&SynFlow::new(ImageShape { width: 0, ..INPUT }), "SynFlow");
    let short = ScoringData::of(vec![HostBatch { pixels: vec![0.5; 107], ..batch }]);
    assert!(short.unwrap_err().to_string().contains("107"));
}

#[test]
fn scoring_changes_nothing_and_needs_no_trainable_weight() {
    let net = TinyNet::flex(6);
    let before = bits(&net);
    // Along everything that training moves, freezing would rightly change the flow.
    let grasp = Grasp { flow: GradientFlow::Prunable, ..Grasp::new(data()) };
    let scores: [&dyn Score<TinyNet>; 3] = [&Snip::new(data()), &grasp, &SynFlow::new(INPUT)];
    for s in scores {
        let first = score(&net, s);
        assert_eq!(bits(&net), before);
        assert_eq!(score(&net, s), first, "equal calls differ");
        assert_eq!(score(&net.valid().no_grad(), s), first, "frozen weights have other scores");
        assert_eq!(score(&net.valid().train(), s), first, "scores depend on the mode");
    }
}
