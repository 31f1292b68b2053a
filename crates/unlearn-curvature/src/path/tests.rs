use burn::module::Module;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::tensor::Device;

use super::*;

#[derive(Module, Debug)]
struct Net {
    stem: Linear,
    blocks: Vec<(Linear, BatchNorm)>,
    head: Option<Linear>,
}

fn net() -> Net {
    let device = Device::flex();
    let linear = || LinearConfig::new(2, 2).init(&device);
    Net {
        stem: linear().no_grad(),
        blocks: vec![(linear(), BatchNormConfig::new(2).init(&device))],
        head: Some(LinearConfig::new(2, 3).with_bias(false).init(&device)),
    }
}

#[test]
fn paths_layers_shapes_and_trainability_are_read_off() {
    let found: Vec<_> =
        parameters(&net()).into_iter().map(|p| (p.path.to_string(), p.layer, p.shape, p.trainable)).collect();
    let expected = [
        ("stem.weight", "Linear", vec![2, 2], false),
        ("stem.bias", "Linear", vec![2], false),
        ("blocks.0.0.weight", "Linear", vec![2, 2], true),
        ("blocks.0.0.bias", "Linear", vec![2], true),
        ("blocks.0.1.gamma", "BatchNorm", vec![2], true),
        ("blocks.0.1.beta", "BatchNorm", vec![2], true),
        ("blocks.0.1.running_mean", "BatchNorm", vec![2], false),
        ("blocks.0.1.running_var", "BatchNorm", vec![2], false),
        ("head.weight", "Linear", vec![2, 3], true),
    ];
    let expected: Vec<_> =
        expected.map(|(path, layer, shape, t)| (path.to_owned(), layer.to_owned(), shape, t)).to_vec();
    assert_eq!(found, expected);
}

#[test]
fn plain_and_training_copies_answer_alike() {
    let net = net();
    assert_eq!(parameters(&net.valid()), parameters(&net.valid().train()));
}

#[test]
fn a_path_is_its_text_on_disk() {
    let path = ParamPath::from("layer1.0.conv1.weight");
    assert_eq!(serde_json::to_string(&path).unwrap(), "\"layer1.0.conv1.weight\"");
    assert_eq!(serde_json::from_str::<ParamPath>("\"layer1.0.conv1.weight\"").unwrap(), path);
}
