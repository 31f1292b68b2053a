use burn::module::Module;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::optim::GradientsParams;

use super::*;

#[derive(Module, Debug)]
struct Net {
    first: Linear,
    norm: BatchNorm,
    unused: Linear,
}

fn net() -> Net {
    let device = Device::flex();
    let net = Net {
        first: LinearConfig::new(2, 2).init(&device),
        norm: BatchNormConfig::new(2).init(&device),
        unused: LinearConfig::new(1, 1).with_bias(false).init(&device),
    };
    net.valid()
}

fn tree(values: &[f32]) -> ParamTree {
    let mut tree = ParamTree::new();
    let half = values.len() / 2;
    for (path, part) in [("a", &values[..half]), ("b", &values[half..])] {
        tree.insert_host(path.into(), vec![part.len()], part.to_vec(), &Device::flex()).unwrap();
    }
    tree
}

fn flat(tree: &ParamTree) -> Vec<f32> {
    tree.iter().flat_map(|(_, leaf)| leaf.to_vec().unwrap()).collect()
}

#[test]
fn arithmetic_is_element_wise() {
    let (a, b) = (tree(&[1.0, 2.0, 3.0, 4.0]), tree(&[10.0, 20.0, 30.0, 40.0]));
    assert_eq!(flat(&a.add(&b).unwrap()), [11.0, 22.0, 33.0, 44.0]);
    assert_eq!(flat(&b.sub(&a).unwrap()), [9.0, 18.0, 27.0, 36.0]);
    assert_eq!(flat(&a.scale(-0.5)), [-0.5, -1.0, -1.5, -2.0]);
    assert_eq!(flat(&a.zeros_like()), [0.0; 4]);
    assert_eq!(a.dot(&b).unwrap(), 300.0);
    assert_eq!((a.len(), a.num_scalars(), a.is_empty()), (2, 4, false));
}

#[test]
fn trees_of_other_keys_or_shapes_do_not_mix() {
    let a = tree(&[1.0, 2.0, 3.0, 4.0]);
    let mut other = tree(&[1.0, 2.0, 3.0, 4.0]);
    other.insert_host("c".into(), vec![1], vec![0.0], &Device::flex()).unwrap();
    let error = a.add(&other).unwrap_err();
    assert_eq!(error, CurvatureError::Keys { missing: vec![], unknown: vec!["c".into()] });
    assert!(matches!(other.dot(&a), Err(CurvatureError::Keys { missing, .. }) if missing == ["c"]));
    let error = a.add(&tree(&[1.0, 2.0])).unwrap_err();
    assert!(matches!(error, CurvatureError::Shape { .. }), "{error}");
    let error = ParamTree::new().insert_host("a".into(), vec![3], vec![1.0], &Device::flex()).unwrap_err();
    assert!(matches!(error, CurvatureError::Shape { .. }), "{error}");
}

#[test]
fn values_written_into_a_module_are_read_back() {
    let net = net();
    let values = ParamTree::of_parameters(&net);
    let paths: Vec<_> = values.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["first.bias", "first.weight", "norm.beta", "norm.gamma", "unused.weight"]);
    let doubled = values.scale(2.0);
    let written = doubled.write_into(&net).unwrap();
    assert_eq!(flat(&ParamTree::of_parameters(&written)), flat(&doubled));
    assert_eq!(flat(&ParamTree::of_parameters(&net)), flat(&values), "the original stays");
    assert_eq!(crate::parameters(&written), crate::parameters(&net), "and so does what trains");
}

#[test]
fn a_tree_that_does_not_fit_is_not_written() {
    let net = net();
    let mut unknown = ParamTree::of_parameters(&net);
    unknown.insert_host("third.bias".into(), vec![1], vec![0.0], &Device::flex()).unwrap();
    assert!(matches!(unknown.write_into(&net), Err(CurvatureError::Keys { .. })));
    let mut misshapen = ParamTree::new();
    misshapen.insert_host("first.weight".into(), vec![4], vec![0.0; 4], &Device::flex()).unwrap();
    assert!(matches!(misshapen.write_into(&net), Err(CurvatureError::Shape { .. })));
}

#[test]
fn gradients_come_under_their_paths_and_zero_where_the_loss_does_not_reach() {
    let net = net().train();
    let device = Device::flex().autodiff();
    let x = Tensor::<2>::from_data([[1.0, 3.0]], &device);
    // Σ (x W + b): dW = xᵀ 1, db = 1.
    let loss = net.first.forward(x).sum();
    let gradients = GradientsParams::from_grads(loss.backward(), &net);
    let tree = ParamTree::of_gradients(&net, &gradients);
    let at = |path: &str| tree.get(&path.into()).unwrap().to_vec().unwrap();
    assert_eq!(at("first.weight"), [1.0, 1.0, 3.0, 3.0]);
    assert_eq!(at("first.bias"), [1.0, 1.0]);
    assert_eq!(at("unused.weight"), [0.0]);
    assert_eq!(tree.get(&"first.weight".into()).unwrap().shape, [2, 2]);
    assert_eq!(tree.len(), 5);
}
