//! In a process of its own without a test runner, since nothing is set beside other threads.
#![allow(missing_docs, clippy::print_stdout)]

use std::hint::black_box;

/// kB of this process in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn main() {
    if std::env::args().any(|argument| argument == "--list") {
        println!("memory: test");
        return;
    }
    let gnu = cfg!(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"));
    let kept = unlearn_train::keep_freed_memory();
    if !gnu {
        return;
    }
    assert!(kept, "the first line of a program");
    // Below the lowest limit that is asked for, above the library's own.
    let large = black_box(vec![1u8; 24 << 20]);
    let before = resident();
    drop(large);
    let after = resident();
    assert!(before > 24 << 10 && after + 4096 > before, "{before} kB, then {after}");
}
