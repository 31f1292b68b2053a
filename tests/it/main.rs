//! One integration binary (one link of Burn) for the whole workspace.
//!
//! `parity::*` compares with reference numbers from PyTorch, scikit-learn and NumPy. They lie in
//! the folder that `UNLEARN_GOLDENS` names (default `tests/goldens`); without it those tests say so
//! and do nothing.

mod goldens;
mod parity;
mod tidy;
