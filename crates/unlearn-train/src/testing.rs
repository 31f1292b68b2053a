//! A small classifier with everything that matters (convolution, batch norm, linear layer) and
//! pictures for it.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;
use unlearn_curvature::{ParamTree, parameters};
use unlearn_data::{Augment, Dataset, ImageShape, Loader, Normalization, Seed, Stream};
use unlearn_models::Classifier;

/// Convolution, batch norm, mean over the picture, linear layer.
#[derive(Module, Debug)]
pub(crate) struct TinyNet {
    conv: Conv2d,
    norm: BatchNorm,
    head: Linear,
}

pub(crate) const CLASSES: usize = 4;

impl TinyNet {
    /// A net of `width` channels on flex with weights drawn from `seed`.
    pub(crate) fn new(width: usize, seed: u64) -> Self {
        let device = Device::flex();
        let net = Self {
            conv: Conv2dConfig::new([3, width], [3, 3])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(&device),
            norm: BatchNormConfig::new(width).init(&device),
            head: LinearConfig::new(width, CLASSES).init(&device),
        };
        let mut rng = Seed(seed).rng(Stream::Init, 0, 0);
        let mut tree = ParamTree::new();
        for info in parameters(&net).into_iter().filter(|p| p.trainable) {
            let n = info.shape.iter().product();
            let gamma = info.path.as_str().ends_with("gamma");
            let values = (0..n).map(|_| if gamma { 1.0 } else { rng.random_range(-0.4_f32..0.4) }).collect();
            tree.insert_host(info.path, info.shape, values, &device).unwrap();
        }
        tree.write_into(&net).unwrap()
    }
}

impl Classifier for TinyNet {
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = relu(self.norm.forward(self.conv.forward(images)));
        let [n, channels, ..] = x.dims();
        self.head.forward(x.mean_dims(&[2, 3]).reshape([n, channels]))
    }

    fn num_classes(&self) -> usize {
        CLASSES
    }
}

/// `n` noisy 8×8 pictures; the class decides which colour or half is bright.
pub(crate) fn pictures(n: usize, seed: u64) -> Dataset {
    let shape = ImageShape { channels: 3, height: 8, width: 8 };
    let mut rng = Seed(seed).rng(Stream::Synthetic, 0, 0);
    let labels: Vec<u16> = (0..n).map(|i| (i % CLASSES) as u16).collect();
    let mut images = Vec::with_capacity(n * shape.len());
    for label in &labels {
        for channel in 0..3_u16 {
            for _ in 0..64 {
                let bright = if channel == *label { 70.0 } else { 0.0 };
                images.push((rng.random_range(0.0_f32..180.0) + bright) as u8);
            }
        }
    }
    let names = (0..CLASSES).map(|c| format!("class {c}")).collect();
    Dataset::new("pictures", shape, images, labels, names, Normalization::half(3)).unwrap()
}

/// Shuffled and augmented batches over `n` pictures.
pub(crate) fn loader(n: usize, batch_size: usize) -> Loader {
    let indices: Vec<_> = (0..n).collect();
    Loader::new(&pictures(n, 3), &indices, batch_size)
        .unwrap()
        .with_shuffle(Seed(5))
        .with_augment(Augment::CropFlip, Seed(6))
}

/// All float parameters and buffers, in order, as bits.
pub(crate) fn bits<M: Module>(model: &M) -> Vec<u32> {
    struct Bits(Vec<u32>);
    impl burn::module::ModuleVisitor for Bits {
        fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
            let data: TensorData = param.val().into_data();
            self.0.extend(data.try_into_vec_as::<f32>().unwrap().into_iter().map(f32::to_bits));
        }
    }
    let mut bits = Bits(Vec::new());
    model.valid().visit(&mut bits);
    bits.0
}
