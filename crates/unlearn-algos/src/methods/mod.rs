//! The list of methods. To add one: a file here whose first lines are its page, a `pub mod` line (with its
//! `pub use`) and a line in the list below, in the order of names.

pub mod finetune;
pub mod finetune_l1;
pub mod fisher;
pub mod gradient_ascent;
pub mod influence;
pub mod retrain;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use unlearn_models::{Classifier, LoraConfig};

pub use finetune::FineTune;
pub use finetune_l1::{FineTuneL1, L1Form};
pub use fisher::{Fisher, FisherReference};
pub use gradient_ascent::GradientAscent;
pub use influence::{Influence, influence_direction};
pub use retrain::{Retrain, RetrainMask};

use crate::{Unlearn, UnlearnError};

/// A method's name and page.
#[derive(Debug, Clone, Copy)]
pub struct MethodCard {
    /// The name in recipes and reports.
    pub name: &'static str,
    source: &'static str,
    defaults: fn() -> Value,
}

impl MethodCard {
    /// The manual page, in Markdown: what the method does, its definition, cost, hyperparameters and
    /// sources.
    pub fn page(&self) -> String {
        let lines = self.source.lines().map_while(|line| line.strip_prefix("//!"));
        lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
    }

    /// The page's title: one line that says what the method is.
    pub fn summary(&self) -> String {
        self.page().lines().next().unwrap_or_default().to_owned()
    }

    /// Every hyperparameter with its default.
    pub fn defaults(&self) -> Value {
        (self.defaults)()
    }
}

/// Writes the list out: cards and constructors from one entry a method.
macro_rules! methods {
    ($($name:literal in $file:literal is $method:ident;)*) => {
        const CARDS: &[MethodCard] = &[$(MethodCard {
            name: $name,
            source: include_str!($file),
            defaults: || serde_json::to_value($method::default()).unwrap_or(Value::Null),
        }),*];

        /// All methods for models of type `M`, in the order of their names: the name, and what makes
        /// the method from hyperparameters.
        pub fn registry<M: Classifier>() -> Vec<(&'static str, Build<M>)> {
            vec![$(($name, |parameters| build::<M, $method>($name, parameters))),*]
        }
    };
}

methods! {
    "finetune" in "finetune.rs" is FineTune;
    "finetune-l1" in "finetune_l1.rs" is FineTuneL1;
    "fisher" in "fisher.rs" is Fisher;
    "gradient-ascent" in "gradient_ascent.rs" is GradientAscent;
    "influence" in "influence.rs" is Influence;
    "retrain" in "retrain.rs" is Retrain;
}

/// All methods, in the order of their names.
pub fn cards() -> &'static [MethodCard] {
    CARDS
}

/// The card of the method `name`.
///
/// # Errors
/// [`UnlearnError::UnknownMethod`], with the nearest name.
pub fn card(name: &str) -> Result<&'static MethodCard, UnlearnError> {
    CARDS.iter().find(|card| card.name == name).ok_or_else(|| UnlearnError::UnknownMethod {
        got: name.to_owned(),
        known: CARDS.iter().map(|card| card.name).collect::<Vec<_>>().join(", "),
        nearest: nearest(name, CARDS.iter().map(|card| card.name)),
    })
}

/// Makes a method from hyperparameters.
pub type Build<M> = fn(Value) -> Result<Box<dyn Unlearn<M>>, UnlearnError>;

/// The method `name` with the hyperparameters `parameters`: a JSON object (or `null`) of those that
/// differ from the defaults. They are validated here, once.
///
/// # Errors
/// [`UnlearnError::UnknownMethod`], [`UnlearnError::UnknownHyperparameter`], [`UnlearnError::Form`] for a
/// value of another type, [`UnlearnError::Hyperparameter`] for one out of range.
pub fn by_name<M: Classifier>(name: &str, parameters: Value) -> Result<Box<dyn Unlearn<M>>, UnlearnError> {
    // The card says whether there is such a method, and which is nearest.
    let name = card(name)?.name;
    match registry::<M>().into_iter().find(|(known, _)| *known == name) {
        Some((_, build)) => build(parameters),
        None => {
            Err(UnlearnError::UnknownMethod { got: name.to_owned(), known: String::new(), nearest: None })
        }
    }
}

fn build<M, T>(method: &'static str, parameters: Value) -> Result<Box<dyn Unlearn<M>>, UnlearnError>
where
    M: Classifier,
    T: Unlearn<M> + Serialize + DeserializeOwned + Default + 'static,
{
    let form = |reason: String| UnlearnError::Form { method, reason };
    let parameters = if parameters.is_null() { Value::Object(Map::new()) } else { parameters };
    let Value::Object(given) = &parameters else {
        return Err(form(format!("its hyperparameters are {parameters}, but must be a table")));
    };
    if let Value::Object(known) = serde_json::to_value(T::default()).map_err(|e| form(e.to_string()))? {
        if given.contains_key("lora") && !known.contains_key("lora") {
            return Err(without_adapters(method));
        }
        refuse_unknown(method, "", given, &known.keys().map(String::as_str).collect::<Vec<_>>())?;
    }
    if let Some(Value::Object(lora)) = given.get("lora") {
        refuse_unknown(method, "lora.", lora, &LoraConfig::KEYS)?;
    }
    let made: T = serde_json::from_value(parameters).map_err(|e| form(e.to_string()))?;
    made.validate()?;
    Ok(Box::new(made))
}

/// The first key of `given` that is not `known`; `table` stands before it.
fn refuse_unknown(
    method: &'static str,
    table: &str,
    given: &Map<String, Value>,
    known: &[&str],
) -> Result<(), UnlearnError> {
    let Some(got) = given.keys().find(|key| !known.contains(&key.as_str())) else { return Ok(()) };
    Err(UnlearnError::UnknownHyperparameter {
        method,
        got: format!("{table}{got}"),
        known: known.join(", "),
        nearest: nearest(got, known.iter().copied()),
    })
}

/// Why a method takes no adapters.
fn without_adapters(method: &'static str) -> UnlearnError {
    let (expected, mend) = if method == "retrain" {
        (
            "no adapters: retraining starts from new weights, and a frozen random network is not the model that \
             never saw the forget set",
            "remove the key; finetune with lora starts from the original",
        )
    } else {
        ("no adapters: the method is not iterative", "remove the key, or choose finetune or gradient-ascent")
    };
    UnlearnError::Hyperparameter {
        method,
        field: "lora",
        got: "given".into(),
        expected: expected.into(),
        mend: mend.into(),
    }
}

/// The name of `known` that a slip of the pen could have turned into `got`.
fn nearest<'a>(got: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    known
        .map(|name| (strsim::damerau_levenshtein(got, name), name))
        .min()
        .filter(|(distance, name)| *distance <= name.len().div_ceil(2).min(4))
        .map(|(_, name)| name.to_owned())
}
