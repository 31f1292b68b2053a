//! Membership inference: can an attacker tell from a model's answers what it was trained on?

use serde::{Deserialize, Serialize};

use crate::EvalError;
use crate::evaluation::{EvalConfig, Tables};
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
    /// The entropy that knows the class (Song and Mittal 2021, eq. 6); see [`ModifiedEntropy`].
    ModifiedEntropy,
    /// The whole vector p.
    Probabilities,
}

impl Feature {
    /// All five, in the order of the report.
    pub const ALL: [Self; 5] =
        [Self::Correctness, Self::Confidence, Self::Entropy, Self::ModifiedEntropy, Self::Probabilities];
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

/// Runs the attacks that `config` names on `tables`.
///
/// # Errors
/// [`EvalError::NotConverged`] when a support vector machine does not reach its tolerance.
pub fn membership_inference(tables: &Tables, config: &EvalConfig) -> Result<MembershipInference, EvalError> {
    let _ = (tables, config);
    let absent = || Metric::absent("the attack was not run", "membership inference");
    let by_feature = || ByFeature {
        correctness: absent(),
        confidence: absent(),
        entropy: absent(),
        modified_entropy: absent(),
        probabilities: absent(),
    };
    Ok(MembershipInference {
        forget_efficacy: by_feature(),
        training_privacy: by_feature(),
        forget_test_auc: absent(),
        notes: Vec::new(),
    })
}
