//! How long one thing takes as a share of another, from runs of both in turn.

use std::fmt;
use std::time::Instant;

/// Sorted quotients of pairs of runs.
pub(crate) struct Ratios(Vec<f64>);

impl Ratios {
    /// The time of `a` over that of `b`, `pairs` times, each pair in the other order than the last.
    pub(crate) fn of(pairs: usize, a: impl Fn(), b: impl Fn()) -> Self {
        let seconds = |run: &dyn Fn()| {
            let began = Instant::now();
            run();
            began.elapsed().as_secs_f64()
        };
        let mut ratios: Vec<f64> = (0..pairs)
            .map(|pair| {
                if pair % 2 == 0 {
                    let a = seconds(&a);
                    a / seconds(&b)
                } else {
                    let b = seconds(&b);
                    seconds(&a) / b
                }
            })
            .collect();
        ratios.sort_by(f64::total_cmp);
        Self(ratios)
    }

    /// How many of the smallest and of the largest quotients lie outside of the interval that holds the true
    /// median with a probability of at least 95 %, whatever the distribution: as many as a fair coin's heads
    /// stay below in at most 2.5 % of all series as long. `None` below six pairs, which tell no such interval.
    fn outside(&self) -> Option<usize> {
        let n = self.0.len();
        let (mut chance, mut below, mut k) = (0.5_f64.powi(n as i32), 0.0, 0);
        while below + chance <= 0.025 {
            below += chance;
            chance *= (n - k) as f64 / (k + 1) as f64;
            k += 1;
        }
        k.checked_sub(1)
    }
}

impl fmt::Display for Ratios {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, n) = (&self.0, self.0.len());
        write!(f, "{:.3} (median of {n} pairs; ", all[n / 2])?;
        if let Some(k) = self.outside() {
            write!(f, "with 95 % confidence {:.3} to {:.3}, ", all[k], all[n - 1 - k])?;
        }
        write!(f, "all {:.3} to {:.3})", all[0], all[n - 1])
    }
}
