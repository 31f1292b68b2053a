//! Residual networks (He et al. 2016) of basic blocks, with torchvision's names.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, Linear, PaddingConfig2d};
use burn::tensor::{Device, Tensor};
use rand::Rng;
use serde::{Deserialize, Serialize};
use unlearn_curvature::tape::{Tape, Var};

use crate::block::{Block, Shortcut};
use crate::classifier::{Classifier, Taped, forward_plain};
use crate::config::{Architecture, ModelConfig, check_count, check_parameters};
use crate::init::{Fan, batch_norm, conv2d, linear};
use crate::stable_ids::with_stable_ids;
use crate::{ModelError, Normalize};

/// The layers before the first block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stem {
    /// One 3×3 convolution at full resolution, for pictures of about 32×32.
    #[default]
    Cifar,
    /// A 7×7 convolution with stride 2 and a 3×3 max-pool with stride 2, for about 224×224.
    #[serde(alias = "imagenet")]
    ImageNet,
}

/// A residual network of basic blocks in four stages, of `width`, 2·, 4· and 8·`width` channels;
/// each stage but the first halves the resolution. Shortcuts that change shape are projections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// Channels of the first stage; 64 in the paper.
    #[serde(default = "paper_width")]
    pub width: usize,
    /// Blocks of each stage.
    pub blocks: [usize; 4],
    /// Number of classes.
    pub classes: usize,
    /// The layers before the first block.
    #[serde(default)]
    pub stem: Stem,
}

fn paper_width() -> usize {
    64
}

impl ResNetConfig {
    /// ResNet-18 for pictures of 32×32: 11,173,962 parameters for ten classes.
    pub fn resnet18(classes: usize) -> Self {
        Self { width: paper_width(), blocks: [2, 2, 2, 2], classes, stem: Stem::Cifar }
    }

    /// ResNet-34 for pictures of 32×32.
    pub fn resnet34(classes: usize) -> Self {
        Self { blocks: [3, 4, 6, 3], ..Self::resnet18(classes) }
    }

    /// The same network with another width.
    pub fn with_width(self, width: usize) -> Self {
        Self { width, ..self }
    }

    /// The same network with another stem.
    pub fn with_stem(self, stem: Stem) -> Self {
        Self { stem, ..self }
    }

    /// Checks every field; [`init`](Self::init) does so too.
    ///
    /// # Errors
    /// [`ModelError::Config`] with the first field that is out of range.
    pub fn validate(&self) -> Result<(), ModelError> {
        check_count("width", self.width, 1, 4096)?;
        for blocks in self.blocks {
            check_count("blocks", blocks, 1, 256)?;
        }
        check_count("classes", self.classes, 2, 1_000_000)?;
        check_parameters(self.num_parameters())
    }

    /// Trainable parameters for colour pictures; the normalisation constants and running
    /// statistics are not counted.
    pub fn num_parameters(&self) -> u64 {
        let stem_kernel = match self.stem {
            Stem::Cifar => 9,
            Stem::ImageNet => 49,
        };
        let width = self.width as u64;
        let mut count = 3 * width * stem_kernel + 2 * width;
        let mut from = width;
        for (stage, &blocks) in self.blocks.iter().enumerate() {
            let to = width << stage;
            let shortcut = if from == to { 0 } else { from * to + 2 * to };
            let later = (blocks as u64).saturating_sub(1);
            count += 9 * from * to + 9 * to * to + 4 * to + shortcut + later * (18 * to * to + 4 * to);
            from = to;
        }
        count + (from + 1) * self.classes as u64
    }

    /// A new network. All weights are drawn from `rng` on the host, in the order in which the
    /// module is walked: convolutions from N(0, 2 / fan-out), the last layer as PyTorch does.
    ///
    /// `mean` and `std` are the constants of the data set for pixels in `[0, 1]`, one a channel;
    /// their number is the number of input channels. On an autodiff device the network is ready to
    /// train, on a plain one it is in evaluation mode. Identifiers of parameters follow from their
    /// paths ([`with_stable_ids`]).
    ///
    /// # Errors
    /// As [`validate`](Self::validate) and [`Normalize::new`].
    pub fn init(
        &self,
        mean: &[f32],
        std: &[f32],
        device: &Device,
        rng: &mut impl Rng,
    ) -> Result<ResNet, ModelError> {
        self.validate()?;
        let plain = device.clone().without_autodiff();
        let normalize = Normalize::new(mean, std, &plain)?;
        let channels = mean.len();
        let fan = Fan::Out;
        let (conv1, maxpool) = match self.stem {
            Stem::Cifar => (conv2d([channels, self.width], 3, 1, fan, &plain, rng), None),
            Stem::ImageNet => {
                let pool = MaxPool2dConfig::new([3, 3])
                    .with_strides([2, 2])
                    .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
                (conv2d([channels, self.width], 7, 2, fan, &plain, rng), Some(pool.init()))
            }
        };
        let bn1 = batch_norm(self.width, &plain);
        let mut from = self.width;
        let mut stage = |index: usize, rng: &mut _| {
            let to = self.width << index;
            let stride = if index == 0 { 1 } else { 2 };
            let blocks = stage_of_blocks(
                [from, to],
                self.blocks[index],
                stride,
                Shortcut::Projection,
                fan,
                &plain,
                rng,
            );
            from = to;
            blocks
        };
        let (layer1, layer2, layer3, layer4) = (stage(0, rng), stage(1, rng), stage(2, rng), stage(3, rng));
        let fc = linear(self.width << 3, self.classes, &plain, rng);
        let model = ResNet {
            normalize,
            conv1,
            bn1,
            maxpool,
            layer1,
            layer2,
            layer3,
            layer4,
            fc,
            classes: self.classes,
        };
        Ok(model.settle(device))
    }
}

impl Architecture for ResNetConfig {
    type Model = ResNet;

    fn validate(&self) -> Result<(), ModelError> {
        self.validate()
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn config(&self) -> ModelConfig {
        ModelConfig::ResNet(*self)
    }

    fn build(
        &self,
        mean: &[f32],
        std: &[f32],
        device: &Device,
        rng: &mut impl Rng,
    ) -> Result<ResNet, ModelError> {
        self.init(mean, std, device, rng)
    }
}

/// The blocks of one stage: the first changes shape, the others keep it.
pub(crate) fn stage_of_blocks(
    [from, to]: [usize; 2],
    count: usize,
    stride: usize,
    shortcut: Shortcut,
    fan: Fan,
    device: &Device,
    rng: &mut impl Rng,
) -> Vec<Block> {
    (0..count)
        .map(|index| {
            let (from, stride) = if index == 0 { (from, stride) } else { (to, 1) };
            Block::init([from, to], stride, shortcut, fan, device, rng)
        })
        .collect()
}

/// A residual network. Field names are torchvision's, so that its checkpoints fit as they are.
///
/// The CIFAR family ([`CifarResNetConfig`](crate::CifarResNetConfig)) has three stages: its
/// `layer4` is empty.
#[derive(Module, Debug)]
pub struct ResNet {
    /// Scales the pictures.
    pub normalize: Normalize,
    /// The first convolution.
    pub conv1: Conv2d,
    /// After `conv1`.
    pub bn1: BatchNorm,
    /// In the ImageNet stem only.
    pub maxpool: Option<MaxPool2d>,
    /// First stage.
    pub layer1: Vec<Block>,
    /// Second stage.
    pub layer2: Vec<Block>,
    /// Third stage.
    pub layer3: Vec<Block>,
    /// Fourth stage; empty in the CIFAR family.
    pub layer4: Vec<Block>,
    /// The classifier.
    pub fc: Linear,
    pub(crate) classes: usize,
}

impl ResNet {
    /// Gives identifiers that follow from the paths, and the mode that fits the device.
    pub(crate) fn settle(self, device: &Device) -> Self {
        let model = with_stable_ids(self).valid();
        if device.is_autodiff() { model.train() } else { model }
    }
}

impl Taped for ResNet {
    fn forward_on(&self, images: Var<4>, tape: &mut dyn Tape) -> Var<2> {
        let x = self.normalize.forward_on(images, tape);
        let x = tape.conv2d(&self.conv1, x);
        let mut x = tape.batch_norm_relu(&self.bn1, x);
        if let Some(pool) = &self.maxpool {
            x = tape.max_pool2d(pool, x);
        }
        for block in [&self.layer1, &self.layer2, &self.layer3, &self.layer4].into_iter().flatten() {
            x = block.forward_on(x, tape);
        }
        let x = tape.global_avg_pool(x);
        tape.linear(&self.fc, x)
    }
}

impl Classifier for ResNet {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        forward_plain(self, images)
    }

    fn num_classes(&self) -> usize {
        self.classes
    }

    fn taped(&self) -> Option<&dyn Taped> {
        Some(self)
    }
}

#[cfg(test)]
mod tests;
