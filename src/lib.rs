//! Machine unlearning for image classifiers on the Burn framework: train, prune, forget, and measure
//! the gap to retraining.
//!
//! ```text
//! bytes on disk ─► data ─► models ─► train ─► prune ─► algos ─► eval ─► report
//! ```
//!
//! This crate is a facade: one module a room, in the order in which a run goes through them, and a
//! [`prelude`] with the names that most programs use. The rooms are crates of their own and can be
//! used alone. [`burn`] is re-exported, so that one dependency gives matching versions.
//!
//! A model is any Burn module that implements [`models::Classifier`]; a method is anything that
//! implements [`algos::Unlearn`]; both can be yours.
//!
//! # Features
//! `flex` (the default) is the CPU; `ndarray`, `wgpu`, `vulkan` and `cuda` are the other devices of
//! Burn. A feature adds a device and changes nothing else; which one computes is always the
//! [`Device`](burn::tensor::Device) that a model was made on.

pub mod prelude;

pub use burn;
pub use unlearn_algos as algos;
pub use unlearn_curvature as curvature;
pub use unlearn_data as data;
pub use unlearn_eval as eval;
pub use unlearn_models as models;
pub use unlearn_prune as prune;
pub use unlearn_train as train;

/// The code in the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

/// The code on the pages of the docs compiles.
#[cfg(doctest)]
#[doc = include_str!("../docs/adapters.md")]
#[doc = include_str!("../docs/checkpoints.md")]
#[doc = include_str!("../docs/curvature.md")]
pub struct Pages;
