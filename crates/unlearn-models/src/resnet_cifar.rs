//! The small residual networks of He et al. 2016, §4.2, made for CIFAR.

use burn::tensor::Device;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::block::Shortcut;
use crate::config::{Architecture, ModelConfig, check_count, check_parameters};
use crate::init::{Fan, batch_norm, conv2d, linear_kaiming};
use crate::resnet::{ResNet, stage_of_blocks};
use crate::{ModelError, Normalize};

/// A residual network of three stages of `width`, 2· and 4·`width` channels, 6·`blocks` + 2 layers
/// deep, whose shortcuts have no parameters (option A).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CifarResNetConfig {
    /// Channels of the first stage; 16 in the paper. Even, because a shortcut pads half of the
    /// difference on each side.
    #[serde(default = "paper_width")]
    pub width: usize,
    /// Blocks of each of the three stages: 3 in ResNet-20, 5 in -32, 7 in -44, 9 in -56.
    pub blocks: usize,
    /// Number of classes.
    pub classes: usize,
}

fn paper_width() -> usize {
    16
}

impl CifarResNetConfig {
    /// ResNet-20: 269,722 parameters for ten classes.
    pub fn resnet20(classes: usize) -> Self {
        Self { width: paper_width(), blocks: 3, classes }
    }

    /// ResNet-32: 464,154 parameters for ten classes.
    pub fn resnet32(classes: usize) -> Self {
        Self { blocks: 5, ..Self::resnet20(classes) }
    }

    /// ResNet-44: 658,586 parameters for ten classes.
    pub fn resnet44(classes: usize) -> Self {
        Self { blocks: 7, ..Self::resnet20(classes) }
    }

    /// ResNet-56: 853,018 parameters for ten classes.
    pub fn resnet56(classes: usize) -> Self {
        Self { blocks: 9, ..Self::resnet20(classes) }
    }

    /// The same network with another width.
    pub fn with_width(self, width: usize) -> Self {
        Self { width, ..self }
    }

    /// Checks every field; [`init`](Self::init) does so too.
    ///
    /// # Errors
    /// [`ModelError::Config`] with the first field that is out of range.
    pub fn validate(&self) -> Result<(), ModelError> {
        check_count("width", self.width, 2, 4096)?;
        if !self.width.is_multiple_of(2) {
            return Err(ModelError::Config {
                field: "width",
                got: self.width.to_string(),
                expected: "even".to_owned(),
                mend: "the shortcuts pad half of the new channels on each side",
            });
        }
        check_count("blocks", self.blocks, 1, 1024)?;
        check_count("classes", self.classes, 2, 1_000_000)?;
        check_parameters(self.num_parameters())
    }

    /// Trainable parameters for colour pictures; the normalisation constants and running
    /// statistics are not counted.
    pub fn num_parameters(&self) -> u64 {
        let width = self.width as u64;
        let mut count = 27 * width + 2 * width;
        let mut from = width;
        for stage in 0..3 {
            let to = width << stage;
            let later = (self.blocks as u64).saturating_sub(1);
            count += 9 * from * to + 9 * to * to + 4 * to + later * (18 * to * to + 4 * to);
            from = to;
        }
        count + (from + 1) * self.classes as u64
    }

    /// A new network. All weights are drawn from `rng` on the host, in the order in which the
    /// module is walked, convolutions and the last layer from N(0, 2 / fan-in); for the rest as
    /// [`ResNetConfig::init`](crate::ResNetConfig::init).
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
        let fan = Fan::In;
        let conv1 = conv2d([mean.len(), self.width], 3, 1, fan, &plain, rng);
        let bn1 = batch_norm(self.width, &plain);
        let stage = |index: usize, rng: &mut _| {
            let to = self.width << index;
            let (from, stride) = if index == 0 { (to, 1) } else { (to / 2, 2) };
            stage_of_blocks([from, to], self.blocks, stride, Shortcut::Pad, fan, &plain, rng)
        };
        let (layer1, layer2, layer3) = (stage(0, rng), stage(1, rng), stage(2, rng));
        let fc = linear_kaiming(self.width << 2, self.classes, &plain, rng);
        let model = ResNet {
            normalize,
            conv1,
            bn1,
            maxpool: None,
            layer1,
            layer2,
            layer3,
            layer4: Vec::new(),
            fc,
            classes: self.classes,
        };
        Ok(model.settle(device))
    }
}

impl Architecture for CifarResNetConfig {
    type Model = ResNet;

    fn validate(&self) -> Result<(), ModelError> {
        self.validate()
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn config(&self) -> ModelConfig {
        ModelConfig::CifarResNet(*self)
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
