//! LoRA: networks that are trained through low-rank branches beside frozen layers.
//!
//! ```text
//!            ┌─────────── frozen layer ───────────┐
//!         x ─┤                                    ├─(+)─► y = W x + scale · B A dropout(x)
//!            └─ dropout ─► A ─► · scale ─► B ─────┘
//! ```
//!
//! Hu et al. 2022, §4.1. A of a linear layer is `[in, r]`, B `[r, out]`; A of a convolution has the layer's kernel,
//! stride and padding with r outputs, B is a 1 × 1 convolution, both without bias, as `peft` has them. `scale` is
//! α / r, or α / √r (rsLoRA: Kalajdzievski 2023). B starts at zero, so that nothing changes before the first step.
//!
//! No model knows of this. A forward pass is a list of operations on a [`Tape`](unlearn_curvature::tape::Tape), each
//! with its layer; [`Adapted`] runs the base's forward pass on a tape of its own, which adds the branch where a layer
//! has one. Training, inference and the curvature engine follow from that.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use unlearn_models::{Classifier, LoraConfig, ResNetConfig, add_adapters};
//!
//! let mut rng = <rand_chacha::ChaCha8Rng as rand_chacha::rand_core::SeedableRng>::seed_from_u64(1);
//! let device = Device::flex();
//! let base = ResNetConfig::resnet18(10).with_width(8).init(&[0.5; 3], &[0.25; 3], &device, &mut rng)?;
//! let adapted = add_adapters(base, &LoraConfig::new(4, 8.0, ["conv1", "conv2", "fc"]), &mut rng)?;
//! println!("{}", adapted.trainable());
//!
//! let pictures = Tensor::ones([2, 3, 32, 32], &device);
//! let merged = adapted.merge()?; // a plain ResNet again
//! assert!(adapted.output_change(&merged, pictures)?.largest < 1e-5);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod adapted;
mod adapter;
mod config;
mod error;
mod freeze;
mod merge;
mod module;
mod peft;
mod report;
mod tape;
mod target;
#[cfg(test)]
mod tests;

pub use adapted::{Adapted, add_adapters, check};
pub use adapter::{ConvAdapter, LinearAdapter};
pub use config::{LoraConfig, Norms};
pub use error::LoraError;
pub use merge::Kept;
pub use peft::{CONFIG_FILE, WEIGHTS_FILE, load_peft};
pub use report::{OutputChange, TrainableReport};
