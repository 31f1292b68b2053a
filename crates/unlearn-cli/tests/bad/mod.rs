//! The table of bad inputs, one file a kind.

#![allow(unreachable_pub)]

pub mod adapters;
pub mod arguments;
pub mod checkpoints;
pub mod pictures;
pub mod places;
pub mod recipes;
pub mod transformers;

use std::any::Any;

use crate::common::{TINY, Tool};

/// Makes what the case needs; gives the command line, and what must live until it is done.
pub type Prepare = Box<dyn Fn(&Tool) -> (Vec<String>, Option<Box<dyn Any>>)>;

/// One bad input.
pub struct Case {
    pub name: &'static str,
    pub exit: i32,
    pub code: &'static str,
    /// A word that the message must hold: the file, field or value.
    pub word: &'static str,
    /// Whether not even a new file may appear.
    pub leaves_nothing: bool,
    pub prepare: Prepare,
}

/// A case whose command line is made by `prepare`.
pub fn case(
    name: &'static str,
    exit: i32,
    code: &'static str,
    word: &'static str,
    prepare: impl Fn(&Tool) -> Vec<String> + 'static,
) -> Case {
    let prepare: Prepare = Box::new(move |tool| (prepare(tool), None));
    Case { name, exit, code, word, leaves_nothing: true, prepare }
}

/// `unlearn run` on the tiny recipe with these changes.
pub fn set(
    name: &'static str,
    exit: i32,
    code: &'static str,
    word: &'static str,
    assignments: &'static [&'static str],
) -> Case {
    case(name, exit, code, word, move |tool| run(tool, TINY, assignments))
}

/// `unlearn run RECIPE --out out` with `--set` for each assignment.
pub fn run(tool: &Tool, recipe: &str, assignments: &[&str]) -> Vec<String> {
    let recipe = tool.file("recipe.toml", recipe);
    let mut line = strings(&["run", &recipe, "--out", &tool.path("out")]);
    for assignment in assignments {
        line.extend(strings(&["--set", assignment]));
    }
    line
}

pub fn strings(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|part| (*part).to_owned()).collect()
}
