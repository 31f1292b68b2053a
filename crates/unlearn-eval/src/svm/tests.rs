use rand::RngExt;
use unlearn_data::{Seed, Stream};

use super::cache::RowCache;
use super::smo::{Dual, Solution};
use super::*;

const TIGHT: f64 = 1e-9;

fn kernel(points: &[Vec<f64>], gamma: f64) -> Vec<Vec<f64>> {
    let entry = |a: &Vec<f64>, b: &Vec<f64>| {
        (-gamma * a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum::<f64>()).exp()
    };
    points.iter().map(|a| points.iter().map(|b| entry(a, b)).collect()).collect()
}

fn objective(matrix: &[Vec<f64>], targets: &[f64], beta: &[f64]) -> f64 {
    let n = targets.len();
    let linear: f64 = (0..n).map(|i| targets[i] * beta[i]).sum();
    let square: f64 = (0..n).map(|i| (0..n).map(|j| beta[i] * beta[j] * matrix[i][j]).sum::<f64>()).sum();
    linear - square / 2.0
}

/// Gauss elimination with full row pivoting; `None` for a singular system.
fn solve_dense(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Option<Vec<f64>> {
    let n = b.len();
    for column in 0..n {
        let pivot = (column..n).max_by(|&x, &y| a[x][column].abs().total_cmp(&a[y][column].abs()))?;
        if a[pivot][column].abs() < 1e-12 {
            return None;
        }
        a.swap(column, pivot);
        b.swap(column, pivot);
        let pivot_row = a[column].clone();
        for row in column + 1..n {
            let factor = a[row][column] / pivot_row[column];
            a[row].iter_mut().zip(&pivot_row).for_each(|(x, p)| *x -= factor * p);
            b[row] -= factor * b[column];
        }
    }
    for row in (0..n).rev() {
        let rest: f64 = (row + 1..n).map(|k| a[row][k] * b[k]).sum();
        b[row] = (b[row] - rest) / a[row][row];
    }
    Some(b)
}

/// The best dual value over all 3ⁿ choices of which coefficients lie at zero, at their bound or
/// inside, each solved exactly.
fn brute_force(matrix: &[Vec<f64>], targets: &[f64], bounds: &[f64]) -> f64 {
    let n = targets.len();
    let mut best = 0.0_f64;
    for code in 0..3_usize.pow(n as u32) {
        let state: Vec<usize> = (0..n).map(|i| code / 3_usize.pow(i as u32) % 3).collect();
        let mut beta: Vec<f64> =
            (0..n).map(|i| if state[i] == 1 { targets[i] * bounds[i] } else { 0.0 }).collect();
        let free: Vec<usize> = (0..n).filter(|&i| state[i] == 2).collect();
        if !free.is_empty() {
            // Stationarity of the free ones with the multiplier of Σβ = 0 as last unknown.
            let m = free.len();
            let mut a = vec![vec![0.0; m + 1]; m + 1];
            let mut b = vec![0.0; m + 1];
            for (r, &i) in free.iter().enumerate() {
                for (c, &j) in free.iter().enumerate() {
                    a[r][c] = matrix[i][j];
                }
                a[r][m] = 1.0;
                a[m][r] = 1.0;
                b[r] = targets[i] - (0..n).map(|j| matrix[i][j] * beta[j]).sum::<f64>();
            }
            b[m] = -beta.iter().sum::<f64>();
            let Some(x) = solve_dense(a, b) else { continue };
            for (r, &i) in free.iter().enumerate() {
                beta[i] = x[r];
            }
        }
        let inside = (0..n).all(|i| (-1e-9..=bounds[i] + 1e-9).contains(&(beta[i] * targets[i])));
        if inside && beta.iter().sum::<f64>().abs() < 1e-9 {
            best = best.max(objective(matrix, targets, &beta));
        }
    }
    best
}

fn solve(matrix: &[Vec<f64>], targets: &[f64], bounds: &[f64], tolerance: f64, cache: usize) -> Solution {
    Dual { targets, bounds, tolerance, max_iterations: 1_000_000 }
        .solve(&mut RowCache::new(targets.len(), cache), |i, row| row.copy_from_slice(&matrix[i]))
        .unwrap()
}

/// Draws `n` points of `dimension`, positive ones shifted, at least one of each side.
fn draw(n: usize, dimension: usize, shift: f64, seed: u64) -> (Vec<Vec<f64>>, Vec<f64>) {
    let mut rng = Seed(seed).rng(Stream::Synthetic, 0, 0);
    let targets: Vec<f64> = (0..n).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
    let points = targets
        .iter()
        .map(|y| (0..dimension).map(|_| rng.random::<f64>() + if *y > 0.0 { shift } else { 0.0 }).collect())
        .collect();
    (points, targets)
}

#[test]
fn small_problems_reach_the_value_of_an_exhaustive_search() {
    for seed in 0..30 {
        let (points, targets) = draw(6, 1 + seed as usize % 3, 0.3, seed);
        let matrix = kernel(&points, 1.5);
        let bounds: Vec<f64> = (0..6).map(|i| 0.5 + 0.7 * ((i * 7 + seed as usize) % 4) as f64).collect();
        let solution = solve(&matrix, &targets, &bounds, TIGHT, 1 << 20);
        let got = objective(&matrix, &targets, &solution.coefficients);
        let best = brute_force(&matrix, &targets, &bounds);
        assert!((got - best).abs() < 1e-7 * best.max(1.0), "seed {seed}: {got} against {best}");
    }
}

#[test]
fn solutions_satisfy_the_optimality_conditions_from_scratch() {
    for (seed, dimension, tolerance) in [(1, 1, 1e-3), (2, 2, 1e-3), (3, 10, 1e-3), (4, 1, 1e-6)] {
        let (points, targets) = draw(300, dimension, 0.2, seed);
        let matrix = kernel(&points, 1.0 / dimension as f64);
        let bounds = vec![3.0; 300];
        // A cache of two rows is the hardest on the bookkeeping.
        let Solution { coefficients: beta, bias } = solve(&matrix, &targets, &bounds, tolerance, 0);
        assert!(beta.iter().sum::<f64>().abs() < 1e-9, "Σβ = {}", beta.iter().sum::<f64>());
        for i in 0..300 {
            let alpha = beta[i] * targets[i];
            assert!((0.0..=3.0).contains(&alpha), "α = {alpha}");
            // y f(x) ≥ 1 at α = 0, ≤ 1 at α = C, = 1 between.
            let margin = targets[i] * ((0..300).map(|j| beta[j] * matrix[i][j]).sum::<f64>() + bias);
            let slack = tolerance + 1e-9;
            assert!(alpha > 0.0 || margin >= 1.0 - slack, "α = 0 but margin {margin}");
            assert!(alpha < 3.0 || margin <= 1.0 + slack, "α = C but margin {margin}");
            assert!(
                alpha == 0.0 || alpha == 3.0 || (margin - 1.0).abs() <= slack,
                "free but margin {margin}"
            );
        }
    }
}

#[test]
fn merging_equal_samples_does_not_move_the_optimum() {
    // Twelve samples on three places, merged by `fit`, against the unmerged dual.
    let (positive, negative) = ([0.0, 0.0, 0.4, 0.4, 0.4, 1.0], [0.0, 0.4, 1.0, 1.0, 1.0, 1.0]);
    let config = SvmConfig { tolerance: TIGHT, ..SvmConfig::default() };
    let merged = Svm::fit(&positive, &negative, 1, &config).unwrap();
    let points: Vec<Vec<f64>> = positive.iter().chain(&negative).map(|x| vec![*x]).collect();
    let targets: Vec<f64> = [1.0; 6].into_iter().chain([-1.0; 6]).collect();
    let matrix = kernel(&points, 1.0);
    let plain = solve(&matrix, &targets, &[3.0; 12], TIGHT, 1 << 20);
    for x in [0.0, 0.2, 0.4, 0.7, 1.0] {
        let sum: f64 =
            points.iter().zip(&plain.coefficients).map(|(p, b)| b * (-(p[0] - x).powi(2)).exp()).sum();
        let expected = sum + plain.bias;
        assert!((merged.decision(&[x]) - expected).abs() < 1e-6, "{x}: {} {expected}", merged.decision(&[x]));
    }
}

#[test]
fn two_samples_have_the_machine_that_pen_and_paper_gives() {
    // One sample a side at distance 1, γ = 1: β = ±1/(1 − e⁻¹) (below C = 3), b = 0, f = ±1 on them.
    let svm = Svm::fit(&[1.0], &[0.0], 1, &SvmConfig { tolerance: TIGHT, ..SvmConfig::default() }).unwrap();
    let expected = 1.0 / (1.0 - (-1.0_f64).exp());
    assert!((svm.coefficients[1] - expected).abs() < 1e-9, "{:?}", svm.coefficients);
    assert!((svm.decision(&[1.0]) - 1.0).abs() < 1e-9 && (svm.decision(&[0.0]) + 1.0).abs() < 1e-9);
    assert!(svm.decision(&[0.5]).abs() < 1e-9);
}

#[test]
fn the_answer_does_not_depend_on_the_order_of_samples_or_on_the_cache() {
    let (points, targets) = draw(200, 2, 0.3, 9);
    let side = |y: f64, reverse: bool| -> Vec<f64> {
        let mut rows: Vec<&Vec<f64>> =
            points.iter().zip(&targets).filter(|(_, t)| **t == y).map(|(p, _)| p).collect();
        if reverse {
            rows.reverse();
        }
        rows.into_iter().flatten().copied().collect()
    };
    let one = Svm::fit(&side(1.0, false), &side(-1.0, false), 2, &SvmConfig::default()).unwrap();
    let config = SvmConfig { cache_bytes: 0, ..SvmConfig::default() };
    let other = Svm::fit(&side(1.0, true), &side(-1.0, true), 2, &config).unwrap();
    assert_eq!(one, other);
}

#[test]
fn indistinguishable_sides_are_a_tie_and_a_tie_is_positive() {
    let svm = Svm::fit(&[0.5; 7], &[0.5; 7], 1, &SvmConfig::default()).unwrap();
    assert_eq!(svm.decision(&[0.5]), 0.0);
    assert_eq!(svm.count_positive(&[0.5, 0.1]), 2);
}

#[test]
fn bad_arguments_are_typed_errors() {
    let fit = |p: &[f64], n: &[f64], d, config: SvmConfig| Svm::fit(p, n, d, &config).unwrap_err().code();
    let standard = SvmConfig::default();
    assert_eq!(fit(&[], &[1.0], 1, standard), "E_EVAL_EMPTY");
    assert_eq!(fit(&[1.0], &[], 1, standard), "E_EVAL_EMPTY");
    assert_eq!(fit(&[1.0, 2.0, 3.0], &[1.0, 2.0], 2, standard), "E_LOGITS_SHAPE");
    assert_eq!(fit(&[f64::NAN], &[1.0], 1, standard), "E_LOGITS_SHAPE");
    assert_eq!(fit(&[1.0], &[1.0], 0, standard), "E_CONFIG");
    assert_eq!(fit(&[1.0], &[1.0], 0, SvmConfig { gamma: Some(1.0), ..standard }), "E_CONFIG");
    assert_eq!(fit(&[1.0], &[0.0], 1, SvmConfig { cost: 0.0, ..standard }), "E_CONFIG");
    assert_eq!(fit(&[1.0], &[0.0], 1, SvmConfig { tolerance: f64::NAN, ..standard }), "E_CONFIG");
}

#[test]
fn a_machine_that_is_stopped_early_says_so() {
    let (points, targets) = draw(40, 1, 0.1, 5);
    let matrix = kernel(&points, 1.0);
    let error = Dual { targets: &targets, bounds: &[3.0; 40], tolerance: 1e-6, max_iterations: 3 }
        .solve(&mut RowCache::new(40, 1 << 20), |i, row| row.copy_from_slice(&matrix[i]))
        .unwrap_err();
    assert_eq!(error.code(), "E_SVM");
    assert!(error.to_string().contains("after 3 steps"), "{error}");
}
