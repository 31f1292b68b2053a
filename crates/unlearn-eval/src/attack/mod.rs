//! Membership inference: can an attacker tell from a model's answers what it was trained on?

pub mod auc;
pub mod feature;
mod svc;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use svc::{Shadow, forget_efficacy, membership_inference, training_privacy};

use crate::metric::Metric;

/// What an attack looks at in a model's answer p = softmax(z) to a sample of class y.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// 1 when the largest entry of p is that of y, else 0.
    Correctness,
    /// p_y. The one that papers call "MIA".
    Confidence,
    /// −Σ_c p_c ln p_c.
    Entropy,
    /// The entropy that knows the class (Song and Mittal 2021); see [`ModifiedEntropy`].
    ModifiedEntropy,
    /// The whole vector p.
    Probabilities,
}

impl Feature {
    /// All five, in the order of the report.
    pub const ALL: [Self; 5] =
        [Self::Correctness, Self::Confidence, Self::Entropy, Self::ModifiedEntropy, Self::Probabilities];

    /// The feature in words, for definitions.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Correctness => "correctness",
            Self::Confidence => "confidence p_y",
            Self::Entropy => "entropy of p",
            Self::ModifiedEntropy => "modified entropy of p",
            Self::Probabilities => "the vector p",
        }
    }
}

/// Which formula [`Feature::ModifiedEntropy`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ModifiedEntropy {
    /// −(1 − p_y) ln p_y − Σ_{c≠y} p_c ln(1 − p_c), as published.
    #[default]
    Corrected,
    /// What the public unlearning code computes: ln p in both places, and the columns of *all*
    /// classes that occur in the set flipped in every row, so that a sample's value depends on the
    /// other samples. For comparison with published tables only.
    Reference,
}

/// One number for each feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByFeature {
    /// From [`Feature::Correctness`].
    pub correctness: Metric,
    /// From [`Feature::Confidence`].
    pub confidence: Metric,
    /// From [`Feature::Entropy`].
    pub entropy: Metric,
    /// From [`Feature::ModifiedEntropy`].
    pub modified_entropy: Metric,
    /// From [`Feature::Probabilities`].
    pub probabilities: Metric,
}

impl ByFeature {
    /// One number for each feature, made by `make`.
    pub fn each(mut make: impl FnMut(Feature) -> Metric) -> Self {
        Self {
            correctness: make(Feature::Correctness),
            confidence: make(Feature::Confidence),
            entropy: make(Feature::Entropy),
            modified_entropy: make(Feature::ModifiedEntropy),
            probabilities: make(Feature::Probabilities),
        }
    }

    /// The number of one feature.
    pub fn of(&self, feature: Feature) -> &Metric {
        match feature {
            Feature::Correctness => &self.correctness,
            Feature::Confidence => &self.confidence,
            Feature::Entropy => &self.entropy,
            Feature::ModifiedEntropy => &self.modified_entropy,
            Feature::Probabilities => &self.probabilities,
        }
    }
}

/// What membership inference finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MembershipInference {
    /// Share of the forget set that the attack takes for non-members, in per cent.
    pub forget_efficacy: ByFeature,
    /// How well the attack tells retained from test samples, in per cent.
    pub training_privacy: ByFeature,
    /// How well confidence ranks forget samples above test samples, in per cent.
    pub forget_test_auc: Metric,
    /// What to know when reading the numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}
