mod adapted;
mod curvature;
mod errors;
mod merge;
mod peft;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use unlearn_curvature::PathTracker;

use super::*;
use crate::{ResNet, ResNetConfig, Stem};

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// A small network with statistics that are not those of a new one.
fn base(device: &Device) -> ResNet {
    let config = ResNetConfig { width: 4, blocks: [1, 2, 1, 1], classes: 5, stem: Stem::Cifar };
    let model = config.init(&[0.5; 3], &[0.25; 3], device, &mut rng(1)).unwrap();
    let mut state = crate::StateDict::of(&model).unwrap();
    let names: Vec<String> = state.iter().map(|(name, _)| name.to_owned()).collect();
    let mut rng = rng(2);
    for name in names.iter().filter(|name| name.contains("bn") || name.contains("downsample.1")) {
        let mut tensor = state.remove(name).unwrap();
        let range = if name.ends_with("bias") || name.ends_with("mean") { -0.3..0.3 } else { 0.5..1.5 };
        tensor.values.iter_mut().for_each(|v| *v = rng.random_range(range.clone()));
        state.insert(name.clone(), tensor).unwrap();
    }
    state.load_into(model).unwrap()
}

fn config() -> LoraConfig {
    LoraConfig::new(3, 6.0, ["conv1", "conv2", "downsample.0", "fc"])
}

fn images(n: usize, device: &Device) -> Tensor<4> {
    let values: Vec<f32> = (0..n * 3 * 64).map(|i| ((i * 37 % 101) as f32) / 100.0).collect();
    Tensor::from_data(TensorData::new(values, [n, 3, 8, 8]), device)
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let tensor = if tensor.is_autodiff() { tensor.inner() } else { tensor };
    tensor.into_data().try_into_vec_as::<f32>().unwrap()
}

/// Adapters that do something: B drawn as well.
fn stirred<M: Module>(adapted: M) -> M {
    struct Stir(ChaCha8Rng, PathTracker);
    impl ModuleMapper for Stir {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.1.enter(name, container_type);
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.1.exit();
        }

        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let path = self.1.path();
            if path.as_str().starts_with("base.") || path.as_str().rsplit('.').next() != Some("b") {
                return param;
            }
            param.map(|value| {
                let values: Vec<f32> =
                    (0..value.shape().num_elements()).map(|_| self.0.random_range(-0.3..0.3)).collect();
                Tensor::from_data(TensorData::new(values, value.shape()), &value.device())
            })
        }
    }
    adapted.map(&mut Stir(rng(9), PathTracker::default()))
}

/// Every float value with its path, as bits; running statistics brought up to date first.
fn bits<M: Module>(module: &M) -> Vec<(String, Vec<u32>)> {
    struct Bits(PathTracker, Vec<(String, Vec<u32>)>);
    impl ModuleVisitor for Bits {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.0.enter(name, container_type);
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.exit();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let values = host(param.val()).into_iter().map(f32::to_bits).collect();
            self.1.push((self.0.path().to_string(), values));
        }
    }
    let mut bits = Bits(PathTracker::default(), Vec::new());
    module.valid().visit(&mut bits);
    bits.1
}

/// Largest difference, relative to the largest entry of `expected`.
fn distance(got: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(got.len(), expected.len());
    let scale = expected.iter().fold(f32::MIN_POSITIVE, |most, v| most.max(v.abs()));
    got.iter().zip(expected).map(|(g, e)| (g - e).abs() / scale).fold(0.0, f32::max)
}
