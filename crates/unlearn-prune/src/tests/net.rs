//! A small classifier with every kind of layer that the rules tell apart, and pictures for it.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use rand::RngExt;
use unlearn_curvature::{ParamPath, ParamTree, parameters};
use unlearn_data::{Dataset, ImageShape, Loader, Normalization, Seed, Stream};
use unlearn_models::Classifier;

pub(super) const CLASSES: usize = 4;
pub(super) const INPUT: ImageShape = ImageShape { channels: 3, height: 6, width: 6 };

/// Stem, norm, a convolution beside a 1×1 shortcut, a hidden linear layer, the head.
#[derive(Module, Debug)]
pub(super) struct TinyNet {
    pub(super) conv1: Conv2d,
    bn1: BatchNorm,
    pub(super) conv2: Conv2d,
    shortcut: Conv2d,
    dense: Linear,
    pub(super) head: Linear,
}

impl TinyNet {
    pub(super) fn new(device: &Device, seed: u64) -> Self {
        let same = PaddingConfig2d::Explicit(1, 1, 1, 1);
        let net = Self {
            conv1: Conv2dConfig::new([3, 4], [3, 3]).with_padding(same.clone()).with_bias(false).init(device),
            bn1: BatchNormConfig::new(4).init(device),
            conv2: Conv2dConfig::new([4, 5], [3, 3]).with_padding(same).init(device),
            shortcut: Conv2dConfig::new([4, 5], [1, 1]).with_bias(false).init(device),
            dense: LinearConfig::new(5, 6).init(device),
            head: LinearConfig::new(6, CLASSES).init(device),
        };
        let mut rng = Seed(seed).rng(Stream::Init, 0, 0);
        let mut tree = ParamTree::new();
        // Running statistics too, so that inference mode is told from training mode.
        for info in parameters(&net) {
            let n = info.shape.iter().product();
            let near_one = ["gamma", "running_var"].iter().any(|s| info.path.as_str().ends_with(s));
            let shift = if near_one { 1.0 } else { 0.0 };
            let values = (0..n).map(|_| shift + rng.random_range(-0.4_f32..0.4)).collect();
            tree.insert_host(info.path, info.shape, values, device).unwrap();
        }
        tree.write_into(&net).unwrap()
    }

    pub(super) fn flex(seed: u64) -> Self {
        Self::new(&Device::flex(), seed)
    }
}

impl Classifier for TinyNet {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = relu(self.bn1.forward(self.conv1.forward(images)));
        let x = relu(self.conv2.forward(x.clone()) + self.shortcut.forward(x));
        let [n, channels, ..] = x.dims();
        let x = x.mean_dims(&[2, 3]).reshape([n, channels]);
        self.head.forward(relu(self.dense.forward(x)))
    }

    fn num_classes(&self) -> usize {
        CLASSES
    }
}

/// Batches over `n` pictures in each of which one colour is brighter.
pub(super) fn loader(n: usize, batch_size: usize) -> Loader {
    let mut rng = Seed(7).rng(Stream::Synthetic, 0, 0);
    let labels: Vec<u16> = (0..n).map(|i| (i % CLASSES) as u16).collect();
    let mut images = Vec::with_capacity(n * INPUT.len());
    for label in &labels {
        for channel in 0..3_u16 {
            let bright = if channel == *label { 90.0 } else { 0.0 };
            images.extend((0..36).map(|_| (rng.random_range(0.0_f32..160.0) + bright) as u8));
        }
    }
    let names = (0..CLASSES).map(|c| format!("class {c}")).collect();
    let data = Dataset::new("pictures", INPUT, images, labels, names, Normalization::half(3)).unwrap();
    Loader::new(&data, &(0..n).collect::<Vec<_>>(), batch_size).unwrap()
}

/// Values of the parameter or buffer at `path`.
pub(super) fn values<M: Module>(model: &M, path: &str) -> Vec<f32> {
    let path = ParamPath::from(path);
    let mut found = crate::edit::read_values(&model.valid(), &[path.clone()].into()).unwrap();
    found.remove(&path).unwrap()
}

/// All parameters and buffers as bits, in path order.
pub(super) fn bits<M: Module>(model: &M) -> Vec<u32> {
    let paths = parameters(model).into_iter().map(|p| p.path).collect();
    let found = crate::edit::read_values(&model.valid(), &paths).unwrap();
    found.into_values().flatten().map(f32::to_bits).collect()
}
