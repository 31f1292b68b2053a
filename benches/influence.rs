//! How long does the product of a vector with the inverse of a damped empirical Fisher matrix take?
//!
//! H = λI + (1/m) Σ g gᵀ over m samples, ResNet-18 on 32×32 pictures, on flex. `woodbury` is H⁻¹ v; `compat` is
//! what the published "WoodFisher" loop returns for m samples, in closed form. Sizes as `benches/support` says;
//! `cargo bench --bench influence`. `benches/peers/fisher.py` times explicit per-sample gradients and the
//! published loop.
#![allow(missing_docs, clippy::expect_used)]

mod support;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use unlearn::curvature::{InverseFisher, ParamTree};

use support::{forward, group, network, pictures};

/// λ.
const DAMPING: f64 = 1e-3;

fn products(c: &mut Criterion) {
    for width in support::widths() {
        let model = network(width);
        let v = ParamTree::of_parameters(&model);
        let mut group = group(c, &format!("influence/resnet18-w{width}"));
        for m in support::sample_counts() {
            let samples = pictures(m);
            group.throughput(Throughput::Elements(m as u64));
            group.bench_function(BenchmarkId::new("woodbury", m), |b| {
                b.iter(|| {
                    let solver = InverseFisher::woodbury(m).damping(DAMPING).budget(support::budget(m));
                    black_box(solver.solve(&model, forward, &samples, &v).expect("a product"))
                });
            });
        }
        let m = if support::timed() { 1002 } else { 4 };
        let samples = pictures(m);
        group.throughput(Throughput::Elements(m as u64));
        group.bench_function(BenchmarkId::new("compat", m), |b| {
            b.iter(|| {
                let solver = InverseFisher::reference_compat();
                black_box(solver.solve(&model, forward, &samples, &v).expect("a product"))
            });
        });
        group.finish();
    }
}

criterion_group! { name = benches; config = support::criterion(); targets = products }
criterion_main!(benches);
