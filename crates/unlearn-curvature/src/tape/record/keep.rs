//! What is kept of each operation. One place decides it, in one `match`.

use burn::nn::conv::Conv2d;
use burn::nn::pool::MaxPool2d;
use burn::nn::{BatchNorm, LayerNorm, Linear};
use burn::tensor::module::max_pool2d_with_indices;

use super::{Record, Step};
use crate::layer::conv::Geometry;
use crate::layer::norm;
use crate::layer::pool;
use crate::tape::{AnyTensor, ErasedVar, Inputs, Op, Operands};

impl Op<'_> {
    /// The operation's name, for messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Normalize { .. } => "a normalisation",
            Self::Conv2d(_) => "a convolution",
            Self::BatchNorm(_) => "a batch norm",
            Self::BatchNormRelu(_) => "a batch norm with a ReLU",
            Self::LayerNorm(_) => "a layer norm",
            Self::Linear(_) => "a linear layer",
            Self::BranchedConv2d { .. } => "a convolution with a branch",
            Self::BranchedLinear { .. } => "a linear layer with a branch",
            Self::Relu => "a ReLU",
            Self::Gelu => "a GELU",
            Self::Add => "an addition",
            Self::AddRelu => "an addition with a ReLU",
            Self::Scale { .. } => "a scaling",
            Self::MaxPool2d(_) => "a max pooling",
            Self::GlobalAvgPool => "a global average",
            Self::SubsamplePad { .. } => "a subsampling shortcut",
            Self::Tokens => "a change from positions to tokens",
            Self::ClassToken(_) => "a class token",
            Self::Position(_) => "a position embedding",
            Self::Attention { .. } => "an attention",
            Self::Dropout(_) => "a dropout",
            Self::Pool(_) => "a choice of tokens",
        }
    }
}

impl Record {
    /// Computes `op` and keeps what going back through it needs.
    pub(super) fn keep(&mut self, op: Op<'_>, inputs: Inputs, from: [Option<usize>; 3]) -> ErasedVar {
        let needed = from.iter().any(Option::is_some);
        match (op, inputs) {
            (Op::Conv2d(layer), Inputs::One(x)) => self.conv2d(layer, x, from, needed),
            (Op::Linear(layer), Inputs::One(x)) => self.linear(layer, x, from, needed),
            (Op::BatchNorm(layer), Inputs::One(x)) => self.batch_norm(layer, x, from, needed),
            (Op::LayerNorm(layer), Inputs::One(x)) => self.layer_norm(layer, x, from, needed),
            (Op::ClassToken(token), Inputs::One(x)) => self.class_token(token, x, from, needed),
            (Op::Position(position), Inputs::One(x)) => self.position(position, x, from, needed),
            (Op::Attention { heads }, Inputs::Three(q, k, v)) if needed => {
                self.attention(heads, [q, k, v], from)
            }
            // Off an autodiff device, which this tape refuses, it does nothing.
            (Op::Dropout(_), Inputs::One(x)) => x,
            (Op::MaxPool2d(layer), Inputs::One(x)) if needed => self.max_pool2d(layer, x, from),
            (op, inputs) if needed => {
                let first = match &inputs {
                    Inputs::One(x) | Inputs::Two(x, _) | Inputs::Three(x, _, _) => x.value.clone(),
                };
                let value = op.compute(inputs.into_values());
                let step = match op {
                    Op::Normalize { std, .. } => Step::Normalize { std: std.clone() },
                    Op::Relu => {
                        self.book(Some(self.nodes.len()), &value);
                        Step::Relu { y: value.clone() }
                    }
                    Op::Gelu => {
                        self.book(from[0], &first);
                        Step::Gelu { x: first }
                    }
                    Op::Scale { factor } => Step::Scale { factor },
                    Op::GlobalAvgPool => Step::GlobalAvgPool { dims: four(&first.dims()) },
                    Op::SubsamplePad { pad } => Step::SubsamplePad { pad, dims: four(&first.dims()) },
                    Op::Tokens => Step::Tokens { positions: [first.dims()[2], first.dims()[3]] },
                    Op::Pool(pool) => Step::Pool { pool, tokens: first.dims()[1] },
                    _ => Step::Add,
                };
                self.follow(step, from, value)
            }
            (op, inputs) => ErasedVar::untracked(op.compute(inputs.into_values())),
        }
    }

    fn conv2d(&mut self, layer: &Conv2d, x: ErasedVar, from: [Option<usize>; 3], needed: bool) -> ErasedVar {
        let weight_id = self.wants(layer.weight.id);
        let bias_id = layer.bias.as_ref().and_then(|bias| self.wants(bias.id));
        let value = Op::Conv2d(layer).compute(Operands::One(x.value.clone()));
        if !needed && weight_id.is_none() && bias_id.is_none() {
            return ErasedVar::untracked(value);
        }
        if layer.groups != 1 {
            self.refuse(
                format!("a convolution with {} groups", layer.groups),
                "use the oracle for this model",
            );
            return ErasedVar::untracked(value);
        }
        let AnyTensor::R4(x) = x.value else { return ErasedVar::untracked(value) };
        let geometry = Geometry::of(layer, x.dims());
        if weight_id.is_some() {
            self.book(from[0], &AnyTensor::R4(x.clone()));
        }
        let step = Step::Conv2d {
            x: weight_id.map(|_| x),
            weight: needed.then(|| layer.weight.val()),
            geometry,
            weight_id,
            bias_id,
        };
        self.follow(step, from, value)
    }

    fn linear(&mut self, layer: &Linear, x: ErasedVar, from: [Option<usize>; 3], needed: bool) -> ErasedVar {
        let weight_id = self.wants(layer.weight.id);
        let bias_id = layer.bias.as_ref().and_then(|bias| self.wants(bias.id));
        let value = Op::Linear(layer).compute(Operands::One(x.value.clone()));
        if !needed && weight_id.is_none() && bias_id.is_none() {
            return ErasedVar::untracked(value);
        }
        if weight_id.is_some() {
            self.book(from[0], &x.value);
        }
        let step = Step::Linear {
            x: weight_id.map(|_| x.value.into_rows()),
            weight: needed.then(|| layer.weight.val()),
            weight_id,
            bias_id,
        };
        self.follow(step, from, value)
    }

    fn batch_norm(
        &mut self,
        layer: &BatchNorm,
        x: ErasedVar,
        from: [Option<usize>; 3],
        needed: bool,
    ) -> ErasedVar {
        let (gamma_id, beta_id) = (self.wants(layer.gamma.id), self.wants(layer.beta.id));
        let value = Op::BatchNorm(layer).compute(Operands::One(x.value.clone()));
        let AnyTensor::R4(x) = x.value else { return ErasedVar::untracked(value) };
        if !needed && gamma_id.is_none() && beta_id.is_none() {
            return ErasedVar::untracked(value);
        }
        if gamma_id.is_some() {
            self.book(from[0], &AnyTensor::R4(x.clone()));
        }
        let variance = layer.running_var.value();
        let step = Step::BatchNorm {
            x: gamma_id.map(|_| x),
            mean: layer.running_mean.value(),
            inverse_std: variance.add_scalar(layer.epsilon).sqrt().recip(),
            gamma: layer.gamma.val(),
            gamma_id,
            beta_id,
        };
        self.follow(step, from, value)
    }

    fn layer_norm(
        &mut self,
        layer: &LayerNorm,
        x: ErasedVar,
        from: [Option<usize>; 3],
        needed: bool,
    ) -> ErasedVar {
        let gamma_id = self.wants(layer.gamma.id);
        let beta_id = layer.beta.as_ref().and_then(|beta| self.wants(beta.id));
        let value = Op::LayerNorm(layer).compute(Operands::One(x.value.clone()));
        if !needed && gamma_id.is_none() && beta_id.is_none() {
            return ErasedVar::untracked(value);
        }
        let epsilon = match norm::epsilon(layer) {
            Ok(epsilon) => epsilon,
            Err(error) => {
                self.refusal.get_or_insert(error);
                return ErasedVar::untracked(value);
            }
        };
        self.book(from[0], &x.value);
        let step =
            Step::LayerNorm { x: x.value.into_rows(), epsilon, gamma: layer.gamma.val(), gamma_id, beta_id };
        self.follow(step, from, value)
    }

    fn max_pool2d(&mut self, layer: &MaxPool2d, x: ErasedVar, from: [Option<usize>; 3]) -> ErasedVar {
        let AnyTensor::R4(x) = x.value else {
            return ErasedVar::untracked(Op::MaxPool2d(layer).compute(Operands::One(x.value)));
        };
        let dims = x.dims();
        let (value, indices) = max_pool2d_with_indices(x, pool::options(layer, [dims[2], dims[3]]));
        let value = AnyTensor::R4(value);
        // The indices take the place of the values; 64-bit on most devices.
        self.indices += 2 * value.dims().iter().product::<usize>();
        self.follow(Step::MaxPool2d { indices, dims }, from, value)
    }
}

fn four(dims: &[usize]) -> [usize; 4] {
    [dims[0], dims[1], dims[2], dims[3]]
}
