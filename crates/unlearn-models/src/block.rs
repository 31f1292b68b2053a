//! The basic residual block: two 3×3 convolutions and a shortcut.

use burn::module::Module;
use burn::nn::BatchNorm;
use burn::nn::conv::Conv2d;
use burn::tensor::Device;
use rand::Rng;
use unlearn_curvature::tape::{Tape, Var};

use crate::init::{Fan, batch_norm, conv2d};

/// How a block whose output has another shape than its input carries its input past the
/// convolutions (He et al. 2016, §3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shortcut {
    /// Option B: a 1×1 convolution with a batch norm.
    Projection,
    /// Option A: every second pixel, and zero channels; no parameters.
    Pad,
}

/// `relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x))`, named as in torchvision.
#[derive(Module, Debug)]
pub struct Block {
    /// 3×3, carries the stride.
    pub conv1: Conv2d,
    /// After `conv1`.
    pub bn1: BatchNorm,
    /// 3×3.
    pub conv2: Conv2d,
    /// After `conv2`.
    pub bn2: BatchNorm,
    /// The projection shortcut, where there is one.
    pub downsample: Option<(Conv2d, BatchNorm)>,
    /// Zero channels on each side of the parameter-free shortcut, where there is one.
    pub pad: Option<usize>,
}

impl Block {
    /// A block from `channels_in` to `channels_out` channels.
    pub(crate) fn init(
        [channels_in, channels_out]: [usize; 2],
        stride: usize,
        shortcut: Shortcut,
        fan: Fan,
        device: &Device,
        rng: &mut impl Rng,
    ) -> Self {
        let reshapes = stride != 1 || channels_in != channels_out;
        Self {
            conv1: conv2d([channels_in, channels_out], 3, stride, fan, device, rng),
            bn1: batch_norm(channels_out, device),
            conv2: conv2d([channels_out, channels_out], 3, 1, fan, device, rng),
            bn2: batch_norm(channels_out, device),
            downsample: (reshapes && shortcut == Shortcut::Projection).then(|| {
                (
                    conv2d([channels_in, channels_out], 1, stride, fan, device, rng),
                    batch_norm(channels_out, device),
                )
            }),
            pad: (reshapes && shortcut == Shortcut::Pad).then_some((channels_out - channels_in) / 2),
        }
    }

    /// `[n, channels_in, h, w]` → `[n, channels_out, ⌈h/stride⌉, ⌈w/stride⌉]`.
    pub(crate) fn forward_on(&self, x: Var<4>, tape: &mut dyn Tape) -> Var<4> {
        let y = tape.conv2d(&self.conv1, x.clone());
        let y = tape.batch_norm_relu(&self.bn1, y);
        let y = tape.conv2d(&self.conv2, y);
        let y = tape.batch_norm(&self.bn2, y);
        let shortcut = match (&self.downsample, self.pad) {
            (Some((conv, norm)), _) => {
                let x = tape.conv2d(conv, x);
                tape.batch_norm(norm, x)
            }
            (None, Some(pad)) => tape.subsample_pad(pad, x),
            (None, None) => x,
        };
        tape.add_relu(y, shortcut)
    }
}
