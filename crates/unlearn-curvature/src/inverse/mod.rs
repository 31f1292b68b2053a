//! Products with the inverse of a damped empirical Fisher matrix.
//!
//! * [`InverseFisher`]: for models on a tape, in batches and bounded memory, by the Gram matrix of the samples'
//!   gradients, by conjugate gradients, or as the published code has it;
//! * [`woodbury()`]: the exact product from the oracle's explicit gradients, for any module;
//! * [`reference`](mod@reference): what the published "WoodFisher" code computes instead, in closed form.

mod builder;
pub mod cholesky;
mod conjugate_gradient;
mod fitted;
pub mod reference;
pub mod solution;
mod system;
#[cfg(test)]
mod tests;
pub mod woodbury;

pub use builder::InverseFisher;
pub use cholesky::Cholesky;
pub use fitted::FittedInverse;
pub use reference::{ReferenceRecursion, reference_recursion};
pub use solution::{Damping, Solution};
pub use woodbury::woodbury;
