//! The kernels as operations of Burn's flex backend, with their gradients.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, backend_extension};
use burn::tensor::TensorData;

use super::conv;
use super::elementwise::{self, Adaptive, Descent};
use super::norm::Planes;
use super::product::Cotangents;
use super::shape::ConvShape;
use super::single::{self, Order};
use super::sweep::{self, Norm};

/// A convolution whose gradients are [`ConvKernels`].
#[backend_extension(Flex, Autodiff)]
pub(super) trait DirectConv: Backend {
    /// x `[n, i, h, w]`, weight `[o, i, kh, kw]` → `[n, o, h', w']`.
    fn direct_conv(x: FloatTensor<Self>, weight: FloatTensor<Self>, shape: ConvShape) -> FloatTensor<Self>;
}

/// What a reverse sweep needs of a convolution.
#[backend_extension(Flex)]
pub(super) trait ConvKernels: Backend {
    /// gradient `[n, o, h', w']`, weight `[o, i, kh, kw]` → `[n, i, h, w]`.
    fn direct_conv_input(
        gradient: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        shape: ConvShape,
    ) -> FloatTensor<Self>;

    /// x `[n, i, h, w]`, gradient `[n, o, h', w']` → `[o, i, kh, kw]`.
    fn direct_conv_weight(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        shape: ConvShape,
    ) -> FloatTensor<Self>;

    /// x `[n, i, h, w]`, cotangents `[n · columns, o, h' · w']` → `[o, i · kh · kw]`: the sum over units of
    /// `group` samples and over columns of the squared gradients, each unit's times its factor.
    fn direct_conv_squares(
        x: FloatTensor<Self>,
        cotangents: FloatTensor<Self>,
        shape: ConvShape,
        columns: usize,
        group: usize,
        factors: Option<Vec<f32>>,
    ) -> FloatTensor<Self>;

    /// As above, the gradients themselves: `[units · columns, entries]`.
    fn direct_conv_singles(
        x: FloatTensor<Self>,
        cotangents: FloatTensor<Self>,
        shape: ConvShape,
        columns: usize,
        group: usize,
        order: Order,
    ) -> FloatTensor<Self>;
}

pub(super) type Host = FloatTensor<Flex>;

/// The scalars of a tensor in the order of its shape, copied only when they are not.
pub(super) fn contiguous(tensor: Host) -> Host {
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

pub(super) fn scalars(tensor: &Host) -> &[f32] {
    let layout = tensor.layout();
    &tensor.storage::<f32>()[layout.start_offset()..][..layout.num_elements()]
}

pub(super) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Host {
    Host::from_data(TensorData::new(values, shape))
}

impl DirectConv for Flex {
    fn direct_conv(x: Host, weight: Host, shape: ConvShape) -> Host {
        let (x, weight) = (contiguous(x), contiguous(weight));
        let n = x.layout().shape()[0];
        let values = conv::forward(&shape, scalars(&x), scalars(&weight));
        tensor(values, [n, shape.outputs, shape.output[0], shape.output[1]])
    }
}

impl ConvKernels for Flex {
    fn direct_conv_input(gradient: Host, weight: Host, shape: ConvShape) -> Host {
        let (gradient, weight) = (contiguous(gradient), contiguous(weight));
        let n = gradient.layout().shape()[0];
        let values = conv::input_gradient(&shape, scalars(&gradient), scalars(&weight));
        tensor(values, [n, shape.channels, shape.input[0], shape.input[1]])
    }

    fn direct_conv_weight(x: Host, gradient: Host, shape: ConvShape) -> Host {
        let (x, gradient) = (contiguous(x), contiguous(gradient));
        let values = conv::weight_gradient(&shape, scalars(&x), scalars(&gradient));
        tensor(values, [shape.outputs, shape.channels, shape.kernel[0], shape.kernel[1]])
    }

    fn direct_conv_squares(
        x: Host,
        cotangents: Host,
        shape: ConvShape,
        columns: usize,
        group: usize,
        factors: Option<Vec<f32>>,
    ) -> Host {
        let (x, cotangents) = (contiguous(x), contiguous(cotangents));
        let values = scalars(&cotangents);
        let cotangents = Cotangents { values, columns, group, factors: factors.as_deref() };
        let values = conv::squares(&shape, scalars(&x), &cotangents);
        tensor(values, [shape.outputs, shape.patch()])
    }

    fn direct_conv_singles(
        x: Host,
        cotangents: Host,
        shape: ConvShape,
        columns: usize,
        group: usize,
        order: Order,
    ) -> Host {
        let (x, cotangents) = (contiguous(x), contiguous(cotangents));
        let values = scalars(&cotangents);
        let cotangents = Cotangents { values, columns, group, factors: None };
        let values = single::gradients(&shape, scalars(&x), &cotangents, order);
        let entries = order.size(&shape);
        let pieces = values.len() / entries;
        tensor(values, [pieces, entries])
    }
}

#[derive(Debug)]
struct DirectConvBackward;

impl<B: Backend + ConvKernels> Backward<B, 2> for DirectConvBackward {
    /// The input for the weight's gradient, and the weight for the input's: each only where it is wanted, so that
    /// a frozen layer keeps no picture.
    type State = (Option<FloatTensor<B>>, Option<FloatTensor<B>>, ConvShape);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let [x_node, weight_node] = ops.parents;
        let gradient = gradients.consume::<B>(&ops.node);
        let (x, weight, shape) = ops.state;
        if let (Some(node), Some(weight)) = (x_node, weight) {
            let back = B::direct_conv_input(gradient.clone(), weight, shape.clone());
            gradients.register::<B>(node.id, back);
        }
        if let (Some(node), Some(x)) = (weight_node, x) {
            gradients.register::<B>(node.id, B::direct_conv_weight(x, gradient, shape));
        }
    }
}

impl<B: Backend + DirectConv + ConvKernels, C: CheckpointStrategy> DirectConv for Autodiff<B, C> {
    fn direct_conv(x: FloatTensor<Self>, weight: FloatTensor<Self>, shape: ConvShape) -> FloatTensor<Self> {
        let (x_tracked, weight_tracked) = (x.is_tracked(), weight.is_tracked());
        let ((x, x_node), (weight, weight_node)) = (x.into_parts(), weight.into_parts());
        match DirectConvBackward.prepare::<C>([x_node, weight_node]).compute_bound().stateful() {
            OpsKind::Tracked(step) => {
                let (for_weight, for_x) =
                    (weight_tracked.then(|| x.clone()), x_tracked.then(|| weight.clone()));
                let result = B::direct_conv(x, weight, shape.clone());
                step.finish((for_weight, for_x, shape), result)
            }
            OpsKind::UnTracked(step) => step.finish(B::direct_conv(x, weight, shape)),
        }
    }
}

pub(super) fn planes(x: &Host) -> Planes {
    let shape = x.layout().shape();
    Planes { channels: shape[1], plane: shape[2] * shape[3] }
}

/// What a reverse sweep does between the convolutions.
#[backend_extension(Flex)]
pub(super) trait SweepKernels: Backend {
    /// y `[b, …]`, cotangents `[b·c, …]` → `[b·c, …]`, in their place if nobody else has them.
    fn direct_relu_back(
        y: FloatTensor<Self>,
        cotangents: FloatTensor<Self>,
        columns: usize,
    ) -> FloatTensor<Self>;

    /// Cotangents `[b·c, channels, h, w]`; x `[b, channels, h, w]` or empty; mean, inverse_std and gamma
    /// `[channels]` → the input's cotangents, and the gradients of shift and scale `[b·c, channels]`.
    fn direct_norm_sweep(
        cotangents: FloatTensor<Self>,
        x: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        inverse_std: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        columns: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl SweepKernels for Flex {
    fn direct_relu_back(y: Host, cotangents: Host, columns: usize) -> Host {
        let (y, mut back) = (contiguous(y), whole(cotangents));
        let size = back.layout().num_elements() / back.layout().shape()[0];
        sweep::relu(scalars(&y), back.storage_mut(), size, columns);
        back
    }

    fn direct_norm_sweep(
        cotangents: Host,
        x: Host,
        mean: Host,
        inverse_std: Host,
        gamma: Host,
        columns: usize,
    ) -> (Host, Host, Host) {
        let [cotangents, x, mean, inverse_std, gamma] =
            [cotangents, x, mean, inverse_std, gamma].map(contiguous);
        let (planes, dims) = (planes(&cotangents), cotangents.layout().shape().clone());
        let x = scalars(&x);
        let norm = Norm {
            x: (!x.is_empty()).then_some(x),
            mean: scalars(&mean),
            inverse_std: scalars(&inverse_std),
            gamma: scalars(&gamma),
            columns,
        };
        let (back, shift, scale) = sweep::batch_norm(planes, scalars(&cotangents), &norm);
        let rows = [dims[0], planes.channels];
        (Host::from_data(TensorData::new(back, dims)), tensor(shift, rows), tensor(scale, rows))
    }
}

/// What a step of training does to every parameter.
#[backend_extension(Flex)]
pub(super) trait Elementwise: Backend {
    /// The parameter moved along its gradient, both of one shape.
    fn direct_descent(
        value: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        by: Descent,
    ) -> FloatTensor<Self>;

    /// The parameter and its velocity moved. `first`: the velocity's entries are not to be read.
    fn direct_momentum(
        value: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        velocity: FloatTensor<Self>,
        by: Descent,
        first: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The parameter and its two moments moved.
    fn direct_adam(
        value: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        by: Adaptive,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Σ x², `[1]`.
    fn direct_sum_of_squares(x: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// A tensor that is all of its memory, in the order of its shape. Memory that others share is copied when it
/// is written to.
pub(super) fn whole(tensor: Host) -> Host {
    let layout = tensor.layout();
    let all = layout.start_offset() == 0 && layout.num_elements() == tensor.storage::<f32>().len();
    if all && tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

impl Elementwise for Flex {
    fn direct_descent(value: Host, gradient: Host, by: Descent) -> Host {
        let (mut value, gradient) = (whole(value), contiguous(gradient));
        elementwise::descend(by, value.storage_mut(), scalars(&gradient), None);
        value
    }

    fn direct_momentum(
        value: Host,
        gradient: Host,
        velocity: Host,
        by: Descent,
        first: bool,
    ) -> (Host, Host) {
        let (mut value, gradient, mut velocity) = (whole(value), contiguous(gradient), whole(velocity));
        let moving = (velocity.storage_mut(), first);
        elementwise::descend(by, value.storage_mut(), scalars(&gradient), Some(moving));
        (value, velocity)
    }

    fn direct_adam(
        value: Host,
        gradient: Host,
        first: Host,
        second: Host,
        by: Adaptive,
    ) -> (Host, Host, Host) {
        let gradient = contiguous(gradient);
        let [mut value, mut first, mut second] = [value, first, second].map(whole);
        let moments = [first.storage_mut(), second.storage_mut()];
        elementwise::adapt(by, value.storage_mut(), scalars(&gradient), moments);
        (value, first, second)
    }

    fn direct_sum_of_squares(x: Host) -> Host {
        let x = contiguous(x);
        tensor(vec![elementwise::sum_of_squares(scalars(&x))], [1])
    }
}
