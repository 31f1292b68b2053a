//! The layers that can be marked. n samples, p outputs, d inputs, t positions.

use burn::Tensor;
use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, LayerNorm, Linear};

use super::{Probes, Purpose};
use crate::layer::conv::{self, Geometry};
use crate::layer::norm;
use crate::tape::record::Step;

impl Probes {
    /// Convolution, `[n, i, h, w]` → `[n, o, h', w']`.
    pub fn conv2d(&mut self, layer: &Conv2d, x: Tensor<4>) -> Tensor<4> {
        let ids = [Some(layer.weight.id), layer.bias.as_ref().map(|bias| bias.id)];
        let [weight_id, bias_id] = self.wanted("a convolution", ids, x.dims()[0]);
        if weight_id.is_none() && bias_id.is_none() {
            return conv::forward(layer, x);
        }
        if self.purpose == Purpose::OtherUses {
            let own = weight_id.is_none_or(|_| layer.weight.is_require_grad());
            let own = own && bias_id.is_none_or(|_| layer.bias.as_ref().is_some_and(|b| b.is_require_grad()));
            self.check_own("a convolution", own);
            return conv::forward(&layer.valid(), x);
        }
        if layer.groups != 1 {
            self.refuse_use(
                format!("a convolution with {} groups", layer.groups),
                "use the oracle for this model, or freeze the layer",
            );
            return conv::forward(layer, x);
        }
        let (input, geometry) = (x.clone().inner(), Geometry::of(layer, x.dims()));
        let output = conv::forward(layer, x);
        let dims = output.dims();
        let [n, p, height, width] = dims;
        let kept = if weight_id.is_some() { input.shape().num_elements() } else { 0 };
        let x = weight_id.map(|_| input);
        let step = Step::Conv2d { x, weight: None, geometry, weight_id, bias_id };
        self.mark(step, output, [n, p, height * width], dims.to_vec(), kept)
    }

    /// `y = x W + b` over the last dimension, `[n, …, d]` → `[n, …, p]`; whatever stands between are positions (tokens)
    /// of the sample.
    pub fn linear<const D: usize>(&mut self, layer: &Linear, x: Tensor<D>) -> Tensor<D> {
        let ids = [Some(layer.weight.id), layer.bias.as_ref().map(|bias| bias.id)];
        let [weight_id, bias_id] = self.wanted("a linear layer", ids, rows(&x));
        if weight_id.is_none() && bias_id.is_none() {
            return layer.forward(x);
        }
        if self.purpose == Purpose::OtherUses {
            let own = weight_id.is_none_or(|_| layer.weight.is_require_grad());
            let own = own && bias_id.is_none_or(|_| layer.bias.as_ref().is_some_and(|b| b.is_require_grad()));
            self.check_own("a linear layer", own);
            return layer.valid().forward(x);
        }
        let input = positions(x.clone().inner());
        let [n, t, _] = input.dims();
        let output = layer.forward(x);
        let p = output.dims()[D - 1];
        let kept = if weight_id.is_some() { input.shape().num_elements() } else { 0 };
        let step = Step::Linear { x: weight_id.map(|_| input), weight: None, weight_id, bias_id };
        self.mark(step, output, [n, t, p], vec![n, t, p], kept)
    }

    /// Batch normalisation over the second dimension, `[n, c, …]`, with the running statistics. The model that the
    /// forward pass is given is in evaluation mode; a layer that trains is refused, because it couples the samples of a
    /// batch.
    pub fn batch_norm<const D: usize>(&mut self, layer: &BatchNorm, x: Tensor<D>) -> Tensor<D> {
        let ids = [Some(layer.gamma.id), Some(layer.beta.id)];
        let [gamma_id, beta_id] = self.wanted("a batch norm", ids, rows(&x));
        if layer.training.is_enabled() {
            self.refuse_use(
                "a batch norm that trains".into(),
                "mark the layer of the model that the forward pass is given; batch norms that train couple the \
                 samples of a batch",
            );
            return layer.valid().forward(x);
        }
        if gamma_id.is_none() && beta_id.is_none() {
            return layer.forward(x);
        }
        if self.purpose == Purpose::OtherUses {
            let own = gamma_id.is_none_or(|_| layer.gamma.is_require_grad());
            self.check_own("a batch norm", own && beta_id.is_none_or(|_| layer.beta.is_require_grad()));
            return layer.valid().forward(x);
        }
        let dims = x.dims();
        let (n, channels, t) = (dims[0], dims[1], dims[2..].iter().product());
        let input = x.clone().inner().reshape([n, channels, t, 1]);
        let output = layer.forward(x);
        let variance = layer.running_var.value().inner();
        let kept = if gamma_id.is_some() { input.shape().num_elements() } else { 0 };
        let step = Step::BatchNorm {
            x: gamma_id.map(|_| input),
            mean: layer.running_mean.value().inner(),
            inverse_std: variance.add_scalar(layer.epsilon).sqrt().recip(),
            gamma: layer.gamma.val().inner(),
            gamma_id,
            beta_id,
        };
        self.mark(step, output, [n, channels, t], vec![n, channels, t, 1], kept)
    }

    /// Layer normalisation over the last dimension, `[n, …, d]`.
    pub fn layer_norm<const D: usize>(&mut self, layer: &LayerNorm, x: Tensor<D>) -> Tensor<D> {
        let ids = [Some(layer.gamma.id), layer.beta.as_ref().map(|beta| beta.id)];
        let [gamma_id, beta_id] = self.wanted("a layer norm", ids, rows(&x));
        if gamma_id.is_none() && beta_id.is_none() {
            return layer.forward(x);
        }
        if self.purpose == Purpose::OtherUses {
            let own = gamma_id.is_none_or(|_| layer.gamma.is_require_grad());
            let own = own && beta_id.is_none_or(|_| layer.beta.as_ref().is_some_and(|b| b.is_require_grad()));
            self.check_own("a layer norm", own);
            return layer.valid().forward(x);
        }
        let epsilon = match norm::epsilon(layer) {
            Ok(epsilon) => epsilon,
            Err(error) => {
                self.refuse(error);
                return layer.forward(x);
            }
        };
        let input = positions(x.clone().inner());
        let shape = input.dims();
        let output = layer.forward(x);
        let kept = input.shape().num_elements();
        let gamma = layer.gamma.val().inner();
        let step = Step::LayerNorm { x: input, epsilon, gamma, gamma_id, beta_id };
        self.mark(step, output, shape, shape.to_vec(), kept)
    }

    /// A layer whose parameters were computed from those of the model has their identifiers, but not their gradients.
    pub(super) fn check_own(&mut self, layer: &'static str, own: bool) {
        if !own {
            self.refuse_use(
                format!("{layer} with parameters that are computed from those of the model"),
                "mark the layer itself, or use the oracle for this model",
            );
        }
    }
}

/// The first dimension; 0 for a vector, which has none for the samples.
fn rows<const D: usize>(x: &Tensor<D>) -> usize {
    if D < 2 { 0 } else { x.dims()[0] }
}

/// `[n, …, d]` as `[n, t, d]`.
fn positions<const D: usize>(x: Tensor<D>) -> Tensor<3> {
    let dims = x.dims();
    let t: usize = dims[1..D - 1].iter().product();
    x.reshape([dims[0], t, dims[D - 1]])
}
