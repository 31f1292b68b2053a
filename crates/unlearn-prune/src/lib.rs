//! Pruning with masks that hold.

pub mod mask;

pub use mask::{Mask, MaskSet};
