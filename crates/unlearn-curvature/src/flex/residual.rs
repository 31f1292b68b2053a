//! The end of a residual block: max(a + b, 0) in one pass over memory. Its gradient is a reverse sweep's of a ReLU.

use burn::Tensor;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use pulp::Arch;
use rayon::prelude::*;

use super::extension::{Host, SweepKernels, contiguous, scalars, whole};
use super::is_ours;

/// Entries that a thread takes at once.
const TOGETHER: usize = 1 << 14;

/// Whether [`add_relu`] serves.
pub(crate) fn has_add_relu(a: &Tensor<4>, b: &Tensor<4>) -> bool {
    is_ours(a) && is_ours(b) && a.dims() == b.dims() && a.shape().num_elements() > 0
}

/// max(a + b, 0), differentiable; written over `a` if nobody else has it.
pub(crate) fn add_relu(a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::direct_add_relu(a.into_dispatch(), b.into_dispatch()))
}

/// What is differentiable.
#[backend_extension(Flex, Autodiff)]
pub(super) trait Residual: Backend {
    /// a and b of one shape.
    fn direct_add_relu(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl Residual for Flex {
    fn direct_add_relu(a: Host, b: Host) -> Host {
        let (mut a, b) = (whole(a), contiguous(b));
        let arch = Arch::new();
        let pieces = a.storage_mut::<f32>().par_chunks_mut(TOGETHER).zip(scalars(&b).par_chunks(TOGETHER));
        pieces.for_each(|(a, b)| {
            arch.dispatch(|| {
                for (a, &b) in a.iter_mut().zip(b) {
                    let sum = *a + b;
                    // What is not a number stays so.
                    *a = if sum < 0.0 { 0.0 } else { sum };
                }
            });
        });
        a
    }
}

#[derive(Debug)]
struct AddReluBackward;

impl<B: Backend + SweepKernels> Backward<B, 2> for AddReluBackward {
    /// y.
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = B::direct_relu_back(ops.state, gradients.consume::<B>(&ops.node), 1);
        for node in ops.parents.into_iter().flatten() {
            gradients.register::<B>(node.id, gradient.clone());
        }
    }
}

impl<B: Backend + Residual + SweepKernels, C: CheckpointStrategy> Residual for Autodiff<B, C> {
    fn direct_add_relu(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        let ((a, a_node), (b, b_node)) = (a.into_parts(), b.into_parts());
        match AddReluBackward.prepare::<C>([a_node, b_node]).compute_bound().stateful() {
            OpsKind::Tracked(step) => {
                let y = B::direct_add_relu(a, b);
                step.finish(y.clone(), y)
            }
            OpsKind::UnTracked(step) => step.finish(B::direct_add_relu(a, b)),
        }
    }
}
