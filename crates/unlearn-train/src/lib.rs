//! One training loop: an objective on a data stream under a constraint.
//!
//! ```text
//! Loader ─► Objective::loss ─► backward ─► Constraint::gradients ─► clip ─► optimizer
//!                                   ─► Objective::proximal ─► Constraint::project
//! ```
//!
//! Training, pruning with rewinding, retraining and every iterative unlearning method are this
//! loop with another objective, data stream or constraint. [`fit`](fit()) runs it in memory;
//! [`fit_in`] runs it in a directory, from which a killed run goes on to the same bits.
//!
//! ```
//! use burn::tensor::Device;
//! use unlearn_data::{Dataset, ImageShape, Loader, Normalization, Seed, Stream};
//! use unlearn_models::ResNetConfig;
//! use unlearn_train::{CrossEntropy, Event, FitConfig, OptimizerConfig, Schedule, Unconstrained, fit};
//!
//! // Eight pictures of 8×8, dark ones and bright ones.
//! let shape = ImageShape { channels: 3, height: 8, width: 8 };
//! let images = (0..8).flat_map(|i| vec![if i % 2 == 0 { 40 } else { 200 }; shape.len()]).collect();
//! let labels = (0..8).map(|i| i % 2).collect();
//! let names = vec!["dark".into(), "bright".into()];
//! let dataset = Dataset::new("shades", shape, images, labels, names, Normalization::half(3))?;
//! let loader = Loader::new(&dataset, &[0, 1, 2, 3, 4, 5, 6, 7], 4)?.with_shuffle(Seed(1));
//!
//! let mut rng = Seed(2).rng(Stream::Init, 0, 0);
//! let config = ResNetConfig { blocks: [1, 1, 1, 1], ..ResNetConfig::resnet18(2).with_width(4) };
//! let model = config.init(&[0.5; 3], &[0.5; 3], &Device::flex(), &mut rng)?;
//!
//! let config = FitConfig {
//!     schedule: Schedule::Cosine,
//!     ..FitConfig::new(4, 0.05, OptimizerConfig::sgd(0.9, 5e-4))
//! };
//! let mut steps = 0;
//! let mut watch = |event: &Event| steps += u32::from(matches!(event, Event::Step { .. }));
//! let done = fit(model, &loader, &CrossEntropy::default(), &Unconstrained, &config, &mut watch)?;
//! assert_eq!((steps, done.history.len()), (8, 4));
//! assert!(done.history[3].loss < done.history[0].loss);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod adam;
mod batch_norm;
mod checkpoint;
pub mod commit;
pub mod config;
pub mod constraint;
pub mod cross_entropy;
pub mod error;
mod fit;
mod fit_in;
mod identity;
mod memory;
pub mod objective;
pub mod observer;
mod optimizer;
mod optimizer_state;
mod run;
pub mod run_dir;
mod schedule;
mod sgd;
mod step;
mod tensor_file;
#[cfg(test)]
mod testing;
mod validate;

pub use config::{BatchNormMode, CheckpointConfig, FitConfig, OptimizerConfig, Schedule};
pub use constraint::{Constraint, Unconstrained};
pub use cross_entropy::{CrossEntropy, cross_entropy};
pub use error::TrainError;
pub use fit::{EpochRecord, Fit, fit};
pub use fit_in::fit_in;
pub use memory::keep_freed_memory;
pub use objective::{Loss, Moment, Objective};
pub use observer::{Event, Observer, Silent};
