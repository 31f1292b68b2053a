//! The one place where a panic of a library ends: as a typed error with exit code 70.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Exit, Failure};

/// Runs `work`; a panic in it becomes `E_INTERNAL`.
///
/// The device's state is unknown after a panic, so the process must end; what is committed on disk
/// stays valid, and `--resume` goes on from there.
pub(crate) fn catch(work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    let first = Arc::new(Mutex::new(None::<String>));
    let seen = Arc::clone(&first);
    panic::set_hook(Box::new(move |info| {
        let text = info.payload().downcast_ref::<String>().cloned();
        let text = text.or_else(|| info.payload().downcast_ref::<&str>().map(|t| (*t).to_owned()));
        let place = info.location().map(|l| format!(" ({}:{})", file_name(l.file()), l.line()));
        let said = format!("{}{}", text.unwrap_or_default(), place.unwrap_or_default());
        tracing::debug!(backtrace = %std::backtrace::Backtrace::capture(), "panic: {said}");
        // Only the first panic says what is wrong; later ones are its consequences.
        seen.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(said);
    }));
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    let _ = panic::take_hook();
    result.unwrap_or_else(|_| {
        let said = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        Err(Failure::new(
            "E_INTERNAL",
            Exit::Internal,
            "unlearn",
            format!("a panic: {}", said.as_deref().unwrap_or("without words")),
            "no panic, whatever the input",
            "this is a fault of the program: report it with the command, the recipe and the output of \
             RUST_BACKTRACE=1 … -vv; work that is committed is safe, --resume goes on from it",
        ))
    })
}

fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_exit_70() {
        let failure = catch(|| panic!("shape mismatch")).unwrap_err();
        assert_eq!((failure.code, failure.exit), ("E_INTERNAL", Exit::Internal));
        assert!(failure.got.contains("shape mismatch"), "{failure}");
        assert!(failure.got.contains("boundary.rs"), "{failure}");
        assert!(catch(|| Ok(())).is_ok());
    }
}
