//! Which parameters may be pruned: a rule on names and layer types, not a type test in the code.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use unlearn_curvature::{ParamInfo, parameters};
use unlearn_models::Classifier;

use crate::PruneError;

/// The rules by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PrunableRule {
    /// The weights of every `Conv2d`, stem and shortcuts included; neither head nor biases nor
    /// norms. What the published unlearning code prunes of convolutional nets.
    #[default]
    Conv,
    /// The weights of every `Linear` but the head. The head is the last `Linear`, in the order of
    /// the module's fields, that gives as many outputs as there are classes. Of a transformer: all six linear layers
    /// of every block.
    Dense,
    /// The weights of every `Linear` in whose path stands `dense`, which is what the published code prunes of a vision
    /// transformer with Hugging Face's names: three linear layers of every block, but not its queries, keys and values.
    ReferenceDense,
    /// The weights of every layer that has a trainable one with at least two dimensions: the head
    /// and embeddings too, but no bias and no norm.
    AllWeights,
}

impl PrunableRule {
    /// Every rule.
    pub const ALL: [Self; 4] = [Self::Conv, Self::Dense, Self::ReferenceDense, Self::AllWeights];

    /// The rule's name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Conv => "conv",
            Self::Dense => "dense",
            Self::ReferenceDense => "reference-dense",
            Self::AllWeights => "all-weights",
        }
    }

    fn holds(self, parameter: &ParamInfo, head: Option<&ParamInfo>) -> bool {
        let is_weight = parameter.path.as_str().rsplit('.').next() == Some("weight");
        is_weight
            && match self {
                Self::Conv => parameter.layer == "Conv2d",
                Self::Dense => parameter.layer == "Linear" && head.is_none_or(|h| h.path != parameter.path),
                Self::ReferenceDense => {
                    parameter.layer == "Linear" && parameter.path.as_str().contains("dense")
                }
                Self::AllWeights => parameter.trainable && parameter.shape.len() >= 2,
            }
    }
}

impl fmt::Display for PrunableRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for PrunableRule {
    type Err = PruneError;

    fn from_str(name: &str) -> Result<Self, PruneError> {
        Self::ALL.into_iter().find(|rule| rule.name() == name).ok_or_else(|| PruneError::Config {
            field: "prunable",
            got: format!("\"{name}\""),
            expected: "conv, dense, reference-dense or all-weights".into(),
            mend: "choose one of them".into(),
        })
    }
}

/// A rule with exceptions. In a recipe either a name (`prunable = "conv"`) or a table
/// (`prunable = { rule = "conv", exclude = ["conv1.*"] }`).
///
/// A pattern is a parameter path in which `*` stands for any characters, none included.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Prunable {
    /// The rule.
    pub rule: PrunableRule,
    /// Patterns of parameters that are prunable whatever the rule says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Patterns of parameters that are not prunable, whatever rule and `include` say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
}

impl From<PrunableRule> for Prunable {
    fn from(rule: PrunableRule) -> Self {
        Self { rule, ..Self::default() }
    }
}

impl Prunable {
    /// The prunable parameters of `model`, in path order.
    ///
    /// # Errors
    /// [`PruneError::Pattern`] for a pattern that matches nothing, or under `include` nothing that is trained (a slip of
    /// the pen would otherwise prune another set), [`PruneError::NothingPrunable`] when nothing is left.
    pub fn select<M: Classifier>(&self, model: &M) -> Result<Vec<ParamInfo>, PruneError> {
        let all = parameters(model);
        for (list, patterns) in [("include", &self.include), ("exclude", &self.exclude)] {
            let of = |pattern: &str, p: &ParamInfo| {
                matches(pattern, p.path.as_str()) && (list == "exclude" || p.trainable)
            };
            if let Some(pattern) = patterns.iter().find(|pattern| !all.iter().any(|p| of(pattern, p))) {
                let some = all.iter().filter(|p| of("*", p)).take(3);
                let names: Vec<_> = some.map(|p| p.path.as_str()).collect();
                return Err(PruneError::Pattern {
                    list,
                    pattern: pattern.clone(),
                    example: names.join(", "),
                });
            }
        }
        let head = all
            .iter()
            .rfind(|p| {
                p.layer == "Linear" && p.shape.len() == 2 && p.shape.last() == Some(&model.num_classes())
            })
            .cloned();
        let any = |patterns: &[String], p: &ParamInfo| patterns.iter().any(|x| matches(x, p.path.as_str()));
        let layers: BTreeSet<_> = all.iter().map(|p| p.layer.clone()).collect();
        let mut chosen: Vec<_> = all
            .into_iter()
            // Zeros among running statistics or constants would prune nothing and break the network.
            .filter(|p| self.rule.holds(p, head.as_ref()) || (p.trainable && any(&self.include, p)))
            .filter(|p| !any(&self.exclude, p))
            .collect();
        chosen.sort_by(|a, b| a.path.cmp(&b.path));
        if chosen.is_empty() {
            return Err(PruneError::NothingPrunable {
                rule: self.rule.to_string(),
                mend: format!("its layers are {layers:?}; choose another rule or name weights under include"),
            });
        }
        Ok(chosen)
    }
}

/// Whether `path` matches `pattern`, in which `*` stands for any run of characters.
fn matches(pattern: &str, path: &str) -> bool {
    let Some((prefix, rest)) = pattern.split_once('*') else { return pattern == path };
    let Some(mut left) = path.strip_prefix(prefix) else { return false };
    let mut parts: Vec<_> = rest.split('*').collect();
    let suffix = parts.pop().unwrap_or("");
    for part in parts {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(suffix)
}

impl<'de> Deserialize<'de> for Prunable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            #[serde(default)]
            rule: PrunableRule,
            #[serde(default)]
            include: Vec<String>,
            #[serde(default)]
            exclude: Vec<String>,
        }
        struct NameOrTable;
        impl<'de> Visitor<'de> for NameOrTable {
            type Value = Prunable;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a rule's name or a table with rule, include and exclude")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Prunable, E> {
                Ok(PrunableRule::from_str(name).map_err(E::custom)?.into())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Prunable, A::Error> {
                let table = Table::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Prunable { rule: table.rule, include: table.include, exclude: table.exclude })
            }
        }
        deserializer.deserialize_any(NameOrTable)
    }
}
