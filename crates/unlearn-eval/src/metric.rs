//! One number with what it means, or the reason why there is none.

use serde::{Deserialize, Serialize};

/// A number with its definition and the number of samples behind it, or the reason why it is
/// absent. A NaN is never a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Metric {
    /// There is a value.
    Measured(Measured),
    /// There is none, and this is why.
    Absent(Absent),
}

/// A number that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// The number, finite; its unit is part of the definition.
    pub value: f64,
    /// Number of samples it is computed over.
    pub n: usize,
    /// 95 % interval over the draw of those samples (not over seeds), where one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_95: Option<[f64; 2]>,
    /// What the number is.
    pub definition: String,
}

/// A number that could not be measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Absent {
    /// Why there is no number.
    pub absent: String,
    /// What the number would be.
    pub definition: String,
}

impl Metric {
    /// The number `value` over `n` samples; a value that is not finite becomes absent.
    pub fn measured(value: f64, n: usize, definition: impl Into<String>) -> Self {
        if value.is_finite() {
            Self::Measured(Measured { value, n, interval_95: None, definition: definition.into() })
        } else {
            Self::absent("the computation did not give a finite number", definition)
        }
    }

    /// No number, because of `reason`.
    pub fn absent(reason: impl Into<String>, definition: impl Into<String>) -> Self {
        Self::Absent(Absent { absent: reason.into(), definition: definition.into() })
    }

    /// The same number with its 95 % interval.
    #[must_use]
    pub fn with_interval(mut self, interval: [f64; 2]) -> Self {
        if let Self::Measured(measured) = &mut self
            && interval.iter().all(|bound| bound.is_finite())
        {
            measured.interval_95 = Some(interval);
        }
        self
    }

    /// The number, if there is one.
    pub fn value(&self) -> Option<f64> {
        match self {
            Self::Measured(measured) => Some(measured.value),
            Self::Absent(_) => None,
        }
    }

    /// Number of samples behind it, 0 when absent.
    pub fn n(&self) -> usize {
        match self {
            Self::Measured(measured) => measured.n,
            Self::Absent(_) => 0,
        }
    }

    /// What the number is.
    pub fn definition(&self) -> &str {
        match self {
            Self::Measured(measured) => &measured.definition,
            Self::Absent(absent) => &absent.definition,
        }
    }

    /// Why there is no number, when there is none.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Measured(_) => None,
            Self::Absent(absent) => Some(&absent.absent),
        }
    }
}
