//! How long do the inner products of all pairs of m per-sample gradients take?
//!
//! ResNet-18 on 32×32 pictures, on flex: `gram` is G Gᵀ, `dots` G v, `norms` the squared norms of the rows of
//! G, none of which stores a gradient. Sizes as `benches/support` says; `cargo bench --bench gram`.
#![allow(missing_docs, clippy::expect_used)]

mod support;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use unlearn::curvature::{ParamTree, PerSample};

use support::{forward, group, network, pictures};

fn inner_products(c: &mut Criterion) {
    for width in support::widths() {
        let model = network(width);
        let direction = ParamTree::of_parameters(&model);
        let mut group = group(c, &format!("gram/resnet18-w{width}"));
        for m in support::sample_counts() {
            let samples = pictures(m);
            let engine = PerSample::new().budget(support::budget(m));
            group.throughput(Throughput::Elements(m as u64));
            group.bench_function(BenchmarkId::new("gram", m), |b| {
                b.iter(|| black_box(engine.gram(&model, forward, &samples).expect("a Gram matrix")));
            });
            group.bench_function(BenchmarkId::new("dots", m), |b| {
                b.iter(|| {
                    black_box(engine.dots(&model, forward, &samples, &direction).expect("inner products"))
                });
            });
            group.bench_function(BenchmarkId::new("norms", m), |b| {
                b.iter(|| black_box(engine.norms_squared(&model, forward, &samples).expect("norms")));
            });
        }
        group.finish();
    }
}

criterion_group! { name = benches; config = support::criterion(); targets = inner_products }
criterion_main!(benches);
