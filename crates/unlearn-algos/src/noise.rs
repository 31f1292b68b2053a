//! Gaussian draws on the host.

use rand::{Rng, RngExt};

/// Standard normal draws by the Box–Muller transform, in float64.
pub(crate) struct Normal<R> {
    rng: R,
    spare: Option<f64>,
}

impl<R: Rng> Normal<R> {
    pub(crate) fn new(rng: R) -> Self {
        Self { rng, spare: None }
    }

    pub(crate) fn draw(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        // `random` gives [0, 1); the logarithm needs (0, 1].
        let u = 1.0 - self.rng.random::<f64>();
        let angle = std::f64::consts::TAU * self.rng.random::<f64>();
        let radius = (-2.0 * u.ln()).sqrt();
        self.spare = Some(radius * angle.sin());
        radius * angle.cos()
    }
}

#[cfg(test)]
mod tests {
    use unlearn_data::{Seed, Stream};

    use super::Normal;

    #[test]
    fn moments_are_those_of_a_standard_normal() {
        let mut normal = Normal::new(Seed(7).rng(Stream::Noise, 0, 0));
        let n = 40_000;
        let draws: Vec<f64> = (0..n).map(|_| normal.draw()).collect();
        let moment = |k: i32| draws.iter().map(|x| x.powi(k)).sum::<f64>() / f64::from(n);
        // Five standard errors of each moment.
        for (k, expected, deviation) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0_f64)] {
            let tolerance = 5.0 * f64::sqrt(deviation / f64::from(n));
            assert!((moment(k) - expected).abs() < tolerance, "moment {k} is {}", moment(k));
        }
    }
}
