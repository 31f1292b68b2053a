//! A small transformer with everything that one has: patches, a class token, positions, attention, tokens that
//! share a linear layer.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Dropout, DropoutConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::nets::{Net, fill};
use super::{forward, oracle, same_tree, samples, tensor, unsupported};
use crate::oracle::Oracle;
use crate::sweep::Targets;
use crate::tape::{Op, Plain, Record, Tape, TokenPool, Var};
use crate::{FisherDiag, ParamTree};

const WIDTH: usize = 6;

/// Patches of 9×7 pictures (six, and a column of pixels in none), two blocks that share their attention and the
/// norm before it, positions that are added twice.
#[derive(Module, Debug)]
pub(crate) struct Transformer {
    patches: Conv2d,
    class: Option<Param<Tensor<3>>>,
    position: Param<Tensor<3>>,
    dropout: Dropout,
    before: LayerNorm,
    query: Linear,
    // No bias: one vector added to all keys changes no weight.
    key: Linear,
    value: Linear,
    output: Linear,
    after: LayerNorm,
    widen: Linear,
    narrow: Linear,
    last: LayerNorm,
    head: Linear,
}

pub(super) fn transformer(pool: TokenPool, classes: usize) -> Net {
    let device = Device::flex();
    let linear = |from, to| LinearConfig::new(from, to).init(&device);
    let norm = || LayerNormConfig::new(WIDTH).init(&device);
    let with_class = pool == TokenPool::First;
    let net = Transformer {
        patches: Conv2dConfig::new([2, WIDTH], [3, 3]).with_stride([3, 3]).init(&device),
        class: with_class.then(|| Param::from_tensor(tensor([1, 1, WIDTH], 1.0))),
        position: Param::from_tensor(tensor([1, 6 + usize::from(with_class), WIDTH], 2.0)),
        dropout: DropoutConfig::new(0.5).init(),
        before: norm(),
        query: linear(WIDTH, WIDTH),
        key: LinearConfig::new(WIDTH, WIDTH).with_bias(false).init(&device),
        value: linear(WIDTH, WIDTH),
        output: linear(WIDTH, WIDTH),
        after: norm(),
        widen: linear(WIDTH, 9),
        narrow: linear(9, WIDTH),
        last: norm(),
        head: linear(WIDTH, classes),
    };
    Net::Transformer(fill(net))
}

impl Transformer {
    pub(super) fn forward(&self, images: Var<4>, tape: &mut dyn Tape) -> Var<2> {
        let mut x = tape.patch_embedding(&self.patches, images);
        if let Some(class) = &self.class {
            x = tape.class_token(class, x);
        }
        x = tape.position(&self.position, x);
        x = tape.dropout(&self.dropout, x);
        x = tape.position(&self.position, x);
        for _ in 0..2 {
            let y = tape.layer_norm(&self.before, x.clone());
            let q = tape.linear(&self.query, y.clone());
            let k = tape.linear(&self.key, y.clone());
            let v = tape.linear(&self.value, y);
            let y = tape.attention(2, q, k, v);
            let y = tape.linear(&self.output, y);
            x = tape.add(y, x);
        }
        let y = tape.layer_norm(&self.after, x.clone());
        let y = tape.linear(&self.widen, y);
        let y = tape.gelu(y);
        let y = tape.linear(&self.narrow, y);
        let y = tape.dropout(&self.dropout, y);
        let x = tape.add(x, y);
        let x = tape.layer_norm(&self.last, x);
        let pool = if self.class.is_some() { TokenPool::First } else { TokenPool::Mean };
        let x = tape.pool_tokens(pool, x);
        tape.linear(&self.head, x)
    }
}

#[test]
fn what_is_frozen_is_left_out_and_the_rest_is_unchanged() {
    let Net::Transformer(net) = transformer(TokenPool::First, 3) else { unreachable!() };
    let samples = samples(4, 3);
    let all = FisherDiag::exact().run(&Net::Transformer(net.clone()), forward, &samples).unwrap().sum;
    let freeze = |linear: Linear| linear.train().no_grad().valid();
    let mut without_patches = net.clone();
    without_patches.patches = without_patches.patches.train().no_grad().valid();
    // Nothing before the first block: the tape begins with the keys and values, and queries are not followed.
    let mut from_keys = without_patches.clone();
    from_keys.class = from_keys.class.map(|class| class.set_require_grad(false));
    from_keys.position = from_keys.position.set_require_grad(false);
    from_keys.before = from_keys.before.train().no_grad().valid();
    from_keys.query = freeze(from_keys.query);
    let mut from_values = from_keys.clone();
    from_values.key = freeze(from_values.key);
    let mut from_queries = from_values.clone();
    from_queries.value = freeze(from_queries.value);
    from_queries.query = net.query.clone();
    for (net, fewer) in [(without_patches, 2), (from_keys, 8), (from_values, 9), (from_queries, 9)] {
        let net = Net::Transformer(net);
        let rest = FisherDiag::exact().run(&net, forward, &samples).unwrap().sum;
        same_tree(&rest, &oracle(&net).exact(&samples).unwrap().sum, 2e-5);
        assert_eq!(rest.len(), all.len() - fewer);
        for (path, leaf) in rest.iter() {
            assert_eq!(leaf.to_vec().unwrap(), all.get(path).unwrap().to_vec().unwrap(), "{path}");
        }
    }
}

/// Dropout couples nothing, but draws: like a batch norm that trains, it is refused where it would.
#[test]
fn dropout_that_trains_is_refused() {
    let net = transformer(TokenPool::Mean, 3);
    let targets = Targets::of(&net).unwrap();
    let run = |net: &Net, images: Tensor<4>| {
        Record::new(targets.ids()).forward(images, |x, tape| net.forward(x, tape)).map(|(y, _)| y.dims())
    };
    let images = || tensor::<4>([2, 2, 9, 7], 0.0);
    unsupported(run(&net.clone().train(), images().autodiff()), "autodiff");
    unsupported(run(&net.clone().train(), images()), "autodiff");
    assert_eq!(run(&net, images()).unwrap(), [2, 3]);
    // The builders take a plain copy.
    let training = FisherDiag::exact().run(&net.clone().train(), forward, &samples(2, 3)).unwrap();
    same_tree(&training.sum, &FisherDiag::exact().run(&net, forward, &samples(2, 3)).unwrap().sum, 0.0);
}

#[test]
fn dropout_works_in_training_only() {
    let device = Device::flex();
    let layer = DropoutConfig::new(0.25).init();
    let run = |layer: &Dropout, x: Tensor<3>| {
        let mut plain = Plain;
        let tape: &mut dyn Tape = &mut plain;
        let x = tape.constant(x);
        tape.dropout(layer, x).into_value().into_data().try_into_vec_as::<f32>().unwrap()
    };
    let ones = Tensor::<3>::ones([20, 25, 8], &device);
    assert!(run(&layer, ones.clone()).iter().all(|&v| v == 1.0));
    assert!(run(&layer.clone().valid(), ones.clone().autodiff()).iter().all(|&v| v == 1.0));
    let dropped = run(&layer, ones.autodiff());
    let zeros = dropped.iter().filter(|&&v| v == 0.0).count() as f64 / dropped.len() as f64;
    assert!(dropped.iter().all(|&v| v == 0.0 || (v - 1.0 / 0.75).abs() < 1e-6));
    // Four standard deviations of 4000 draws.
    assert!((zeros - 0.25).abs() < 4.0 * (0.25 * 0.75 / 4000.0_f64).sqrt(), "{zeros}");
}

/// The same vector added to all keys moves no weight: its gradient is zero, and what rounding leaves of it is far
/// below that of the queries' bias.
#[test]
fn a_bias_of_the_keys_has_no_gradient() {
    let Net::Transformer(mut net) = transformer(TokenPool::First, 3) else { unreachable!() };
    net.key = LinearConfig::new(WIDTH, WIDTH).init(&Device::flex());
    let net = Net::Transformer(fill(net));
    let sum = FisherDiag::exact().run(&net, forward, &samples(5, 3)).unwrap().sum;
    let largest =
        |path: &str| sum.get(&path.into()).unwrap().to_vec().unwrap().into_iter().fold(0.0_f32, f32::max);
    let (key, query) = (largest("Transformer.key.bias"), largest("Transformer.query.bias"));
    assert!(query > 0.0 && key < 1e-10 * query, "{key} {query}");
}

/// Tokens are summed within a sample before anything is squared: flattening them into the batch gives another
/// diagonal, and not ours.
#[test]
fn tokens_are_not_samples() {
    #[derive(Module, Debug)]
    struct Head {
        linear: Linear,
    }
    let net = Head { linear: LinearConfig::new(2, 3).init(&Device::flex()) };
    let run = |net: &Head, x: Var<4>, tape: &mut dyn Tape| {
        let x = tape.run(Op::Tokens, crate::tape::Inputs::One(x.into_any()));
        let x = tape.linear(&net.linear, Var::<3>::from_any(x));
        tape.pool_tokens(TokenPool::Mean, x)
    };
    let samples = samples(3, 3);
    let got = FisherDiag::exact().run(&net, run, &samples).unwrap().sum;
    let oracle = Oracle::new(&net, |net: &Head, x: Tensor<4>| Plain::forward(x, |x, tape| run(net, x, tape)));
    let expected: ParamTree = oracle.unwrap().exact(&samples).unwrap().sum;
    same_tree(&got, &expected, 2e-5);
}
