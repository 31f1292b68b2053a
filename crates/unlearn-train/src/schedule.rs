//! The learning rate of a step.

use std::f64::consts::PI;

use crate::{FitConfig, Schedule};

impl FitConfig {
    /// The learning rate of optimizer step `step` (from zero) of a run with `steps_per_epoch`
    /// steps an epoch. A pure function: a resumed run needs nothing but the step.
    ///
    /// With `t` the epoch on the schedule's clock (`schedule_offset` added), `T` its last one and
    /// `lr` the configured rate, [`Schedule`] gives
    ///
    /// * constant: `lr`;
    /// * multi-step: `lr · gamma^#{milestones ≤ t}`;
    /// * cosine: `lr · (1 + cos(π t / T)) / 2`, which is PyTorch's `CosineAnnealingLR` in closed form;
    /// * cosine-steps: the same with steps in place of epochs;
    ///
    /// times `min(1, step / warm-up steps)`. The first step of a warm-up thus has rate zero and
    /// changes nothing but running statistics and momentum.
    pub fn rate_at(&self, step: u64, steps_per_epoch: u64) -> f64 {
        let step = step + self.schedule_offset * steps_per_epoch;
        let epoch = step / steps_per_epoch.max(1);
        let epochs = self.epochs + self.schedule_offset;
        let factor = match &self.schedule {
            Schedule::Constant => 1.0,
            Schedule::MultiStep { milestones, gamma } => {
                let passed = milestones.iter().filter(|m| **m <= epoch).count();
                gamma.powi(passed as i32)
            }
            Schedule::Cosine => half_cosine(epoch, epochs),
            Schedule::CosineSteps => half_cosine(step, epochs * steps_per_epoch),
        };
        let rise = self.warmup_epochs * steps_per_epoch;
        let warmth = if step < rise { step as f64 / rise as f64 } else { 1.0 };
        self.learning_rate * factor * warmth
    }
}

fn half_cosine(done: u64, all: u64) -> f64 {
    f64::midpoint(1.0, (PI * done as f64 / all as f64).cos())
}

#[cfg(test)]
mod tests {
    use crate::{FitConfig, OptimizerConfig, Schedule};

    fn config(schedule: Schedule) -> FitConfig {
        FitConfig { schedule, ..FitConfig::new(15, 0.1, OptimizerConfig::sgd(0.9, 5e-4)) }
    }

    #[test]
    fn constant_stays() {
        let config = config(Schedule::Constant);
        assert!((0..60).all(|s| config.rate_at(s, 4) == 0.1));
    }

    #[test]
    fn multi_step_falls_at_the_first_step_of_each_milestone() {
        let config = config(Schedule::MultiStep { milestones: vec![0, 5, 10], gamma: 0.1 });
        let near = |s, expected: f64| {
            assert!((config.rate_at(s, 4) - expected).abs() < 1e-15 * expected.abs().max(1.0));
        };
        near(0, 0.01);
        near(19, 0.01);
        near(20, 0.001);
        near(39, 0.001);
        near(40, 0.0001);
    }

    /// PyTorch steps the scheduler once an epoch by the recursion below (`CosineAnnealingLR.get_lr`
    /// with `eta_min = 0`); the closed form must follow it.
    #[test]
    fn cosine_follows_pytorchs_recursion() {
        let config = config(Schedule::Cosine);
        let (mut rate, t_max) = (0.1_f64, 15.0_f64);
        for epoch in 0..15_u64 {
            for step in 0..7 {
                assert!((config.rate_at(epoch * 7 + step, 7) - rate).abs() < 1e-14, "epoch {epoch}");
            }
            let t = (epoch + 1) as f64;
            rate *= (1.0 + (std::f64::consts::PI * t / t_max).cos())
                / (1.0 + (std::f64::consts::PI * (t - 1.0) / t_max).cos());
        }
    }

    #[test]
    fn cosine_steps_falls_every_step_from_the_full_rate_to_almost_zero() {
        let config = config(Schedule::CosineSteps);
        let rates: Vec<_> = (0..60).map(|s| config.rate_at(s, 4)).collect();
        assert_eq!(rates[0], 0.1);
        assert!(rates.windows(2).all(|w| w[1] < w[0]));
        assert!((rates[30] - 0.05).abs() < 1e-15);
        // sin²(π/120) is what is left before the last step.
        assert!((rates[59] - 0.1 * (std::f64::consts::PI / 120.0).sin().powi(2)).abs() < 1e-15);
    }

    #[test]
    fn warm_up_rises_in_equal_steps_from_zero_and_ends_at_the_full_rate() {
        let config = FitConfig { warmup_epochs: 2, ..config(Schedule::Constant) };
        for step in 0..8 {
            assert!((config.rate_at(step, 4) - 0.1 * step as f64 / 8.0).abs() < 1e-16);
        }
        assert_eq!(config.rate_at(0, 4), 0.0);
        assert_eq!(config.rate_at(8, 4), 0.1);
    }

    #[test]
    fn an_offset_run_has_the_rates_of_the_tail_of_the_whole_run() {
        let milestones = vec![4, 9];
        for schedule in [
            Schedule::Constant,
            Schedule::MultiStep { milestones, gamma: 0.3 },
            Schedule::Cosine,
            Schedule::CosineSteps,
        ] {
            let whole = FitConfig { warmup_epochs: 4, ..config(schedule) };
            let tail = FitConfig { epochs: 12, schedule_offset: 3, ..whole.clone() };
            for step in 0..12 * 5 {
                assert_eq!(tail.rate_at(step, 5), whole.rate_at(step + 15, 5), "{:?} {step}", whole.schedule);
            }
        }
    }
}
