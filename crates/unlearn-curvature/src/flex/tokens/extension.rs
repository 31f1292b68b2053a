//! The kernels as operations of Burn's flex backend, with their gradients.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, backend_extension};
use burn::tensor::TensorData;

use super::attention::{self, Plan};
use super::{bias, gelu, layer_norm};
use crate::flex::extension::{Host, contiguous, scalars, tensor};

/// What is differentiable.
#[backend_extension(Flex, Autodiff)]
pub(super) trait TokenOps: Backend {
    /// Keeps the shape.
    fn direct_gelu(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// x `[rows, d]`, gamma and beta `[d]` → `[rows, d]`.
    fn direct_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self>;

    /// q, k and v `[n, t, d]` → `[n, t, d]`.
    fn direct_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        heads: usize,
    ) -> FloatTensor<Self>;
}

/// What the way back needs.
#[backend_extension(Flex)]
pub(in crate::flex) trait TokenKernels: Backend {
    /// The sum of the rows of `[rows, d]`: `[d]`.
    fn direct_sum_of_rows(gradient: FloatTensor<Self>) -> FloatTensor<Self>;

    /// x `[b, …]`, cotangents `[b·c, …]` → `[b·c, …]`.
    fn direct_gelu_back(
        x: FloatTensor<Self>,
        cotangents: FloatTensor<Self>,
        columns: usize,
    ) -> FloatTensor<Self>;

    /// The gradients of x, gamma and beta; of the last two zeros unless they are `wanted`.
    fn direct_layer_norm_back(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        epsilon: f64,
        wanted: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The gradients of q, k and v.
    fn direct_attention_back(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        heads: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// New values in the shape of `like`.
fn shaped(values: Vec<f32>, like: &Host) -> Host {
    Host::from_data(TensorData::new(values, like.layout().shape().clone()))
}

fn plan(q: &Host, heads: usize) -> Plan {
    let shape = q.layout().shape();
    Plan::new(shape[1], heads, shape[2])
}

impl TokenOps for Flex {
    fn direct_gelu(x: Host) -> Host {
        let x = contiguous(x);
        shaped(gelu::forward(scalars(&x)), &x)
    }

    fn direct_layer_norm(x: Host, gamma: Host, beta: Host, epsilon: f64) -> Host {
        let [x, gamma, beta] = [x, gamma, beta].map(contiguous);
        shaped(layer_norm::forward(scalars(&x), scalars(&gamma), scalars(&beta), epsilon), &x)
    }

    fn direct_attention(q: Host, k: Host, v: Host, heads: usize) -> Host {
        let [q, k, v] = [q, k, v].map(contiguous);
        shaped(attention::forward(&plan(&q, heads), scalars(&q), scalars(&k), scalars(&v)), &q)
    }
}

impl TokenKernels for Flex {
    fn direct_sum_of_rows(gradient: Host) -> Host {
        let gradient = contiguous(gradient);
        let d = gradient.layout().shape()[1];
        tensor(bias::sum(scalars(&gradient), d), [d])
    }

    fn direct_gelu_back(x: Host, cotangents: Host, columns: usize) -> Host {
        let [x, cotangents] = [x, cotangents].map(contiguous);
        let size = scalars(&cotangents).len() / cotangents.layout().shape()[0];
        shaped(gelu::backward(scalars(&x), scalars(&cotangents), size, columns), &cotangents)
    }

    fn direct_layer_norm_back(
        x: Host,
        gradient: Host,
        gamma: Host,
        epsilon: f64,
        wanted: bool,
    ) -> (Host, Host, Host) {
        let [x, gradient, gamma] = [x, gradient, gamma].map(contiguous);
        let (back, for_gamma, for_beta) =
            layer_norm::backward(scalars(&x), scalars(&gradient), scalars(&gamma), epsilon, wanted);
        (shaped(back, &x), shaped(for_gamma, &gamma), shaped(for_beta, &gamma))
    }

    fn direct_attention_back(q: Host, k: Host, v: Host, gradient: Host, heads: usize) -> (Host, Host, Host) {
        let [q, k, v, gradient] = [q, k, v, gradient].map(contiguous);
        let inputs = [scalars(&q), scalars(&k), scalars(&v)];
        let [for_q, for_k, for_v] = attention::backward(&plan(&q, heads), inputs, scalars(&gradient));
        (shaped(for_q, &q), shaped(for_k, &q), shaped(for_v, &q))
    }
}

#[derive(Debug)]
struct GeluBackward;

impl<B: Backend + TokenKernels> Backward<B, 1> for GeluBackward {
    /// x.
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [node] = ops.parents;
        let gradient = gradients.consume::<B>(&ops.node);
        if let Some(node) = node {
            gradients.register::<B>(node.id, B::direct_gelu_back(ops.state, gradient, 1));
        }
    }
}

#[derive(Debug)]
struct LayerNormBackward;

impl<B: Backend + TokenKernels> Backward<B, 3> for LayerNormBackward {
    /// x, gamma, epsilon.
    type State = (FloatTensor<B>, FloatTensor<B>, f64);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (x, gamma, epsilon) = ops.state;
        let wanted = ops.parents[1..].iter().any(Option::is_some);
        let (for_x, for_gamma, for_beta) = B::direct_layer_norm_back(x, gradient, gamma, epsilon, wanted);
        for (node, gradient) in ops.parents.into_iter().zip([for_x, for_gamma, for_beta]) {
            if let Some(node) = node {
                gradients.register::<B>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct AttentionBackward;

impl<B: Backend + TokenKernels> Backward<B, 3> for AttentionBackward {
    /// q, k, v and heads.
    type State = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, usize);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (q, k, v, heads) = ops.state;
        let (for_q, for_k, for_v) = B::direct_attention_back(q, k, v, gradient, heads);
        for (node, gradient) in ops.parents.into_iter().zip([for_q, for_k, for_v]) {
            if let Some(node) = node {
                gradients.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: Backend + TokenOps + TokenKernels, C: CheckpointStrategy> TokenOps for Autodiff<B, C> {
    fn direct_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        match GeluBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(step) => step.finish(x.clone(), B::direct_gelu(x)),
            OpsKind::UnTracked(step) => step.finish(B::direct_gelu(x)),
        }
    }

    fn direct_layer_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
    ) -> FloatTensor<Self> {
        let [(x, x_node), (gamma, gamma_node), (beta, beta_node)] =
            [x, gamma, beta].map(FloatTensor::<Self>::into_parts);
        match LayerNormBackward.prepare::<C>([x_node, gamma_node, beta_node]).compute_bound().stateful() {
            OpsKind::Tracked(step) => {
                let y = B::direct_layer_norm(x.clone(), gamma.clone(), beta, epsilon);
                step.finish((x, gamma, epsilon), y)
            }
            OpsKind::UnTracked(step) => step.finish(B::direct_layer_norm(x, gamma, beta, epsilon)),
        }
    }

    fn direct_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        heads: usize,
    ) -> FloatTensor<Self> {
        let [(q, q_node), (k, k_node), (v, v_node)] = [q, k, v].map(FloatTensor::<Self>::into_parts);
        match AttentionBackward.prepare::<C>([q_node, k_node, v_node]).compute_bound().stateful() {
            OpsKind::Tracked(step) => {
                let y = B::direct_attention(q.clone(), k.clone(), v.clone(), heads);
                step.finish((q, k, v, heads), y)
            }
            OpsKind::UnTracked(step) => step.finish(B::direct_attention(q, k, v, heads)),
        }
    }
}
