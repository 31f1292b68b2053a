//! The one error shape of the command: code, where, got, expected, mend, and an exit code.
//!
//! ```text
//! error[E_RATE] recipe.toml:31 pruning.rate: got 1.0; expected a number above 0 and below 1
//!   mend: write 0.95 to prune 95 % of the weights
//! ```

mod from;

use std::fmt;
use std::path::Path;

/// How the process ends. Scripts may rely on these numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything was done.
    Done = 0,
    /// A wrong argument, recipe or setting.
    Usage = 2,
    /// A data set, index list or picture is not what it should be.
    Data = 3,
    /// A model, mask or checkpoint file is not what it should be.
    Checkpoint = 4,
    /// Device, disk, network or lock.
    Environment = 5,
    /// Loss, gradient or result stopped being finite.
    Diverged = 6,
    /// A stored result does not match what it is said to be.
    Verification = 8,
    /// A fault of this program or of a library under it.
    Internal = 70,
    /// Stopped by Ctrl-C or SIGTERM; `--resume` goes on.
    Interrupted = 75,
}

/// What went wrong, in the words that the user sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Stable name of the kind of error.
    pub(crate) code: &'static str,
    /// Exit code of the process.
    pub(crate) exit: Exit,
    /// File, field or argument.
    pub(crate) place: String,
    /// What was found.
    pub(crate) got: String,
    /// What should have been there.
    pub(crate) expected: String,
    /// What to do.
    pub(crate) mend: String,
}

impl Failure {
    /// A failure from its six parts.
    pub(crate) fn new(
        code: &'static str,
        exit: Exit,
        place: impl Into<String>,
        got: impl Into<String>,
        expected: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self {
            code,
            exit,
            place: place.into(),
            got: got.into(),
            expected: expected.into(),
            mend: mend.into(),
        }
    }

    /// A setting that cannot be.
    pub(crate) fn config(
        place: impl Into<String>,
        got: impl Into<String>,
        expected: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self::new("E_CONFIG", Exit::Usage, place, got, expected, mend)
    }

    /// The operating system said no to `path`.
    pub(crate) fn io(path: &Path, source: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let mend = match source.kind() {
            ErrorKind::NotFound => "check the path",
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                "choose a place that you may read and write"
            }
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room, then run again with --resume",
            _ => "check the disk and the path, then run again",
        };
        Self::new(
            "E_IO",
            Exit::Environment,
            path.display().to_string(),
            source.to_string(),
            "a file or folder that can be used",
            mend,
        )
    }

    /// The same failure with `prefix` before its place.
    #[must_use]
    pub(crate) fn within(mut self, prefix: &str) -> Self {
        self.place =
            if self.place.is_empty() { prefix.to_owned() } else { format!("{prefix}: {}", self.place) };
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "error[{}] {}: got {}; expected {}\n  mend: {}",
            self.code,
            clean(&self.place),
            clean(&self.got),
            clean(&self.expected),
            clean(&self.mend)
        )
    }
}

impl std::error::Error for Failure {}

/// Files may hold anything: control characters are escaped so that they cannot move the cursor,
/// and the length has a bound, which still lets every name be listed of a checkpoint that does not fit a
/// network of usual size.
fn clean(text: &str) -> String {
    const LONGEST: usize = 64 << 10;
    let mut out = String::with_capacity(text.len());
    for character in text.trim().chars() {
        match character {
            '\n' => out.push_str("\n    "),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
        if out.len() > LONGEST {
            out.push('…');
            break;
        }
    }
    out
}

/// The name nearest to `got` among `known`, if one is near enough to be a slip of the hand.
pub(crate) fn nearest<'a>(got: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer ones are no slips, and comparing them takes long.
    const LONGEST: usize = 128;
    known
        .into_iter()
        .filter(|name| got.len() <= LONGEST && name.len() <= LONGEST)
        .map(|name| (strsim::damerau_levenshtein(&got.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= name.len().max(got.len()).div_ceil(3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_is_fixed() {
        let failure = Failure::config("a.toml:3 training.epochs", "0", "at least 1", "write 15");
        assert_eq!(
            failure.to_string(),
            "error[E_CONFIG] a.toml:3 training.epochs: got 0; expected at least 1\n  mend: write 15"
        );
    }

    #[test]
    fn control_characters_are_escaped() {
        let failure = Failure::config("x", "\u{1b}[2J", "y", "z");
        assert!(!failure.to_string().contains('\u{1b}'));
    }

    #[test]
    fn slips_of_the_hand_are_found_and_strangers_are_not() {
        let known = ["epochs", "batch_size", "augment"];
        assert_eq!(nearest("epoch", known), Some("epochs"));
        assert_eq!(nearest("batchsize", known), Some("batch_size"));
        assert_eq!(nearest("gamma_ray", known), None);
    }
}
