//! Recipes: one TOML file that says everything about a run.
//!
//! ```text
//! file ─► Source (lines known) ─► --set ─► Recipe (types) ─► validate ─► resolved recipe on disk
//! ```

mod method;
mod schema;
mod source;
mod validate;

use std::path::Path;

use toml::Value;

use crate::error::{Exit, Failure, nearest};

pub(crate) use method::MethodConfig;
pub(crate) use schema::{
    DataConfig, DataKind, FirstWeights, NetworkConfig, NormalizationKind, PruneAt, PruningConfig, Recipe,
    ScoreKind, Seeds, SplitConfig, SplitKind,
};
use source::{Source, join};

impl Recipe {
    /// Reads a recipe, applies each `--set`, and checks everything that can be checked without
    /// data or device.
    pub(crate) fn load(file: &Path, sets: &[String]) -> Result<Self, Failure> {
        Self::from_source(Source::read(file)?, sets)
    }

    /// The same for a recipe that is built in; `name` stands for the file in errors.
    pub(crate) fn built_in(name: &str, text: &str, sets: &[String]) -> Result<Self, Failure> {
        Self::from_source(Source::parse(Path::new(name), text)?, sets)
    }

    fn from_source(mut source: Source, sets: &[String]) -> Result<Self, Failure> {
        for assignment in sets {
            source.set(assignment)?;
        }
        refuse_untellable(&source)?;
        let mut recipe = typed(&source)?;
        refuse_ignored_keys(&source, &recipe)?;
        validate::validate(&recipe, &source)?;
        recipe.method.iter_mut().for_each(MethodConfig::write_out_defaults);
        Ok(recipe)
    }

    /// The recipe resolved, as TOML.
    pub(crate) fn to_toml(&self) -> Result<String, Failure> {
        toml::to_string_pretty(self).map_err(|error| {
            Failure::new(
                "E_INTERNAL",
                Exit::Internal,
                "recipe",
                error.to_string(),
                "a recipe that can be written",
                "report this as a bug",
            )
        })
    }
}

/// Hyperparameters pass through JSON, which has no word for some values that TOML has. They are
/// refused here, by name, and not turned into something else on the way.
fn refuse_untellable(source: &Source) -> Result<(), Failure> {
    fn look(source: &Source, value: &Value, path: &str) -> Result<(), Failure> {
        let refuse = |got: String| {
            Err(Failure::config(
                source.place(path),
                got,
                "a finite number, text, a boolean, or a list or table of these",
                "correct the value; `unlearn methods NAME` lists what a method takes",
            ))
        };
        match value {
            Value::Float(number) if !number.is_finite() => refuse(number.to_string()),
            Value::Datetime(date) => refuse(format!("the date {date}")),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .try_for_each(|(position, item)| look(source, item, &join(path, &position.to_string()))),
            Value::Table(table) => {
                table.iter().try_for_each(|(key, value)| look(source, value, &join(path, key)))
            }
            _ => Ok(()),
        }
    }
    source.table().get("method").map_or(Ok(()), |methods| look(source, methods, "method"))
}

fn typed(source: &Source) -> Result<Recipe, Failure> {
    serde_path_to_error::deserialize(Value::Table(source.table().clone())).map_err(|error| {
        let path = dotted(error.path());
        refuse(source, &path, error.inner().message())
    })
}

/// `method[0].name` as `method.0.name`; a path that serde could not tell is the top.
fn dotted(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter().fold(String::new(), |out, segment| match segment {
        Segment::Seq { index } => join(&out, &index.to_string()),
        Segment::Map { key } => join(&out, key),
        Segment::Enum { .. } | Segment::Unknown => out,
    })
}

/// Turns serde's words into ours, with the nearest key where one is not known.
fn refuse(source: &Source, path: &str, message: &str) -> Failure {
    let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let unknown = |kind: &str| message.starts_with(kind).then(|| names.split_first()).flatten();
    if let Some((key, known)) = unknown("unknown field") {
        let parent = match path.rsplit_once('.') {
            _ if !path.ends_with(key) => path,
            Some((parent, last)) if last == *key => parent,
            _ => "",
        };
        return unknown_key(source, parent, key, known);
    }
    if let Some((value, known)) = unknown("unknown variant") {
        let mend = nearest(value, known.iter().copied())
            .map_or_else(|| "use one of these".to_owned(), |near| format!("did you mean {near:?}?"));
        return Failure::config(source.place(path), format!("{value:?}"), one_of(known), mend);
    }
    if let Some(field) = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
        return Failure::config(
            source.place(path),
            format!("no key {field:?}"),
            format!("a value for {}", join(path, field)),
            "add the key; `docs/recipes.md` says what it means",
        );
    }
    let (got, expected) = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))
        .and_then(|rest| rest.split_once(", expected "))
        .unwrap_or((message, "a value of the right kind"));
    Failure::config(source.place(path), got, expected, "correct the value; `docs/recipes.md` lists all keys")
}

fn unknown_key(source: &Source, parent: &str, key: &str, known: &[&str]) -> Failure {
    let near = nearest(key, known.iter().copied());
    Failure::new(
        "E_KEY",
        Exit::Usage,
        source.place(&join(parent, key)),
        format!("the unknown key {key:?}"),
        one_of(known),
        near.map_or_else(|| "remove the key".to_owned(), |near| format!("did you mean {near:?}?")),
    )
}

fn one_of(known: &[&str]) -> String {
    match known {
        [] => "no further key here".into(),
        [only] => (*only).to_owned(),
        _ => format!("one of {}", known.join(", ")),
    }
}

/// A safety net under serde: a key that was written but has no counterpart in the resolved recipe
/// was ignored somewhere, and an ignored key is a wrong run.
fn refuse_ignored_keys(source: &Source, recipe: &Recipe) -> Result<(), Failure> {
    let resolved = Value::try_from(recipe).map_err(|error| {
        Failure::new(
            "E_INTERNAL",
            Exit::Internal,
            "recipe",
            error.to_string(),
            "a table",
            "report this as a bug",
        )
    })?;
    compare(source, &Value::Table(source.table().clone()), &resolved, "")
}

fn compare(source: &Source, written: &Value, resolved: &Value, path: &str) -> Result<(), Failure> {
    match (written, resolved) {
        (Value::Table(written), Value::Table(resolved)) => {
            for (key, value) in written {
                let empty = matches!(value, Value::Array(items) if items.is_empty());
                match resolved.get(key) {
                    Some(counterpart) => compare(source, value, counterpart, &join(path, key))?,
                    None if empty => {}
                    None => {
                        let known: Vec<&str> = resolved.keys().map(String::as_str).collect();
                        return Err(unknown_key(source, path, key, &known));
                    }
                }
            }
            Ok(())
        }
        (Value::Array(written), Value::Array(resolved)) => {
            written.iter().zip(resolved).enumerate().try_for_each(|(position, (written, resolved))| {
                compare(source, written, resolved, &join(path, &position.to_string()))
            })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
