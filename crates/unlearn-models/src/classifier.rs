//! What every image classifier here is.

use burn::module::Module;
use burn::tensor::Tensor;
use unlearn_curvature::tape::{Plain, Tape, Var};

/// An image classifier: any Burn module with a forward pass and a number of classes.
///
/// Two methods are enough for training, pruning, every unlearning method and evaluation. A model
/// that also writes its forward pass on a [`Tape`] (see [`Taped`]) says so through
/// [`taped`](Self::taped) and gets the fast curvature engine; the others take the slow, exact path.
///
/// # Contract
/// * `forward` takes pixels in `[0, 1]`, `[n, channels, height, width]`, normalises them itself and
///   returns logits, `[n, num_classes]`, one row a sample in the same order.
/// * It has no side effect but the running statistics of its batch norms, and those only for
///   inputs on an autodiff device while the module trains.
/// * Every parameter that training should move is reached by Burn's module traversal.
pub trait Classifier: Module + Send + Sync + 'static {
    /// Logits, `[n, num_classes]`, of `images`, `[n, channels, height, width]` in `[0, 1]`.
    fn forward(&self, images: Tensor<4>) -> Tensor<2>;

    /// Width of the last dimension of the logits.
    fn num_classes(&self) -> usize;

    /// The forward pass on a tape, for models that have one.
    fn taped(&self) -> Option<&dyn Taped> {
        None
    }

    /// What training depends on and no tensor of the model holds (a probability of dropout, a scale), as text; empty where
    /// there is nothing. A run that is gone on with is compared by it.
    fn settings(&self) -> String {
        String::new()
    }
}

/// A forward pass written as operations on a [`Tape`].
pub trait Taped {
    /// Logits, `[n, num_classes]`, of `images`, `[n, channels, height, width]` in `[0, 1]`.
    fn forward_on(&self, images: Var<4>, tape: &mut dyn Tape) -> Var<2>;
}

/// The forward pass of a classifier on a tape, for the curvature engine. One that has none runs the plain way, and the
/// engine then refuses it, since no parameter leads to the logits on the tape.
pub fn forward_taped<M: Classifier>(model: &M, images: Var<4>, tape: &mut dyn Tape) -> Var<2> {
    match model.taped() {
        Some(taped) => taped.forward_on(images, tape),
        None => tape.constant(model.forward(images.into_value())),
    }
}

/// Runs a taped model the plain way; a model's `forward` is this one line.
pub fn forward_plain(model: &dyn Taped, images: Tensor<4>) -> Tensor<2> {
    Plain::forward(images, |images, tape| model.forward_on(images, tape))
}
