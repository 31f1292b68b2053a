//! Image classifiers as Burn modules, and checkpoints shared with PyTorch.
//!
//! ```text
//! ModelConfig ──build──► model (Classifier, written on a Tape)
//!                          │  ▲
//!             StateDict::of│  │StateDict::load_into
//!                          ▼  │
//!            StateDict: PyTorch's names and layouts, on the host
//!                          │  ▲
//!                          ▼  │
//!               .safetensors, .pth (both ways) · .pth.tar (in)
//! ```
//!
//! ```
//! use burn::tensor::Device;
//! use unlearn_models::{Classifier, ResNetConfig, StateDict};
//!
//! let mut rng = <rand_chacha::ChaCha8Rng as rand_chacha::rand_core::SeedableRng>::seed_from_u64(1);
//! let config = ResNetConfig::resnet18(10).with_width(4);
//! let model = config.init(&[0.5; 3], &[0.25; 3], &Device::flex(), &mut rng)?;
//! let state = StateDict::of(&model)?;
//! assert_eq!(state.get("layer2.0.downsample.1.running_var").unwrap().shape, [8]);
//! let copy = state.load_into(model)?;
//! assert_eq!(copy.num_classes(), 10);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod block;
pub mod checkpoint;
pub mod classifier;
mod config;
mod error;
mod init;
pub mod lora;
mod nearest;
mod normalize;
mod resnet;
mod resnet_cifar;
mod stable_ids;
pub mod vit;

pub use block::Block;
pub use checkpoint::{Checkpoint, CheckpointError, HostTensor, Mask, Metadata, StateDict};
pub use classifier::{Classifier, Taped, forward_plain, forward_taped};
pub use config::{Architecture, ArchitectureVisitor, ModelConfig, PRESETS};
pub use error::ModelError;
pub use init::pytorch::redraw_as_pytorch;
pub use lora::{Adapted, LoraConfig, LoraError, add_adapters, load_peft};
pub use normalize::{MAX_CHANNELS, Normalize};
pub use resnet::{ResNet, ResNetConfig, Stem};
pub use resnet_cifar::CifarResNetConfig;
pub use stable_ids::{stable_id, with_stable_ids};
pub use vit::{Vit, VitConfig};
