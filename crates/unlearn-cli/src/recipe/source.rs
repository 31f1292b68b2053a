//! A recipe as text: parsing, `--set`, and which line a key stands in.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use crate::error::{Exit, Failure, nearest};

/// A parsed recipe with the place of each of its keys.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    file: PathBuf,
    table: Table,
    /// Dotted path (`method.0.name`) to line, counted from 1; keys given by `--set` have none.
    lines: BTreeMap<String, usize>,
}

impl Source {
    /// Reads a recipe file.
    pub(crate) fn read(file: &Path) -> Result<Self, Failure> {
        const LARGEST: u64 = 1 << 20;
        let no_recipe = |got: String| {
            Err(Failure::new(
                "E_RECIPE",
                Exit::Usage,
                file.display().to_string(),
                got,
                format!("a recipe file of at most {LARGEST} bytes"),
                "name the recipe file, not a folder, data or model file",
            ))
        };
        let about = std::fs::metadata(file).map_err(|e| Failure::io(file, &e))?;
        // A pipe would be waited for, a device may never end.
        if !about.is_file() {
            return no_recipe(if about.is_dir() { "a folder" } else { "a pipe or device" }.into());
        }
        let mut bytes = Vec::new();
        // One byte more than may be, because a file can grow while it is read.
        File::open(file)
            .and_then(|opened| opened.take(LARGEST + 1).read_to_end(&mut bytes))
            .map_err(|e| Failure::io(file, &e))?;
        if bytes.len() as u64 > LARGEST {
            return no_recipe(format!("{} bytes", about.len()));
        }
        let text = String::from_utf8(bytes).map_err(|e| {
            Failure::new(
                "E_RECIPE",
                Exit::Usage,
                file.display().to_string(),
                format!("bytes that are not UTF-8 (at byte {})", e.utf8_error().valid_up_to()),
                "a TOML file in UTF-8",
                "name the recipe file, or save it as UTF-8",
            )
        })?;
        Self::parse(file, &text)
    }

    /// Parses the text of a recipe; `file` is only named in errors.
    pub(crate) fn parse(file: &Path, text: &str) -> Result<Self, Failure> {
        let ends = LineEnds::of(text);
        let broken = |message: &str, at: Option<usize>| {
            let line = at.map(|offset| format!(":{}", ends.line_of(offset))).unwrap_or_default();
            Failure::new(
                "E_RECIPE",
                Exit::Usage,
                format!("{}{line}", file.display()),
                message,
                "a TOML document",
                "correct the line; strings need quotes, tables need [brackets]",
            )
        };
        let spanned = DeTable::parse(text).map_err(|e| broken(e.message(), e.span().map(|s| s.start)))?;
        let mut lines = BTreeMap::new();
        record_lines(spanned.get_ref(), "", &ends, &mut lines);
        let table = text.parse::<Table>().map_err(|e| broken(e.message(), e.span().map(|s| s.start)))?;
        Ok(Self { file: file.to_owned(), table, lines })
    }

    /// The parsed table, `--set` included.
    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// `file:line path`, or the nearest that can be said.
    pub(crate) fn place(&self, path: &str) -> String {
        let mut key = path;
        loop {
            if let Some(line) = self.lines.get(key) {
                return format!("{}:{line} {path}", self.file.display());
            }
            match key.rsplit_once('.') {
                Some((parent, _)) => key = parent,
                None => return format!("{} {path}", self.file.display()),
            }
        }
    }

    /// Applies one `--set key=value`. The value is TOML; a bare word is taken as a string. An
    /// element of an array is named by its number or by its `label` or `name`.
    pub(crate) fn set(&mut self, assignment: &str) -> Result<(), Failure> {
        let bad = |got: String, expected: &str, mend: &str| {
            let shown: String = assignment.chars().take(160).collect();
            Failure::new("E_SET", Exit::Usage, format!("--set {shown}"), got, expected, mend)
        };
        let example = "write it like --set training.epochs=3";
        let Some((path, value)) = assignment.split_once('=') else {
            return Err(bad("no equals sign".into(), "key=value", example));
        };
        let value = parse_value(value.trim());
        let keys: Vec<&str> = path.trim().split('.').map(str::trim).collect();
        let Some((last, parents)) = keys.split_last().filter(|_| keys.iter().all(|k| !k.is_empty())) else {
            return Err(bad(format!("the key {path:?}"), "a dotted path without empty parts", example));
        };
        // Tables are walked by functions that call themselves.
        if keys.len() > DEEPEST {
            return Err(bad(
                format!("a key of {} parts", keys.len()),
                "a key of a recipe, of a few parts",
                example,
            ));
        }
        let mut here = Slot::Table(&mut self.table);
        for key in parents {
            here = here.enter(key).map_err(|(got, expected)| bad(got, &expected, example))?;
        }
        here.put(last, value).map_err(|(got, expected)| bad(got, &expected, example))?;
        self.lines.remove(&keys.join("."));
        Ok(())
    }
}

/// Most parts of a `--set` path; no key of a recipe has nearly as many.
const DEEPEST: usize = 32;

/// Where a `--set` path has led to.
enum Slot<'a> {
    Table(&'a mut Table),
    Array(&'a mut Vec<Value>),
}

type Refusal = (String, String);

impl<'a> Slot<'a> {
    fn of(value: &'a mut Value, key: &str) -> Result<Self, Refusal> {
        match value {
            Value::Table(table) => Ok(Self::Table(table)),
            Value::Array(array) => Ok(Self::Array(array)),
            other => Err((format!("{key:?}, which is a {}", other.type_str()), "a table or an array".into())),
        }
    }

    fn enter(self, key: &str) -> Result<Self, Refusal> {
        match self {
            Self::Table(table) => {
                let value = table.entry(key).or_insert_with(|| Value::Table(Table::new()));
                Self::of(value, key)
            }
            Self::Array(array) => {
                let position = position(array, key)?;
                Self::of(&mut array[position], key)
            }
        }
    }

    fn put(self, key: &str, value: Value) -> Result<(), Refusal> {
        match self {
            Self::Table(table) => {
                table.insert(key.to_owned(), value);
            }
            Self::Array(array) => {
                let position = position(array, key)?;
                array[position] = value;
            }
        }
        Ok(())
    }
}

fn position(array: &[Value], key: &str) -> Result<usize, Refusal> {
    let named = |field: &str| {
        array.iter().position(|item| item.get(field).and_then(Value::as_str).is_some_and(|name| name == key))
    };
    let found = match key.parse::<usize>() {
        Ok(number) => Some(number).filter(|n| *n < array.len()),
        Err(_) => named("label").or_else(|| named("name")),
    };
    found.ok_or_else(|| {
        let names: Vec<&str> = array
            .iter()
            .filter_map(|item| item.get("label").or_else(|| item.get("name")).and_then(Value::as_str))
            .collect();
        let near =
            nearest(key, names.iter().copied()).map(|n| format!(" (nearest: {n})")).unwrap_or_default();
        (
            format!("{key:?}"),
            format!("a number from 0 to {} or one of {names:?}{near}", array.len().saturating_sub(1)),
        )
    })
}

/// A TOML value, or the text itself: `--set training.augment=none` needs no quotes.
fn parse_value(text: &str) -> Value {
    format!("value = {text}")
        .parse::<Table>()
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

fn record_lines(table: &DeTable<'_>, prefix: &str, ends: &LineEnds, lines: &mut BTreeMap<String, usize>) {
    for (key, value) in table {
        let path = join(prefix, key.get_ref());
        lines.insert(path.clone(), ends.line_of(key.span().start));
        record_value(value.get_ref(), value.span().start, &path, ends, lines);
    }
}

fn record_value(
    value: &DeValue<'_>,
    start: usize,
    path: &str,
    ends: &LineEnds,
    lines: &mut BTreeMap<String, usize>,
) {
    match value {
        DeValue::Table(table) => record_lines(table, path, ends, lines),
        DeValue::Array(items) => {
            for (position, item) in items.iter().enumerate() {
                let path = join(path, &position.to_string());
                lines.insert(path.clone(), ends.line_of(item.span().start.max(start)));
                record_value(item.get_ref(), item.span().start, &path, ends, lines);
            }
        }
        _ => {}
    }
}

/// `parent.key`, without a dot at the top.
pub(crate) fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

/// Where the lines of a text end.
struct LineEnds(Vec<usize>);

impl LineEnds {
    fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect())
    }

    /// The number of the line, from one, that the byte at `offset` stands in.
    fn line_of(&self, offset: usize) -> usize {
        self.0.partition_point(|end| *end < offset) + 1
    }
}

#[cfg(test)]
mod tests;
