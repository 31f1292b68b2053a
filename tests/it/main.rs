//! One integration binary (one link of Burn) for the whole workspace.
//!
//! `parity::*` compares with reference numbers from PyTorch, scikit-learn and NumPy. They lie in
//! the folder that `UNLEARN_GOLDENS` names (default `tests/goldens`); without it those tests say so
//! and do nothing.

// Helpers outside `#[test]` functions fail by panicking, too, and say on standard error what they skip.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod goldens;
mod parity;
mod tidy;
