//! What the process does with memory that it has freed.

/// Keeps memory that is freed for the next tensor, in place of giving it back to the system and asking for it again; for
/// the first line of `main`.
///
/// A training step makes and drops each activation anew. The GNU C library returns large pieces to the system at once, and
/// clearing their pages again takes a good part of a step on the CPU (`docs/benchmarks.md` has how much). Results do not
/// change. The process keeps what it had at its peak until it ends, except pieces of 1 GiB and more.
///
/// Gives whether it was set: only with the GNU C library, and only while the process has one thread, since its settings
/// must not change under another. It serves what the first thread allocates, so train there; other threads have memory of
/// their own, of which some 64 MiB each are kept. Versions of the library that take no limit of 1 GiB get one of 32 MiB. On other
/// systems an allocator that keeps memory does the same.
///
/// ```
/// let _kept = unlearn_train::keep_freed_memory();
/// ```
#[must_use = "says whether it was done"]
pub fn keep_freed_memory() -> bool {
    threads() == Some(1) && set()
}

/// Threads of this process, where the system tells.
fn threads() -> Option<usize> {
    std::fs::read_dir("/proc/self/task").ok().map(Iterator::count)
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "the C library's settings have no safe interface")]
fn set() -> bool {
    /// Bytes from which a piece is mapped by itself, and unmapped when it is freed.
    const MAPPED: libc::c_int = 1 << 30;
    /// The most that some versions take.
    const MOST: libc::c_int = 32 << 20;
    // SAFETY: `mallopt` takes two numbers and answers whether it took them. It is not to run beside another thread that
    // allocates, and this process has no other (seen by `keep_freed_memory`; who is the only thread cannot be joined by
    // one in between).
    unsafe {
        let mapped =
            [MAPPED, MOST].into_iter().any(|bytes| libc::mallopt(libc::M_MMAP_THRESHOLD, bytes) == 1);
        // −1: the end of the heap is never given back.
        mapped && libc::mallopt(libc::M_TRIM_THRESHOLD, -1) == 1
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn set() -> bool {
    false
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_is_set_beside_other_threads() {
        // The test runner's own, and this one for certain.
        std::thread::scope(|scope| {
            let (done, wait) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || wait.recv());
            assert!(!super::keep_freed_memory());
            drop(done);
        });
    }
}
