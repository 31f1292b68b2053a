//! Machine-unlearning methods behind one trait.

pub mod error;
pub mod method;

pub use error::UnlearnError;
pub use method::{Context, Outcome, TrainingRecipe, Unlearn};
