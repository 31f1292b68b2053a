//! A `[[method]]` table: a name, a label, and whatever hyperparameters the method has.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use unlearn::algos::methods::{MethodCard, card};

/// One row of the report: a method with its hyperparameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>", into = "Map<String, Value>")]
pub(crate) struct MethodConfig {
    /// The method's name (`finetune`); `unlearn methods` lists them.
    pub(crate) name: String,
    /// The row's name in the report; the method's name when absent.
    pub(crate) label: Option<String>,
    /// Hyperparameters; the method checks them.
    pub(crate) parameters: Map<String, Value>,
}

impl MethodConfig {
    /// Writes out what the method takes for hyperparameters that are not given, but for those whose absence means something.
    pub(crate) fn write_out_defaults(&mut self) {
        let Ok(Value::Object(defaults)) = card(&self.name).map(MethodCard::defaults) else { return };
        for (key, value) in defaults {
            if let Some(value) = without_nulls(value) {
                self.parameters.entry(key).or_insert(value);
            }
        }
    }

    /// What the report calls the row.
    pub(crate) fn label(&self) -> &str {
        self.label.as_deref().unwrap_or(&self.name)
    }
}

/// TOML has no word for what is absent.
fn without_nulls(value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(map) => {
            let fields = map.into_iter().filter_map(|(key, value)| Some((key, without_nulls(value)?)));
            Some(Value::Object(fields.collect()))
        }
        other => Some(other),
    }
}

impl TryFrom<Map<String, Value>> for MethodConfig {
    type Error = String;

    fn try_from(mut table: Map<String, Value>) -> Result<Self, String> {
        let mut text = |key: &str| match table.remove(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(format!("{key} is {other}, but must be a string")),
        };
        let name = text("name")?.ok_or("missing field `name`")?;
        let label = text("label")?;
        Ok(Self { name, label, parameters: table })
    }
}

impl From<MethodConfig> for Map<String, Value> {
    fn from(method: MethodConfig) -> Self {
        let mut table = Map::new();
        table.insert("name".into(), Value::String(method.name));
        if let Some(label) = method.label {
            table.insert("label".into(), Value::String(label));
        }
        table.extend(method.parameters);
        table
    }
}
