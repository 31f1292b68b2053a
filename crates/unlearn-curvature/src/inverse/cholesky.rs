//! A small float64 Cholesky factorisation on the host.

use crate::CurvatureError;

/// L of A = L Lᵀ for a symmetric positive definite A, `[n, n]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Cholesky {
    lower: Vec<f64>,
    n: usize,
}

impl Cholesky {
    /// Factors `matrix`, `[n, n]` row-major; only its lower triangle is read.
    ///
    /// # Errors
    /// [`CurvatureError::Shape`] unless it has n² entries, [`CurvatureError::Solve`] when it is not
    /// positive definite to working precision or not finite.
    pub fn new(matrix: &[f64], n: usize) -> Result<Self, CurvatureError> {
        if matrix.len() != n * n {
            return Err(CurvatureError::Shape {
                path: "(matrix to factor)".into(),
                got: vec![matrix.len()],
                expected: vec![n, n],
            });
        }
        let mut lower = matrix.to_vec();
        for i in 0..n {
            let (above, row) = lower.split_at_mut(i * n);
            let row = &mut row[..n];
            for j in 0..i {
                let other = &above[j * n..j * n + n];
                row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
            }
            let pivot = row[i] - dot(&row[..i], &row[..i]);
            // A pivot at the level of rounding is no pivot.
            if !pivot.is_finite() || pivot <= row[i].abs() * f64::EPSILON * n as f64 {
                return Err(CurvatureError::Solve {
                    got: format!("pivot {pivot:e} in row {i} of {n}"),
                    mend: "raise the damping",
                });
            }
            row[i] = pivot.sqrt();
            row[i + 1..].fill(0.0);
        }
        Ok(Self { lower, n })
    }

    /// A⁻¹ b, `[n]`.
    ///
    /// # Errors
    /// [`CurvatureError::Shape`] unless `b` has n entries.
    pub fn solve(&self, b: &[f64]) -> Result<Vec<f64>, CurvatureError> {
        if b.len() != self.n {
            return Err(CurvatureError::Shape {
                path: "(right-hand side)".into(),
                got: vec![b.len()],
                expected: vec![self.n],
            });
        }
        let n = self.n;
        let mut x = b.to_vec();
        for i in 0..n {
            let row = &self.lower[i * n..i * n + n];
            x[i] = (x[i] - dot(&row[..i], &x[..i])) / row[i];
        }
        for i in (0..n).rev() {
            x[i] /= self.lower[i * n + i];
            let xi = x[i];
            let row = &self.lower[i * n..i * n + i];
            x[..i].iter_mut().zip(row).for_each(|(x, l)| *x -= l * xi);
        }
        Ok(x)
    }

    /// tr A⁻¹ = ‖L⁻¹‖²: the squares of the columns of L⁻¹, found by forward substitution from where each begins.
    pub(crate) fn inverse_trace(&self) -> f64 {
        let n = self.n;
        let mut column = Vec::with_capacity(n);
        let mut trace = 0.0;
        for i in 0..n {
            column.clear();
            for r in i..n {
                let row = &self.lower[r * n..r * n + n];
                let right = if r == i { 1.0 } else { 0.0 };
                column.push((right - dot(&row[i..r], &column)) / row[r]);
            }
            trace += dot(&column, &column);
        }
        trace
    }
}

/// In eight sums side by side, which one after the other would wait for each other.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (eights, rest) = a.as_chunks::<8>();
    let (others, other_rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (a, b) in eights.iter().zip(others) {
        for k in 0..8 {
            sums[k] += a[k] * b[k];
        }
    }
    sums.iter().sum::<f64>() + rest.iter().zip(other_rest).map(|(a, b)| a * b).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hilbert_plus(n: usize, damping: f64) -> Vec<f64> {
        let entry = |i: usize, j: usize| 1.0 / (i + j + 1) as f64 + if i == j { damping } else { 0.0 };
        (0..n * n).map(|e| entry(e / n, e % n)).collect()
    }

    #[test]
    fn solves_what_it_factored() {
        for n in [1, 2, 7, 40] {
            let a = hilbert_plus(n, 0.01);
            let x: Vec<f64> = (0..n).map(|i| (i as f64 * 0.7).sin() + 0.5).collect();
            let b: Vec<f64> = (0..n).map(|i| dot(&a[i * n..i * n + n], &x)).collect();
            let got = Cholesky::new(&a, n).unwrap().solve(&b).unwrap();
            for (got, x) in got.iter().zip(&x) {
                assert!((got - x).abs() < 1e-12 * n as f64, "{got} {x}");
            }
        }
    }

    #[test]
    fn the_trace_of_the_inverse_is_that_of_its_solves() {
        for n in [1, 2, 7, 40] {
            let factor = Cholesky::new(&hilbert_plus(n, 0.01), n).unwrap();
            let column = |i: usize| (0..n).map(|j| f64::from(u8::from(i == j))).collect::<Vec<f64>>();
            let expected: f64 = (0..n).map(|i| factor.solve(&column(i)).unwrap()[i]).sum();
            let got = factor.inverse_trace();
            assert!((got - expected).abs() < 1e-12 * n as f64 * expected, "{got} {expected}");
        }
    }

    #[test]
    fn refuses_what_has_no_factor() {
        let indefinite = [1.0, 2.0, 2.0, 1.0];
        assert!(matches!(Cholesky::new(&indefinite, 2), Err(CurvatureError::Solve { .. })));
        assert!(matches!(Cholesky::new(&[1.0, 1.0, 1.0, 1.0], 2), Err(CurvatureError::Solve { .. })));
        assert!(matches!(Cholesky::new(&[f64::NAN], 1), Err(CurvatureError::Solve { .. })));
        assert!(matches!(Cholesky::new(&[1.0; 3], 2), Err(CurvatureError::Shape { .. })));
        let factor = Cholesky::new(&[4.0], 1).unwrap();
        assert!(matches!(factor.solve(&[1.0, 2.0]), Err(CurvatureError::Shape { .. })));
        assert_eq!(factor.solve(&[2.0]).unwrap(), [0.5]);
    }
}
