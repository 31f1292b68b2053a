//! Batch normalisation as operations of the backend, with autodiff.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, backend_extension};
use burn::tensor::TensorData;

use super::{Behind, Seen};
use crate::flex::extension::{Host, contiguous, planes, scalars, tensor, whole};
use crate::flex::norm;

/// Batch normalisation by moments of the batch itself, whose gradients are [`NormKernels`].
#[backend_extension(Flex, Autodiff)]
pub(in crate::flex) trait DirectNorm: Backend {
    /// x `[n, c, h, w]`, moments `[2, c]` of x, gamma and beta `[c]` → `[n, c, h, w]`.
    fn direct_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        epsilon: f64,
        behind: Behind,
    ) -> FloatTensor<Self>;
}

/// Batch normalisation by moments that do not depend on the batch, with nothing of the layer trained: the gradient is
/// that of x alone.
#[backend_extension(Flex, Autodiff)]
pub(in crate::flex) trait FixedNorm: Backend {
    /// x `[n, c, h, w]`, moments `[2, c]`, gamma and beta `[c]` → `[n, c, h, w]`, in the place of x if nobody else has it.
    fn direct_fixed_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        epsilon: f64,
        behind: Behind,
    ) -> FloatTensor<Self>;
}

/// What batch normalisation needs besides.
#[backend_extension(Flex)]
pub(in crate::flex) trait NormKernels: Backend {
    /// Mean and biased variance of x `[n, c, h, w]`: `[2, c]`.
    fn direct_moments(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradients of x, gamma and beta; y is what [`DirectNorm`] made of x, looked at behind a ReLU only.
    fn direct_norm_back(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        epsilon: f64,
        behind: Behind,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The gradient of x from that of [`FixedNorm`]'s y, `[n, c, h, w]`; y itself is looked at behind a ReLU only.
    fn direct_fixed_norm_back(
        y: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        epsilon: f64,
        behind: Behind,
    ) -> FloatTensor<Self>;
}

impl NormKernels for Flex {
    fn direct_moments(x: Host) -> Host {
        let x = contiguous(x);
        let planes = planes(&x);
        tensor(norm::moments(planes, scalars(&x)), [2, planes.channels])
    }

    fn direct_norm_back(
        x: Host,
        y: Host,
        gradient: Host,
        gamma: Host,
        moments: Host,
        epsilon: f64,
        behind: Behind,
    ) -> (Host, Host, Host) {
        let [x, y, gamma, moments] = [x, y, gamma, moments].map(contiguous);
        let (planes, mut back) = (planes(&x), whole(gradient));
        let seen = Seen { x: scalars(&x), y: scalars(&y) };
        let (g, moments) = (back.storage_mut(), scalars(&moments));
        let (for_gamma, for_beta) =
            norm::backward(planes, seen, g, moments, scalars(&gamma), epsilon, behind);
        (back, tensor(for_gamma, [planes.channels]), tensor(for_beta, [planes.channels]))
    }

    fn direct_fixed_norm_back(
        y: Host,
        gradient: Host,
        gamma: Host,
        moments: Host,
        epsilon: f64,
        behind: Behind,
    ) -> Host {
        let [y, gamma, moments] = [y, gamma, moments].map(contiguous);
        let (planes, mut back) = (planes(&gradient), whole(gradient));
        let y = (behind == Behind::Relu).then(|| scalars(&y));
        norm::scale_back(planes, back.storage_mut(), y, scalars(&moments), scalars(&gamma), epsilon);
        back
    }
}

impl DirectNorm for Flex {
    fn direct_norm(x: Host, gamma: Host, beta: Host, moments: Host, epsilon: f64, behind: Behind) -> Host {
        let [x, gamma, beta, moments] = [x, gamma, beta, moments].map(contiguous);
        let dims = x.layout().shape().clone();
        let affine = (scalars(&gamma), scalars(&beta));
        let values = norm::forward(planes(&x), scalars(&x), scalars(&moments), affine, epsilon, behind);
        Host::from_data(TensorData::new(values, dims))
    }
}

impl FixedNorm for Flex {
    fn direct_fixed_norm(
        x: Host,
        gamma: Host,
        beta: Host,
        moments: Host,
        epsilon: f64,
        behind: Behind,
    ) -> Host {
        let [gamma, beta, moments] = [gamma, beta, moments].map(contiguous);
        let (planes, mut x) = (planes(&x), whole(x));
        let affine = (scalars(&gamma), scalars(&beta));
        norm::forward_in_place(planes, x.storage_mut(), scalars(&moments), affine, epsilon, behind);
        x
    }
}

#[derive(Debug)]
struct DirectNormBackward;

/// x, y, gamma, moments, epsilon and what is behind.
type Kept<B> = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, f64, Behind);

impl<B: Backend + NormKernels> Backward<B, 3> for DirectNormBackward {
    type State = Kept<B>;

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (x, y, gamma, moments, epsilon, behind) = ops.state;
        let (for_x, for_gamma, for_beta) =
            B::direct_norm_back(x, y, gradient, gamma, moments, epsilon, behind);
        for (node, gradient) in ops.parents.into_iter().zip([for_x, for_gamma, for_beta]) {
            if let Some(node) = node {
                gradients.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: Backend + DirectNorm + NormKernels, C: CheckpointStrategy> DirectNorm for Autodiff<B, C> {
    fn direct_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        epsilon: f64,
        behind: Behind,
    ) -> FloatTensor<Self> {
        let [(x, x_node), (gamma, gamma_node), (beta, beta_node), (moments, _)] =
            [x, gamma, beta, moments].map(FloatTensor::<Self>::into_parts);
        let nodes = [x_node, gamma_node, beta_node];
        match DirectNormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(step) => {
                let y = B::direct_norm(x.clone(), gamma.clone(), beta, moments.clone(), epsilon, behind);
                // The result stands for itself where nobody looks at it, so that it need not be kept.
                let seen = if behind == Behind::Relu { y.clone() } else { x.clone() };
                step.finish((x, seen, gamma, moments, epsilon, behind), y)
            }
            OpsKind::UnTracked(step) => step.finish(B::direct_norm(x, gamma, beta, moments, epsilon, behind)),
        }
    }
}

#[derive(Debug)]
struct FixedNormBackward;

impl<B: Backend + NormKernels> Backward<B, 1> for FixedNormBackward {
    /// y, gamma, moments, epsilon, and what is behind.
    type State = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, f64, Behind);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [x_node] = ops.parents;
        let gradient = gradients.consume::<B>(&ops.node);
        let (y, gamma, moments, epsilon, behind) = ops.state;
        if let Some(node) = x_node {
            let back = B::direct_fixed_norm_back(y, gradient, gamma, moments, epsilon, behind);
            gradients.register::<B>(node.id, back);
        }
    }
}

impl<B: Backend + FixedNorm + NormKernels, C: CheckpointStrategy> FixedNorm for Autodiff<B, C> {
    fn direct_fixed_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        epsilon: f64,
        behind: Behind,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let [gamma, beta, moments] = [gamma, beta, moments].map(FloatTensor::<Self>::into_primitive);
        match FixedNormBackward.prepare::<C>([x_node]).compute_bound().stateful() {
            OpsKind::Tracked(step) => {
                let y = B::direct_fixed_norm(x, gamma.clone(), beta, moments.clone(), epsilon, behind);
                // Something else stands for it where nobody looks at it.
                let seen = if behind == Behind::Relu { y.clone() } else { gamma.clone() };
                step.finish((seen, gamma, moments, epsilon, behind), y)
            }
            OpsKind::UnTracked(step) => {
                step.finish(B::direct_fixed_norm(x, gamma, beta, moments, epsilon, behind))
            }
        }
    }
}
