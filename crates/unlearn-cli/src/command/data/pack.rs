//! A data set into one file.

use std::path::Path;

use unlearn::data::source::{self, packed};

use super::info::Facts;
use crate::error::{Exit, Failure};
use crate::output;
use crate::run::folder::check_parent;

/// Reads `input` and writes `out`.
pub(super) fn main(input: &Path, out: &Path, kind: &str) -> Result<(), Failure> {
    // Before minutes of reading, not after.
    if out.symlink_metadata().is_ok() {
        return Err(Failure::new(
            "E_EXISTS",
            Exit::Environment,
            out.display().to_string(),
            "something that exists already",
            "a name that is free",
            "delete it or choose another",
        ));
    }
    check_parent(out)?;
    let data = source::open(kind.parse()?, Some(input))?;
    packed::write(out, &data)?;
    output::print(&format!("wrote {}\n{}", out.display(), Facts::of(&data).to_text()))
}
