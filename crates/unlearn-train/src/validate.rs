//! Checks of a configuration, once, before any work.

use crate::{FitConfig, OptimizerConfig, Schedule, TrainError};

/// More epochs than any run has: with so few, no count of steps leaves 64 bits.
const MAX_EPOCHS: u64 = 1_000_000_000;

impl FitConfig {
    /// Checks every field on its own and against the others.
    ///
    /// # Errors
    /// [`TrainError::Config`] with the first field that cannot be.
    pub fn validate(&self) -> Result<(), TrainError> {
        let counts = [
            ("epochs", self.epochs, 1),
            ("warmup_epochs", self.warmup_epochs, 0),
            ("schedule_offset", self.schedule_offset, 0),
        ];
        for (field, got, least) in counts {
            if !(least..=MAX_EPOCHS).contains(&got) {
                return refuse(field, got, format!("{least} to {MAX_EPOCHS}"), "give a number of epochs");
            }
        }
        require(
            self.learning_rate.is_finite() && self.learning_rate > 0.0,
            "learning_rate",
            self.learning_rate,
            "finite and above zero",
            "0.1 is usual for SGD, 0.001 for AdamW",
        )?;
        self.optimizer.validate()?;
        if let Schedule::MultiStep { milestones, gamma } = &self.schedule {
            require(
                milestones.is_sorted_by(|a, b| a < b),
                "schedule.milestones",
                format!("{milestones:?}"),
                "ascending without repeats",
                "sort the epochs",
            )?;
            require(
                gamma.is_finite() && *gamma > 0.0,
                "schedule.gamma",
                gamma,
                "finite and above zero",
                "0.1 is usual",
            )?;
        }
        if let Some(norm) = self.clip_norm {
            require(
                norm.is_finite() && norm > 0.0,
                "clip_norm",
                norm,
                "finite and above zero",
                "leave it out for no clipping",
            )?;
        }
        if let Some(epoch) = self.snapshot_epochs.iter().find(|k| **k > self.epochs) {
            return refuse(
                "snapshot_epochs",
                epoch,
                format!("at most epochs = {}", self.epochs),
                "name epochs that the run reaches",
            );
        }
        require(
            self.checkpoint.every_steps != Some(0),
            "checkpoint.every_steps",
            0,
            "at least 1",
            "leave it out to save once an epoch",
        )?;
        require(
            self.checkpoint.keep >= 2,
            "checkpoint.keep",
            self.checkpoint.keep,
            "at least 2",
            "keep two, so that one is whole while the next is written",
        )
    }
}

impl OptimizerConfig {
    fn validate(&self) -> Result<(), TrainError> {
        let share = |field, value: f64| {
            let inside = (0.0..1.0).contains(&value);
            require(inside, field, value, "at least 0 and below 1", "0.9 is usual")
        };
        let decay = |value: f64| {
            let fine = value.is_finite() && value >= 0.0;
            require(fine, "optimizer.weight_decay", value, "finite and not negative", "0 for none")
        };
        match *self {
            Self::Sgd { momentum, weight_decay, nesterov } => {
                share("optimizer.momentum", momentum)?;
                require(
                    !nesterov || momentum > 0.0,
                    "optimizer.momentum",
                    momentum,
                    "above zero with nesterov",
                    "give a momentum or turn nesterov off",
                )?;
                decay(weight_decay)
            }
            Self::AdamW { beta_1, beta_2, epsilon, weight_decay } => {
                share("optimizer.beta_1", beta_1)?;
                share("optimizer.beta_2", beta_2)?;
                // Below the smallest normal f32 the addition would do nothing and 0/0 be possible.
                let fine = epsilon.is_finite() && epsilon >= f64::from(f32::MIN_POSITIVE);
                require(fine, "optimizer.epsilon", epsilon, "finite and at least 1.2e-38", "1e-8 is usual")?;
                decay(weight_decay)
            }
        }
    }
}

/// `Ok` when `fine`, else [`TrainError::Config`].
pub(crate) fn require(
    fine: bool,
    field: &'static str,
    got: impl ToString,
    expected: &str,
    mend: &str,
) -> Result<(), TrainError> {
    if fine { Ok(()) } else { refuse(field, got, expected.to_owned(), mend) }
}

/// [`TrainError::Config`].
pub(crate) fn refuse<T>(
    field: &'static str,
    got: impl ToString,
    expected: String,
    mend: &str,
) -> Result<T, TrainError> {
    Err(TrainError::Config { field, got: got.to_string(), expected, mend: mend.to_owned() })
}
