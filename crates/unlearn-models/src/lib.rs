//! Image classifiers as Burn modules, and checkpoints shared with PyTorch.

pub mod classifier;

pub use classifier::{Classifier, Taped};
