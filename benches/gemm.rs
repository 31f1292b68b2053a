//! How many floating-point operations a second does the backend's dense matrix product do?
//!
//! 2048×2048 by 2048×2048 in float32, on flex unless `UNLEARN_DEVICE` says otherwise: the rate that every other
//! bench is a share of. The `elem/s` are operations (two a multiply-add). `cargo bench --bench gemm`.
#![allow(missing_docs)]

mod support;

use std::hint::black_box;

use burn::tensor::{Distribution, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn product(c: &mut Criterion) {
    let n = if support::timed() { 2048 } else { 16 };
    let random = || Tensor::<2>::random([n, n], Distribution::Uniform(-1.0, 1.0), &support::device());
    let (a, b) = (random(), random());
    let mut group = support::group(c, "gemm");
    group.throughput(Throughput::Elements(2 * (n as u64).pow(3)));
    group.bench_function(BenchmarkId::new(support::device_name(), n), |bencher| {
        bencher.iter(|| black_box(support::done(a.clone().matmul(b.clone()))));
    });
    group.finish();
}

criterion_group! { name = benches; config = support::criterion(); targets = product }
criterion_main!(benches);
