//! Columns against the matrices that they factor.

use super::{Columns, Estimator, multinomial_cholesky};
use crate::CurvatureError;
use crate::oracle::LogitRows;

/// diag(p) − p pᵀ with p_i (1 − p_i) = p_i Σ_{j≠i} p_j.
fn covariance(p: &[f64]) -> Vec<f64> {
    let k = p.len();
    let mut matrix = vec![0.0; k * k];
    for i in 0..k {
        for j in 0..k {
            let rest: f64 = (0..k).filter(|&m| m != i).map(|m| p[m]).sum();
            matrix[i * k + j] = if i == j { p[i] * rest } else { -p[i] * p[j] };
        }
    }
    matrix
}

fn outer(columns: &[f64], k: usize) -> Vec<f64> {
    let mut sum = vec![0.0; k * k];
    for column in columns.chunks_exact(k) {
        for i in 0..k {
            for j in 0..k {
                sum[i * k + j] += column[i] * column[j];
            }
        }
    }
    sum
}

/// Entry by entry, relative: the smallest must have their digits too.
#[track_caller]
fn same(got: &[f64], expected: &[f64], tolerance: f64) {
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= tolerance * e.abs() + 1e-300, "entry {i}: {g:e} but expected {e:e}");
    }
}

fn rows(logits: Vec<f32>, k: usize) -> LogitRows {
    LogitRows::new(logits, k).unwrap()
}

#[test]
fn nothing_to_factor_and_labels_that_are_missing() {
    assert!(multinomial_cholesky(&[]).is_empty());
    assert!(multinomial_cholesky(&[1.0]).is_empty());
    for labels in [&[0][..], &[0, 1, 2]] {
        let error = Estimator::Empirical.columns(&rows(vec![0.1; 6], 3), labels, 0).unwrap_err();
        assert!(matches!(error, CurvatureError::Argument { field: "labels", .. }), "{error}");
    }
}

#[test]
fn the_factor_is_exact_from_uniform_to_certain() {
    for k in [2, 3, 10, 100] {
        for gap in [0.0_f32, 1.0, 20.0, 40.0, 300.0] {
            let logits: Vec<f32> =
                (0..k).map(|i| if i == k / 2 { gap } else { (i as f32 * 0.7).sin() }).collect();
            let p = rows(logits, k).probabilities(0);
            let factor = multinomial_cholesky(&p);
            assert_eq!(factor.len(), (k - 1) * k);
            let (got, expected) = (outer(&factor, k), covariance(&p));
            for i in 0..k {
                for j in 0..k {
                    // Every diagonal entry has all its digits, however small; the others cancel.
                    let scale = (expected[i * k + i] * expected[j * k + j]).sqrt();
                    let (g, e) = (got[i * k + j], expected[i * k + j]);
                    assert!((g - e).abs() <= 1e-12 * scale + 1e-300, "({i}, {j}): {g:e} but expected {e:e}");
                }
            }
        }
    }
    // Probabilities of exactly zero, and of exactly one.
    same(&outer(&multinomial_cholesky(&[0.25, 0.0, 0.75]), 3), &covariance(&[0.25, 0.0, 0.75]), 1e-14);
    assert!(multinomial_cholesky(&[0.0, 1.0, 0.0]).iter().all(|&v| v == 0.0));
}

#[test]
fn all_sign_patterns_together_are_the_exact_matrix() {
    let k = 5;
    let p = rows(vec![0.3, 2.0, -1.0, 0.0, 1.5], k).probabilities(0);
    let factor = multinomial_cholesky(&p);
    let mut mean = vec![0.0; k * k];
    for pattern in 0..1_u32 << (k - 1) {
        let mut column = vec![0.0; k];
        for (j, part) in factor.chunks_exact(k).enumerate() {
            let sign = if pattern >> j & 1 == 0 { 1.0 } else { -1.0 };
            column.iter_mut().zip(part).for_each(|(sum, v)| *sum += sign * v);
        }
        let outer = outer(&column, k);
        mean.iter_mut().zip(outer).for_each(|(mean, v)| *mean += v / f64::from(1 << (k - 1)));
    }
    same(&mean, &covariance(&p), 1e-12);
}

/// A z-test of the mean over many draws, entry by entry.
#[test]
fn sampled_columns_have_the_right_mean() {
    let k = 4;
    let logits = rows(vec![2.5, 0.0, -0.5, 1.0], k);
    let expected = covariance(&logits.probabilities(0));
    let draws = 4000;
    for estimator in [
        Estimator::LabelMc { draws: 1, seed: 7 },
        Estimator::SignMc { draws: 1, seed: 7 },
        Estimator::SignMc { draws: 3, seed: 7 },
        Estimator::Hybrid { exact: 1, draws: 1, seed: 7 },
    ] {
        let (mut sum, mut squares) = (vec![0.0; k * k], vec![0.0; k * k]);
        for sample in 0..draws {
            let columns = estimator.columns(&logits, &[0], sample).unwrap();
            let values: Vec<f64> = columns.values().iter().map(|&v| f64::from(v)).collect();
            for (i, v) in outer(&values, k).into_iter().enumerate() {
                sum[i] += v;
                squares[i] += v * v;
            }
        }
        let n = draws as f64;
        for i in 0..k * k {
            let (mean, deviation) = (sum[i] / n, (squares[i] / n - (sum[i] / n).powi(2)).max(0.0).sqrt());
            let error = (mean - expected[i]).abs();
            assert!(
                error < 4.5 * deviation / n.sqrt() + 1e-7,
                "{estimator:?} entry {i}: {mean} vs {}",
                expected[i]
            );
        }
    }
}

#[test]
fn draws_depend_on_seed_and_sample_and_on_nothing_else() {
    let k = 10;
    let logits: Vec<f32> = (0..4 * k).map(|i| (i as f32 * 1.3).sin()).collect();
    let all = rows(logits.clone(), k);
    for make in [
        |seed| Estimator::LabelMc { draws: 8, seed },
        |seed| Estimator::SignMc { draws: 8, seed },
        |seed| Estimator::Hybrid { exact: 2, draws: 8, seed },
    ] {
        let whole = make(1).columns(&all, &[0; 4], 5).unwrap();
        let parts: Vec<f32> = (0..4)
            .flat_map(|n| {
                let row = rows(logits[n * k..(n + 1) * k].to_vec(), k);
                make(1).columns(&row, &[0], 5 + n).unwrap().values().to_vec()
            })
            .collect();
        assert_eq!(whole.values(), parts);
        assert_ne!(whole, make(2).columns(&all, &[0; 4], 5).unwrap());
        assert_ne!(whole, make(1).columns(&all, &[0; 4], 6).unwrap());
    }
}

#[test]
fn a_hybrid_of_all_columns_is_exact() {
    let logits = rows(vec![2.5, 0.0, -0.5, 1.0], 4);
    let exact = Estimator::Exact.columns(&logits, &[0], 0).unwrap();
    assert_eq!(Estimator::Hybrid { exact: 3, draws: 2, seed: 0 }.columns(&logits, &[0], 0).unwrap(), exact);
    assert_eq!(Estimator::Hybrid { exact: 9, draws: 2, seed: 0 }.columns(&logits, &[0], 0).unwrap(), exact);
    assert_eq!(exact.count(), 3);
    assert_eq!(exact.part(1..3).values(), &exact.values()[4..]);
}

#[test]
fn tiny_cotangents_are_scaled_by_powers_of_two() {
    // Gaps of 2 and of 60: the second residual is about 1e-26.
    let logits = rows(vec![2.0, 0.0, 60.0, 0.0], 2);
    let columns = Estimator::Empirical.columns(&logits, &[0, 0], 0).unwrap();
    assert_eq!(columns.scales()[0], 1.0);
    let scale = columns.scales()[1];
    assert!(scale < 1e-25 && scale.log2().fract() == 0.0);
    let residual = logits.residual(1, 0).unwrap().0;
    for (got, expected) in columns.values()[2..].iter().zip(residual) {
        assert!((1.0..2.0).contains(&got.abs()));
        assert!((f64::from(*got) * scale / expected - 1.0).abs() < 1e-7);
    }
}

#[test]
fn bad_arguments_are_errors() {
    let logits = rows(vec![0.0; 4], 2);
    let label = Estimator::Empirical.columns(&logits, &[0, 2], 0);
    assert!(matches!(label, Err(CurvatureError::Argument { field: "label", .. })));
    let one = Estimator::Exact.columns(&rows(vec![0.0], 1), &[0], 0);
    assert!(matches!(one, Err(CurvatureError::Argument { field: "classes", .. })));
    assert!(matches!(
        Columns::new(&[0.0; 5], 1, 2, 1),
        Err(CurvatureError::Argument { field: "columns", .. })
    ));
    assert!(Estimator::GroupMean { size: 0 }.validate().is_err());
    assert!(Estimator::SignMc { draws: 0, seed: 0 }.validate().is_err());
    let ragged = Estimator::GroupMean { size: 2 }.columns(&rows(vec![0.0; 6], 2), &[0; 3], 0);
    assert!(matches!(ragged, Err(CurvatureError::Argument { field: "columns", .. })));
}
