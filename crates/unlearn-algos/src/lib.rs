//! Machine-unlearning methods behind one trait.
//!
//! ```text
//! model + Partition (forget, retain) ─► Unlearn::unlearn ─► model that has forgotten
//!              └── Context: data, mask, fresh model, seed, folder, observer
//! ```
//!
//! A method is a struct whose fields are its hyperparameters; it stands in a file of its own under
//! [`methods`], whose first lines are its manual page, and in the list there. Recipes and the command
//! find it by name:
//!
//! ```
//! use unlearn_algos::methods;
//!
//! for card in methods::cards() {
//!     println!("{:16} {}", card.name, card.summary());
//! }
//! assert_eq!(methods::card("finetune").unwrap().defaults()["epochs"], 10);
//! ```
//!
//! Methods see training data, a partition and nothing else: no test data, and no metric that they
//! will be judged by. [`testing`] holds the suite that every method passes, ours and yours.

mod accuracy;
mod check;
mod curvature;
pub mod error;
mod iterate;
pub mod method;
pub mod methods;
mod noise;
mod number_or_none;
mod samples;
pub mod testing;
#[cfg(test)]
mod tests;
pub mod variance;

pub use error::UnlearnError;
pub use method::{Context, Outcome, Reads, TrainingRecipe, Unlearn};
pub use methods::{MethodCard, by_name, cards, registry};
pub use samples::DatasetSamples;
