//! A `[[method]]` table: a name, a label, and whatever hyperparameters the method has.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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
    /// What the report calls the row.
    pub(crate) fn label(&self) -> &str {
        self.label.as_deref().unwrap_or(&self.name)
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
