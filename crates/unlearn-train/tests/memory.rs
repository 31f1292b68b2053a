//! In a process of its own without a test runner, since nothing is set beside other threads.
#![allow(missing_docs)]

fn main() {
    let gnu = cfg!(all(target_os = "linux", target_env = "gnu"));
    assert_eq!(unlearn_train::keep_freed_memory(), gnu, "the first line of a program");
    let large = || vec![1u8; 48 << 20].len();
    let sum: usize = (0..3).map(|_| large()).sum();
    assert_eq!(sum, 3 * (48 << 20));
}
