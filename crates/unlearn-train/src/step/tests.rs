use std::sync::Mutex;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use unlearn_curvature::ParamTree;
use unlearn_data::{Loader, Seed};

use super::{is_finite, sum};
use crate::testing::{TinyNet, loader};
use crate::{Constraint, CrossEntropy, FitConfig, OptimizerConfig, Silent, Unconstrained, fit};

/// One step of SGD at rate 1 without momentum: the weights move by minus the gradient.
fn gradient(net: &TinyNet, clip_norm: Option<f64>, constraint: &dyn Constraint<TinyNet>) -> Vec<f64> {
    let all = loader(24, 24);
    let one = Loader::new(all.dataset(), all.indices(), 24).unwrap();
    let config = FitConfig { clip_norm, ..FitConfig::new(1, 1.0, OptimizerConfig::sgd(0.0, 0.0)) };
    let objective = CrossEntropy { label_smoothing: 0.0 };
    let done = fit(net.clone(), &one, &objective, constraint, &config, &mut Silent).unwrap();
    let (before, after) = (ParamTree::of_parameters(net), ParamTree::of_parameters(&done.model));
    let moved = before.sub(&after).unwrap();
    moved.iter().flat_map(|(_, leaf)| leaf.to_vec().unwrap()).map(f64::from).collect()
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

#[test]
fn clipping_scales_the_whole_gradient_to_the_norm_and_smaller_ones_not_at_all() {
    let net = TinyNet::new(6, 3);
    let free = gradient(&net, None, &Unconstrained);
    let length = norm(&free);
    assert!(length > 0.05);
    let half = gradient(&net, Some(length / 2.0), &Unconstrained);
    assert!((norm(&half) - length / 2.0).abs() < 1e-5 * length, "{} {length}", norm(&half));
    // Globally: every entry of every tensor by the same factor.
    for (h, f) in half.iter().zip(&free) {
        assert!((h - f / 2.0).abs() < 1e-6 * length, "{h} {f}");
    }
    assert_eq!(gradient(&net, Some(2.0 * length), &Unconstrained), free);
}

/// Lets only the last layer move, and sees in which order it is asked.
#[derive(Default)]
struct OnlyHead {
    asked: Mutex<Vec<&'static str>>,
}

impl Constraint<TinyNet> for OnlyHead {
    fn enter(&self, model: TinyNet) -> TinyNet {
        self.asked.lock().unwrap().push("enter");
        model
    }

    fn gradients(&self, model: &TinyNet, gradients: GradientsParams) -> GradientsParams {
        struct Keep(GradientsParams, Vec<String>);
        impl ModuleVisitor for Keep {
            fn enter_module(&mut self, name: &str, _: &str) {
                self.1.push(name.to_owned());
            }
            fn exit_module(&mut self, _: &str, _: &str) {
                self.1.pop();
            }
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if self.1[0] != "head"
                    && let Some(gradient) = self.0.remove::<D>(param.id)
                {
                    self.0.register(param.id, gradient.zeros_like());
                }
            }
        }
        self.asked.lock().unwrap().push("gradients");
        let mut keep = Keep(gradients, Vec::new());
        model.visit(&mut keep);
        keep.0
    }

    fn project(&self, model: TinyNet) -> TinyNet {
        self.asked.lock().unwrap().push("project");
        model
    }
}

#[test]
fn the_norm_is_of_what_the_constraint_lets_through() {
    let net = TinyNet::new(6, 3);
    let constraint = OnlyHead::default();
    let head = gradient(&net, None, &constraint);
    assert_eq!(constraint.asked.lock().unwrap()[..], ["enter", "gradients", "project"]);
    let length = norm(&head);
    assert!(length < norm(&gradient(&net, None, &Unconstrained)) - 1e-3);
    let half = gradient(&net, Some(length / 2.0), &constraint);
    assert!((norm(&half) - length / 2.0).abs() < 1e-5 * length);
}

#[test]
fn sums_do_not_depend_on_rank_and_find_what_is_not_finite() {
    let device = Device::flex();
    let values: Vec<f32> = (0..3000).map(|i| (i % 17) as f32 - 8.0).collect();
    let expected: f32 = values.iter().sum();
    let flat = Tensor::<1>::from_floats(values.as_slice(), &device);
    let read = |t: Tensor<1>| t.into_data().try_into_vec_as::<f32>().unwrap();
    assert_eq!(read(sum(flat.clone())), [expected]);
    assert_eq!(read(sum(flat.clone().reshape([30, 100]))), [expected]);
    assert_eq!(read(sum(flat.reshape([2, 3, 5, 100]))), [expected]);

    let net = TinyNet::new(4, Seed(1).0);
    assert!(is_finite(&net).unwrap());
    for (path, shape) in [("conv.weight", vec![4, 3, 3, 3]), ("norm.gamma", vec![4]), ("head.bias", vec![4])]
    {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = vec![0.5; shape.iter().product()];
            values[2] = bad;
            let mut tree = ParamTree::new();
            tree.insert_host(path.into(), shape.clone(), values, &device).unwrap();
            assert!(!is_finite(&tree.write_into(&net).unwrap()).unwrap(), "{path} {bad}");
        }
    }
}
