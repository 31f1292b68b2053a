//! Linear layers as operations of Burn's flex backend, with their gradients.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, backend_extension};

use crate::flex::extension::{Host, contiguous, scalars, tensor};
use crate::flex::tokens::extension::TokenKernels;

/// What is differentiable.
#[backend_extension(Flex, Autodiff)]
pub(in crate::flex) trait LinearOp: Backend {
    /// x `[n, i]`, weight `[i, o]`, bias `[o]` or empty → `[n, o]`. None of the sizes is zero.
    fn direct_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// What the way back needs.
#[backend_extension(Flex)]
pub(in crate::flex) trait LinearKernels: Backend {
    /// gradient `[n, o]`, weight `[i, o]` → `[n, i]`.
    fn direct_linear_input(gradient: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;

    /// x `[n, i]`, gradient `[n, o]` → `[i, o]`.
    fn direct_linear_weight(x: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self>;
}

fn rows_and_columns(of: &Host) -> [usize; 2] {
    let shape = of.layout().shape();
    [shape[0], shape[1]]
}

impl LinearOp for Flex {
    fn direct_linear(x: Host, weight: Host, bias: Host) -> Host {
        let [x, weight, bias] = [x, weight, bias].map(contiguous);
        let ([n, _], sizes) = (rows_and_columns(&x), rows_and_columns(&weight));
        tensor(super::forward(scalars(&x), scalars(&weight), scalars(&bias), sizes), [n, sizes[1]])
    }
}

impl LinearKernels for Flex {
    fn direct_linear_input(gradient: Host, weight: Host) -> Host {
        let [gradient, weight] = [gradient, weight].map(contiguous);
        let ([n, _], sizes) = (rows_and_columns(&gradient), rows_and_columns(&weight));
        tensor(super::input_gradient(scalars(&gradient), scalars(&weight), sizes), [n, sizes[0]])
    }

    fn direct_linear_weight(x: Host, gradient: Host) -> Host {
        let [x, gradient] = [x, gradient].map(contiguous);
        let sizes = [rows_and_columns(&x)[1], rows_and_columns(&gradient)[1]];
        tensor(super::weight_gradient(scalars(&x), scalars(&gradient), sizes), sizes)
    }
}

#[derive(Debug)]
struct LinearBackward;

impl<B: Backend + LinearKernels + TokenKernels> Backward<B, 3> for LinearBackward {
    /// The input for the weight's gradient, and the weight for the input's: each only where it is wanted.
    type State = (Option<FloatTensor<B>>, Option<FloatTensor<B>>);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [x_node, weight_node, bias_node] = ops.parents;
        let gradient = gradients.consume::<B>(&ops.node);
        let (x, weight) = ops.state;
        if let Some(node) = bias_node {
            gradients.register::<B>(node.id, B::direct_sum_of_rows(gradient.clone()));
        }
        if let (Some(node), Some(weight)) = (x_node, weight) {
            gradients.register::<B>(node.id, B::direct_linear_input(gradient.clone(), weight));
        }
        if let (Some(node), Some(x)) = (weight_node, x) {
            gradients.register::<B>(node.id, B::direct_linear_weight(x, gradient));
        }
    }
}

impl<B: Backend + LinearOp + LinearKernels + TokenKernels, C: CheckpointStrategy> LinearOp
    for Autodiff<B, C>
{
    fn direct_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (x_tracked, weight_tracked) = (x.is_tracked(), weight.is_tracked());
        let [(x, x_node), (weight, weight_node), (bias, bias_node)] =
            [x, weight, bias].map(FloatTensor::<Self>::into_parts);
        match LinearBackward.prepare::<C>([x_node, weight_node, bias_node]).compute_bound().stateful() {
            OpsKind::Tracked(step) => {
                let (for_weight, for_x) =
                    (weight_tracked.then(|| x.clone()), x_tracked.then(|| weight.clone()));
                step.finish((for_weight, for_x), B::direct_linear(x, weight, bias))
            }
            OpsKind::UnTracked(step) => step.finish(B::direct_linear(x, weight, bias)),
        }
    }
}
