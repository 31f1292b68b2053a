//! Agreement with numbers that other software gave. Sizes come from `spec.json`.
mod mia;
