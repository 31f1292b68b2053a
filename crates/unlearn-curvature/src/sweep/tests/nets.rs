//! Small networks that between them use every operation of the tape.

use burn::module::{Module, ModuleMapper, Param, RunningState};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{
    BatchNorm, BatchNormConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig, PaddingConfig2d,
};
use burn::tensor::{Device, Tensor, TensorData};

use super::transformer::{Transformer, transformer};
use super::{numbers, tensor};
use crate::tape::{Tape, TokenPool, Var};

/// Residual blocks with projection and parameter-free shortcuts; strides, dilation, and every padding.
#[derive(Module, Debug)]
pub(crate) struct Residual {
    mean: Tensor<1>,
    std: Tensor<1>,
    stem: Conv2d,
    bn: BatchNorm,
    pool: MaxPool2d,
    main: Conv2d,
    dilated: Conv2d,
    project: Conv2d,
    project_bn: BatchNorm,
    uneven: Conv2d,
    last_bn: BatchNorm,
    head: Linear,
}

/// Linear layers and layer norms over the last dimension of something with positions.
#[derive(Module, Debug)]
pub(crate) struct Rows {
    embed: Conv2d,
    first_norm: LayerNorm,
    widen: Linear,
    second_norm: LayerNorm,
    narrow: Linear,
    head: Linear,
}

/// A convolution and a batch norm that are used twice, on pictures of different sizes, and a linear layer that
/// is used twice.
#[derive(Module, Debug)]
pub(crate) struct Shared {
    stem: Conv2d,
    conv: Conv2d,
    bn: BatchNorm,
    pool: MaxPool2d,
    linear: Linear,
    head: Linear,
}

#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "one lives at a time")]
pub(crate) enum Net {
    Residual(Residual),
    Rows(Rows),
    Shared(Shared),
    Transformer(Transformer),
}

impl Net {
    pub(crate) fn forward(&self, images: Var<4>, tape: &mut dyn Tape) -> Var<2> {
        match self {
            Self::Residual(net) => net.forward(images, tape),
            Self::Rows(net) => net.forward(images, tape),
            Self::Shared(net) => net.forward(images, tape),
            Self::Transformer(net) => net.forward(images, tape),
        }
    }

    pub(crate) fn all(classes: usize) -> [Self; 5] {
        [
            residual(classes),
            rows(classes),
            shared(classes),
            transformer(TokenPool::First, classes),
            transformer(TokenPool::Mean, classes),
        ]
    }
}

impl Residual {
    /// The first convolution (two parameters) and one scale are not trained.
    pub(crate) fn with_frozen_stem(mut self) -> Self {
        self.stem = self.stem.train().no_grad().valid();
        self.bn.gamma = self.bn.gamma.set_require_grad(false);
        self
    }

    fn forward(&self, images: Var<4>, tape: &mut dyn Tape) -> Var<2> {
        let x = tape.normalize(&self.mean, &self.std, images);
        let x = tape.conv2d(&self.stem, x);
        let x = tape.batch_norm(&self.bn, x);
        let x = tape.relu(x);
        // Block with a parameter-free shortcut, 9×7 → 5×4.
        let short = tape.subsample_pad(1, x.clone());
        let long = tape.max_pool2d(&self.pool, x);
        let long = tape.conv2d(&self.main, long);
        let x = tape.add(long, short);
        let x = tape.relu(x);
        // Block with a projection, 5×4 → 5×4.
        let short = tape.conv2d(&self.project, x.clone());
        let short = tape.batch_norm(&self.project_bn, short);
        let long = tape.conv2d(&self.dilated, x);
        let x = tape.add(long, short);
        let x = tape.relu(x);
        let x = tape.conv2d(&self.uneven, x);
        let x = tape.batch_norm(&self.last_bn, x);
        let x = tape.relu(x);
        let x = tape.global_avg_pool(x);
        tape.linear(&self.head, x)
    }
}

impl Rows {
    fn forward(&self, images: Var<4>, tape: &mut dyn Tape) -> Var<2> {
        let x = tape.conv2d(&self.embed, images);
        let x = tape.layer_norm(&self.first_norm, x);
        let long = tape.linear(&self.widen, x.clone());
        let long = tape.gelu(long);
        let long = tape.layer_norm(&self.second_norm, long);
        let long = tape.linear(&self.narrow, long);
        let x = tape.add(x, long);
        let x = tape.gelu(x);
        let x = tape.global_avg_pool(x);
        tape.linear(&self.head, x)
    }
}

impl Shared {
    fn forward(&self, images: Var<4>, tape: &mut dyn Tape) -> Var<2> {
        let mut x = tape.conv2d(&self.stem, images);
        for round in 0..2 {
            x = tape.conv2d(&self.conv, x);
            x = tape.batch_norm(&self.bn, x);
            x = tape.relu(x);
            if round == 0 {
                x = tape.max_pool2d(&self.pool, x);
            }
        }
        let mut x = tape.global_avg_pool(x);
        for _ in 0..2 {
            let y = tape.linear(&self.linear, x.clone());
            let y = tape.gelu(y);
            // The same value on both sides.
            let y = tape.add(y.clone(), y);
            x = tape.add(x, y);
        }
        tape.linear(&self.head, x)
    }
}

fn conv(channels: [usize; 2], kernel: [usize; 2], padding: PaddingConfig2d) -> Conv2dConfig {
    Conv2dConfig::new(channels, kernel).with_padding(padding)
}

pub(crate) fn batch_norm(channels: usize, salt: f32) -> BatchNorm {
    let mut norm = BatchNormConfig::new(channels).init(&Device::flex());
    norm.running_mean = RunningState::new(tensor([channels], salt));
    norm.running_var = RunningState::new(tensor::<1>([channels], salt + 1.0).square() + 0.3);
    norm
}

pub(crate) fn residual(classes: usize) -> Net {
    let device = Device::flex();
    let same = || PaddingConfig2d::Explicit(1, 1, 1, 1);
    let net = Residual {
        mean: Tensor::from_data([0.1_f32, -0.2], &device),
        std: Tensor::from_data([0.7_f32, 1.3], &device),
        stem: conv([2, 4], [3, 3], same()).init(&device),
        bn: batch_norm(4, 0.0),
        pool: MaxPool2dConfig::new([3, 3]).with_strides([2, 2]).with_padding(same()).init(),
        main: conv([4, 6], [3, 3], PaddingConfig2d::Same).with_bias(false).init(&device),
        dilated: conv([6, 5], [3, 2], PaddingConfig2d::Explicit(2, 1, 2, 1))
            .with_dilation([2, 2])
            .init(&device),
        project: conv([6, 5], [1, 1], PaddingConfig2d::Valid).with_bias(false).init(&device),
        project_bn: batch_norm(5, 5.0),
        // Wider padding than the kernel's reach on one side, none on another.
        uneven: conv([5, 6], [2, 3], PaddingConfig2d::Explicit(2, 0, 1, 3)).with_stride([2, 3]).init(&device),
        last_bn: batch_norm(6, 7.0),
        head: LinearConfig::new(6, classes).init(&device),
    };
    Net::Residual(fill(net))
}

pub(crate) fn rows(classes: usize) -> Net {
    let device = Device::flex();
    let net = Rows {
        // No bias: the layer norm behind would take it away again.
        embed: conv([2, 3], [3, 3], PaddingConfig2d::Valid)
            .with_stride([2, 1])
            .with_bias(false)
            .init(&device),
        first_norm: LayerNormConfig::new(5).init(&device),
        widen: LinearConfig::new(5, 8).init(&device),
        second_norm: LayerNormConfig::new(8).with_epsilon(1e-2).with_bias(false).init(&device),
        narrow: LinearConfig::new(8, 5).with_bias(false).init(&device),
        head: LinearConfig::new(3, classes).init(&device),
    };
    Net::Rows(fill(net))
}

pub(crate) fn shared(classes: usize) -> Net {
    let device = Device::flex();
    let net = Shared {
        stem: conv([2, 4], [3, 3], PaddingConfig2d::Valid).init(&device),
        conv: conv([4, 4], [3, 3], PaddingConfig2d::Same).init(&device),
        bn: batch_norm(4, 2.0),
        pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
        linear: LinearConfig::new(4, 4).init(&device),
        head: LinearConfig::new(4, classes).init(&device),
    };
    Net::Shared(fill(net))
}

/// Fills all parameters with fixed numbers; scales of norms stay away from zero.
pub(crate) fn fill<M: Module>(net: M) -> M {
    struct Fill {
        count: usize,
    }
    impl ModuleMapper for Fill {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            self.count += 1;
            let salt = self.count as f32 * 17.3;
            param.map(|old| {
                let data = TensorData::new(numbers(old.shape().num_elements(), salt), old.shape());
                Tensor::from_data(data, &old.device())
            })
        }
    }
    // Running statistics are parameters to a mapper: keep what `batch_norm` gave them, and touch only a copy.
    let values = crate::ParamTree::of_parameters(&net);
    let filled = crate::ParamTree::of_parameters(&net.valid().map(&mut Fill { count: 0 }));
    assert_eq!(values.len(), filled.len());
    filled.write_into(&net).unwrap()
}
