//! How many pictures a second does each estimator of a Fisher diagonal take in?
//!
//! ResNet-18 on 32×32 pictures of ten classes, N pictures in batches of 64, within the default memory budget
//! of 1 GiB, on flex unless `UNLEARN_DEVICE` says otherwise. `gradient` is one pass with the same sweep that stores
//! nothing but the mean gradient: what any first-order step costs. Beside it the estimators of `docs/curvature.md`.
//! `marked-…` takes the same network as if it were plain Burn with marked layers.
//!
//! `cargo bench --bench fisher` prints pictures a second (`elem/s`); `benches/support` says how sizes are set,
//! `benches/peers/fisher.py` asks PyTorch the same, `benches/compare.py` puts both side by side.
#![allow(missing_docs, clippy::expect_used)]

mod support;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use unlearn::curvature::{FisherDiag, PerSample};

use support::{done, forward, group, marked, network, pictures};

/// Pictures in a group of the published estimator.
const GROUP: usize = 32;

fn diagonals(c: &mut Criterion) {
    let estimators = [
        ("exact", FisherDiag::exact()),
        ("empirical", FisherDiag::empirical()),
        ("sign", FisherDiag::sign(1)),
        ("hybrid", FisherDiag::hybrid(1, 1)),
        ("group-mean", FisherDiag::group_mean(if support::timed() { GROUP } else { 2 })),
    ];
    for width in support::widths() {
        let model = network(width);
        let mut group = group(c, &format!("fisher/resnet18-w{width}"));
        for n in support::picture_counts() {
            let samples = pictures(n);
            group.throughput(Throughput::Elements(n as u64));
            for (name, estimator) in &estimators {
                group.bench_function(BenchmarkId::new(*name, n), |b| {
                    b.iter(|| black_box(done(estimator.run(&model, forward, &samples).expect("a diagonal"))));
                });
            }
            // The same network as a caller's own: Burn's automatic differentiation between marked layers.
            for (name, estimator) in
                [("marked-exact", &estimators[0].1), ("marked-empirical", &estimators[1].1)]
            {
                let estimator = estimator.clone().marked();
                group.bench_function(BenchmarkId::new(name, n), |b| {
                    b.iter(|| black_box(done(estimator.run(&model, marked, &samples).expect("a diagonal"))));
                });
            }
            let weights = vec![1.0 / n as f64; n];
            group.bench_function(BenchmarkId::new("gradient", n), |b| {
                b.iter(|| {
                    let gradient = PerSample::new().weighted_gradient(&model, forward, &samples, &weights);
                    black_box(done(gradient.expect("a gradient")))
                });
            });
        }
        group.finish();
    }
}

criterion_group! { name = benches; config = support::criterion(); targets = diagonals }
criterion_main!(benches);
