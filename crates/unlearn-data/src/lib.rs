//! Image data sets for machine unlearning: what is learned, what is to be forgotten, and in which
//! order both are seen.
//!
//! ```text
//! source ─► Dataset ─► Split ─► Partition (forget, retain) ─► Loader ─► Batch
//! ```
//!
//! Everything random is a pure function of a [`Seed`], and every index refers to the canonical
//! order of a [`Dataset`], which its fingerprint fixes.
//!
//! ```
//! use unlearn_data::source::synthetic::Synthetic;
//! use unlearn_data::{ForgetSpec, Loader, Partition, Seed, Split, SplitRule};
//!
//! let data = Synthetic { train: 40, test: 20, size: 8, ..Synthetic::default() }.generate()?.train;
//! let split = Split::new(&data, SplitRule::None)?;
//! let partition = Partition::new(&data, &split, &ForgetSpec::Class(3), Seed(1))?;
//! let loader = Loader::new(&data, partition.retain(), 16)?.with_shuffle(Seed(1));
//! let seen: usize = loader.epoch(0).map(|batch| batch.labels.len()).sum();
//! assert_eq!((seen, partition.forget().len()), (36, 4));
//! # Ok::<(), unlearn_data::DataError>(())
//! ```

pub mod augment;
pub mod batcher;
pub mod dataset;
pub mod error;
pub mod forget;
pub mod index_file;
pub mod loader;
mod prefetch;
pub mod reference;
mod resize;
pub mod seed;
pub mod source;
pub mod split;

pub use augment::Augment;
pub use batcher::{Batch, HostBatch, ImageBatcher};
pub use dataset::{Dataset, ImageShape, Normalization, Sample};
pub use error::DataError;
pub use forget::{Amount, ForgetSpec, Partition};
pub use loader::Loader;
pub use seed::{Seed, Stream};
pub use source::{SourceKind, TrainTest};
pub use split::{Split, SplitRule};
