//! Products with the inverse of a damped empirical Fisher matrix.
//!
//! * [`woodbury()`]: the exact product, by one solve of the size of the sample count;
//! * [`reference`](mod@reference): what the published "WoodFisher" code computes instead, in closed form.

pub mod cholesky;
pub mod reference;
pub mod woodbury;

pub use cholesky::Cholesky;
pub use reference::{ReferenceRecursion, reference_recursion};
pub use woodbury::{Damping, Solution, woodbury};
