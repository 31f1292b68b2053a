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
use unlearn::curvature::ParamTree;

use support::{forward, group, network, pictures};

use self::inverse::{compat, woodbury};

/// λ.
const DAMPING: f64 = 1e-3;

/// The two products from the engine's inner products and weighted gradients. To be replaced by one call each
/// where the library offers it.
mod inverse {
    use unlearn::curvature::inverse::Cholesky;
    use unlearn::curvature::oracle::TensorSamples;
    use unlearn::curvature::{CurvatureError, ParamTree, PerSample};
    use unlearn::models::ResNet;

    use super::forward;

    /// k = (1/λ) \[v − Gᵀ (λm I + G Gᵀ)⁻¹ G v\].
    pub(super) fn woodbury(
        model: &ResNet,
        samples: &TensorSamples,
        v: &ParamTree,
        damping: f64,
        budget: usize,
    ) -> Result<ParamTree, CurvatureError> {
        let engine = PerSample::new().budget(budget);
        let mut pairs = engine.pairs(model, forward, samples, v)?;
        let m = pairs.dots.len();
        (0..m).for_each(|i| pairs.gram[i * m + i] += damping * m as f64);
        let weights = Cholesky::new(&pairs.gram, m)?.solve(&pairs.dots)?;
        let back = engine.weighted_gradient(model, forward, samples, &weights)?;
        Ok(v.sub(&back)?.scale(1.0 / damping))
    }

    /// k = v − g_0 ⟨v, s⟩ / (N + ⟨g_0, s⟩) with s the sum of the other gradients and N the samples but two.
    pub(super) fn compat(
        model: &ResNet,
        samples: &TensorSamples,
        v: &ParamTree,
    ) -> Result<ParamTree, CurvatureError> {
        let m = unlearn::curvature::oracle::Samples::len(samples);
        let engine = PerSample::new();
        let first = engine.weighted_gradient(model, forward, &samples.slice(0..1)?, &[1.0])?;
        let others = engine.weighted_gradient(model, forward, &samples.slice(1..m)?, &vec![1.0; m - 1])?;
        let factor = v.dot(&others)? / ((m - 2) as f64 + first.dot(&others)?);
        v.sub(&first.scale(factor))
    }
}

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
                    let k = woodbury(&model, &samples, &v, DAMPING, support::budget(m));
                    black_box(k.expect("a product"))
                });
            });
        }
        let m = if support::timed() { 1002 } else { 4 };
        let samples = pictures(m);
        group.throughput(Throughput::Elements(m as u64));
        group.bench_function(BenchmarkId::new("compat", m), |b| {
            b.iter(|| black_box(compat(&model, &samples, &v).expect("a product")));
        });
        group.finish();
    }
}

criterion_group!(benches, products);
criterion_main!(benches);
