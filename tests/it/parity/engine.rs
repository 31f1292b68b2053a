//! The curvature engine on residual networks: against float64 autograd, and against the slow oracle where the
//! reference numbers have no such network.

use unlearn::burn::tensor::{Device, Tensor, TensorData};
use unlearn::curvature::oracle::{Joined, Oracle, Samples, TensorSamples};
use unlearn::curvature::reduce::{Algorithm, Route};
use unlearn::curvature::tape::{Tape, Var};
use unlearn::curvature::{FisherDiag, InverseFisher, ParamTree, PerSample};
use unlearn::data::{Seed, Stream};
use unlearn::models::{CifarResNetConfig, Classifier, ResNet, ResNetConfig, Stem, Taped};

use super::curvature::{Case, case};

fn forward<M: Taped>(model: &M, images: Var<4>, tape: &mut dyn Tape) -> Var<2> {
    model.forward_on(images, tape)
}

/// v = (1/n) Σ_forget g − (n_f / (n n_r)) Σ_retain g.
fn direction(case: &Case) -> ParamTree {
    let (forget, retain) = (case.forget.len() as f64, case.retain.len() as f64);
    let n = forget + retain;
    let mut weights = vec![1.0 / n; case.forget.len()];
    weights.resize(case.forget.len() + case.retain.len(), -forget / (n * retain));
    let both = Joined::new(&case.forget, &case.retain);
    PerSample::new().weighted_gradient(&case.model, forward, &both, &weights).unwrap()
}

#[test]
fn diagonals_are_float64_autograds() {
    let Some(case) = case() else { return };
    let sum = |run: &FisherDiag, case: &Case| run.run(&case.model, forward, &case.all).unwrap().sum;
    let empirical = FisherDiag::empirical().batch(24);
    case.compare("empirical_sum", 1e-4, |case| sum(&empirical, case));
    // As it chooses itself; products only; and column by column in little memory.
    for run in [
        FisherDiag::exact(),
        FisherDiag::exact().algorithm(Algorithm::BatchedProduct),
        FisherDiag::exact().algorithm(Algorithm::BatchedProduct).columns(2).batch(5).budget(16 << 20),
    ] {
        case.compare("exact_sum", 1e-4, |case| sum(&run, case));
    }
}

#[test]
fn the_published_batch_mean_is_the_published_codes() {
    let Some(case) = case() else { return };
    case.compare("fisher_new_reference", 1e-4, |case| {
        FisherDiag::group_mean(32).run(&case.model, forward, &case.retain).unwrap().mean()
    });
}

#[test]
fn inner_products_and_gradients_are_float64_autograds() {
    let Some(case) = case() else { return };
    // All held at once; in four blocks.
    for engine in [PerSample::new(), PerSample::new().batch(10).budget(64 << 20)] {
        case.compare_one("gram", 1e-4, |case| engine.gram(&case.model, forward, &case.all).unwrap());
    }
    for engine in
        [PerSample::new(), PerSample::new().route(Route::Direct), PerSample::new().route(Route::Ghost)]
    {
        case.compare_one("norms_sq", 1e-4, |case| {
            engine.norms_squared(&case.model, forward, &case.all).unwrap()
        });
    }
    case.compare("iu_v", 1e-4, direction);
}

#[test]
fn the_published_older_estimate_is_the_published_codes() {
    let Some(case) = case() else { return };
    case.compare("fisher_reference", 1e-4, |case| {
        FisherDiag::shifted_empirical(1e-8).run(&case.model, forward, &case.retain).unwrap().mean()
    });
}

/// The small networks of the crate's own tests are cut in every way; here only as a user would run it.
#[test]
fn inverse_products_are_float64_autograds_and_the_published_codes() {
    let Some(case) = case() else { return };
    let all = case.retain.len();
    let solve = |inverse: &InverseFisher, case: &Case| {
        inverse.solve(&case.model, forward, &case.retain, &direction(case)).unwrap()
    };
    for (name, lambda, tolerance) in
        [("iu_woodbury_lambda1", 1.0, 1e-4), ("iu_woodbury_lambda0.001", 1e-3, 1e-2)]
    {
        let woodbury = InverseFisher::woodbury(all).damping(lambda);
        case.compare(name, tolerance, |case| {
            let solution = solve(&woodbury, case);
            case.check_residual(name, lambda, solution.residual);
            solution.direction
        });
    }
    let exact = solve(&InverseFisher::woodbury(all).damping(1.0), case).direction;
    // The number of steps that it takes grows with the samples.
    let iterative = InverseFisher::conjugate_gradient(all).damping(1.0).tolerance(1e-5).iterations(20 * all);
    let solution = solve(&iterative, case);
    // k − H⁻¹ v = H⁻¹ r, and H is at least λ = 1: the error is at most the residual, as a whole and not entry by
    // entry. Twice that leaves room for float32. It stops by the residual that it carries along, which is the true one unless
    // float32 products with H lose more than that.
    let (error, v) = (exact.sub(&solution.direction).unwrap(), direction(case));
    let (error, size) = (error.dot(&error).unwrap().sqrt(), v.dot(&v).unwrap().sqrt());
    let lost = f64::from(f32::EPSILON) * case.condition(1.0);
    let allowed = if lost < 1e-2 { 2e-5 } else { 2.0 * solution.residual.max(1e-5).min(lost).min(0.1) };
    assert!(error <= allowed * size, "off by {:.2e}, allowed {allowed:.2e}", error / size);
    case.compare("iu_reference", 1e-4, |case| solve(&InverseFisher::reference_compat(), case).direction);
}

/// The variance of an entry is at most 2 / draws of its square, a sample; over independent samples it adds up. What is
/// left after the first exact columns is smaller still.
#[test]
fn random_signs_are_near_the_exact_diagonal() {
    let Some(case) = case() else { return };
    let exact_over =
        |samples: &TensorSamples| FisherDiag::exact().run(&case.model, forward, samples).unwrap().sum;
    let square = |tree: &ParamTree| tree.dot(tree).unwrap();
    let exact = exact_over(&case.all);
    let total = square(&exact);
    if total == 0.0 {
        let sums = case.expected.iter().filter(|(name, _)| name.starts_with("exact_sum."));
        assert!(
            sums.flat_map(|(_, sum)| &sum.values).all(|v| v.abs() < 1e-30),
            "the exact diagonal is not zero"
        );
        eprintln!(
            "SKIPPED: the network is so sure of every answer that its exact diagonal is zero in float32"
        );
        return;
    }
    let each: f64 =
        (0..case.all.len()).map(|i| square(&exact_over(&case.all.slice(i..i + 1).unwrap()))).sum();
    for (run, draws) in
        [(FisherDiag::sign(1), 1.0), (FisherDiag::sign(16), 16.0), (FisherDiag::hybrid(4, 1), 1.0)]
    {
        let got = run.clone().seed(1).run(&case.model, forward, &case.all).unwrap().sum;
        let error = (square(&got.sub(&exact).unwrap()) / total).sqrt();
        let within = 2.0 * (2.0 / draws * each / total).sqrt();
        println!("{:?}: relative error {error:.4}, allowed {within:.4}", run.estimator());
        assert!(error < within, "{:?}: relative error {error}, allowed {within}", run.estimator());
        // Signs are exact for a curvature of rank one, which is two classes; after four columns that is what is left
        // of six.
        if case.classes > 6 {
            assert!(error > 0.0, "{:?} is no estimate", run.estimator());
        }
    }
}

fn pictures(n: usize, side: usize) -> TensorSamples {
    let values: Vec<f32> =
        (0..n * 3 * side * side).map(|i| ((i as f32 * 0.618).sin() * 43.7).fract().abs()).collect();
    let images = Tensor::from_data(TensorData::new(values, [n, 3, side, side]), &Device::flex());
    TensorSamples::new(images, (0..n).map(|i| i % 5).collect()).unwrap()
}

#[track_caller]
fn same(what: &str, got: &ParamTree, expected: &ParamTree) {
    assert_eq!(got.len(), expected.len());
    for ((path, got), (other, expected)) in got.iter().zip(expected.iter()) {
        assert_eq!(path, other);
        let (got, expected) = (got.to_vec().unwrap(), expected.to_vec().unwrap());
        let scale = expected.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        let worst = got.iter().zip(&expected).fold(0.0_f32, |m, (g, e)| m.max((g - e).abs()));
        assert!(scale > 0.0 && worst <= 1e-4 * scale, "{what} {path}: off by {worst:e} of {scale:e}");
    }
}

fn against_the_oracle<M: Classifier + Taped>(what: &str, model: &M, samples: &TensorSamples) {
    let oracle = Oracle::new(model, |model: &M, x: Tensor<4>| model.forward(x)).unwrap();
    let exact = FisherDiag::exact().batch(2).run(model, forward, samples).unwrap();
    same(what, &exact.sum, &oracle.exact(samples).unwrap().sum);
    let empirical = FisherDiag::empirical().run(model, forward, samples).unwrap();
    same(what, &empirical.sum, &oracle.empirical(samples).unwrap().sum);
    let pairs = PerSample::new().batch(2).gram(model, forward, samples).unwrap();
    let expected = oracle.pairs(samples, &empirical.sum).unwrap().gram;
    let scale = expected.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    assert!(pairs.iter().zip(&expected).all(|(g, e)| (g - e).abs() <= 1e-4 * scale), "{what}");
}

#[test]
fn other_stems_and_shortcuts_match_the_oracle() {
    let device = Device::flex();
    let rng = || Seed(5).rng(Stream::Init, 0, 0);
    let config = ResNetConfig { width: 4, blocks: [1, 1, 1, 1], classes: 5, stem: Stem::ImageNet };
    let model: ResNet = config.init(&[0.5; 3], &[0.25; 3], &device, &mut rng()).unwrap();
    against_the_oracle("ImageNet stem", &model, &pictures(3, 48));
    let config = CifarResNetConfig::resnet20(5);
    let model = config.init(&[0.5; 3], &[0.25; 3], &device, &mut rng()).unwrap();
    against_the_oracle("ResNet-20", &model, &pictures(3, 16));
}
