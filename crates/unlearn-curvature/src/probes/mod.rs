//! Per-sample gradients of a forward pass in plain Burn whose layers with parameters are marked.
//!
//! ```text
//! x ──► probes.conv2d(&conv, x) = conv(x) + probe ──► any Burn operations ──► probes.linear(…) ──► logits z
//!          keeps x       probe = 0, asked for its gradient
//! Σ cotangent ∘ z, backward  ──►  ∂/∂probe: the cotangent of the layer's output
//!                                 (x, cotangent) ──► the same taps, and reducers, as of a recorded tape
//! ```
//!
//! Parameters are constants in that graph: Burn computes the gradients of inputs only, and the gradients of
//! parameters are formed per sample by the [reducers](crate::reduce).
//!
//! Burn's graph goes back once (a backward pass consumes it), so that every cotangent column takes a forward and a
//! backward pass of its own, but for the first, which uses the forward pass that gave the logits. c columns cost
//! c · (forward + input gradients + what the reducers do), where a [tape](crate::tape) needs a single forward pass.

mod graph;
pub(crate) mod inspect;
mod layers;
mod tape;
#[cfg(test)]
mod tests;
mod tokens;

#[doc(hidden)]
pub use graph::Graph;

use burn::Tensor;
use burn::module::ParamId;

use crate::CurvatureError;
use crate::sweep::Targets;
use crate::tape::record::Step;

/// Marks the layers of a forward pass in plain Burn.
///
/// A marked layer computes what its own `forward` does. Between marked layers every operation of Burn is allowed that
/// keeps the samples of a batch apart and in their order. A layer may be marked several times. Every trainable
/// parameter must be used by marked layers and by nothing else; the first batch shows whether it is so
/// ([`CurvatureError::Unmarked`], [`CurvatureError::Unsupported`]).
///
/// It is a [`Tape`](crate::tape::Tape) too, so that a part of a model that is written on one can stand in a pass that
/// is not.
///
/// ```
/// use burn::module::Module;
/// use burn::nn::conv::{Conv2d, Conv2dConfig};
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::activation::silu;
/// use burn::tensor::{Device, Tensor};
/// use unlearn_curvature::oracle::TensorSamples;
/// use unlearn_curvature::{FisherDiag, Probes};
///
/// #[derive(Module, Debug)]
/// struct Net {
///     conv: Conv2d,
///     head: Linear,
/// }
///
/// fn forward(net: &Net, images: Tensor<4>, probes: &mut Probes) -> Tensor<2> {
///     let x = silu(probes.conv2d(&net.conv, images)); // anything
///     probes.linear(&net.head, x.flatten(1, 3))
/// }
///
/// let device = Device::flex();
/// let net = Net {
///     conv: Conv2dConfig::new([1, 2], [3, 3]).init(&device),
///     head: LinearConfig::new(2 * 36, 3).init(&device),
/// };
/// let samples = TensorSamples::new(Tensor::ones([5, 1, 8, 8], &device), vec![0, 1, 2, 0, 1])?;
///
/// let exact = FisherDiag::exact().marked().run(&net, forward, &samples)?;
/// assert_eq!(exact.count, 5);
/// # Ok::<(), unlearn_curvature::CurvatureError>(())
/// ```
#[derive(Debug)]
pub struct Probes {
    targets: Targets,
    batch: usize,
    purpose: Purpose,
    marks: Vec<Mark>,
    scalars: usize,
    widest: usize,
    refusal: Option<CurvatureError>,
}

/// What a forward pass is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To go back and meet each marked layer.
    Gradients,
    /// To see what else uses a parameter: marked layers are constants.
    OtherUses,
    /// Nothing: layers run as they are.
    Nothing,
}

/// One use of a marked layer.
#[derive(Debug)]
struct Mark {
    /// What forms the gradients of the parameters.
    step: Step,
    /// Zero, or the output itself where no earlier mark leads to it; its gradient is the output's cotangent.
    probe: Tensor<3>,
    /// The output's shape as `step` takes it.
    dims: Vec<usize>,
}

impl Probes {
    fn new(targets: &Targets, batch: usize, purpose: Purpose) -> Self {
        Self {
            targets: targets.clone(),
            batch,
            purpose,
            marks: Vec::new(),
            scalars: 0,
            widest: 0,
            refusal: None,
        }
    }

    /// The result of a pass of `batch` samples whose marks mean nothing.
    pub(crate) fn unused<T>(
        targets: &Targets,
        batch: usize,
        pass: impl FnOnce(&mut Self) -> T,
    ) -> Result<T, CurvatureError> {
        let mut probes = Self::new(targets, batch, Purpose::Nothing);
        let result = pass(&mut probes);
        probes.refusal.map_or(Ok(result), Err)
    }

    /// The identifiers among `ids` whose gradients are wanted; none after a refusal.
    fn wanted<const N: usize>(
        &mut self,
        layer: &'static str,
        ids: [Option<ParamId>; N],
        rows: usize,
    ) -> [Option<u64>; N] {
        if self.purpose == Purpose::Nothing {
            return [None; N];
        }
        let ids = ids.map(|id| id.map(|id| id.val()));
        if ids.iter().flatten().any(|&id| !self.targets.knows(id)) {
            self.refuse(CurvatureError::Argument {
                field: "a marked layer",
                got: format!("{layer} that is not of the model"),
                expected: "a layer of the model that the forward pass is given",
            });
            return [None; N];
        }
        let wanted = ids.map(|id| id.filter(|&id| self.targets.get(id).is_some()));
        if rows != self.batch && wanted.iter().any(Option::is_some) {
            self.refuse_use(
                format!("{layer} on {rows} rows of {} samples", self.batch),
                "keep the samples in the first dimension of what marked layers get: `[n, tokens, features]`",
            );
            return [None; N];
        }
        wanted
    }

    fn refuse(&mut self, error: CurvatureError) {
        self.refusal.get_or_insert(error);
    }

    fn refuse_use(&mut self, what: String, mend: &'static str) {
        self.refuse(CurvatureError::Unsupported { what, mend });
    }

    /// Puts a probe behind `output` `[n, …]`, as `rows` `[n, …, …]`, so that going back meets `step`. `kept` scalars of
    /// the input are kept for it.
    fn mark<const D: usize>(
        &mut self,
        step: Step,
        output: Tensor<D>,
        rows: [usize; 3],
        dims: Vec<usize>,
        kept: usize,
    ) -> Tensor<D> {
        let shape = output.dims();
        let output = output.reshape(rows).autodiff();
        let (probe, output) = if output.is_tracked() {
            let zeros = Tensor::<3>::zeros(rows, (&output.device(), output.dtype())).require_grad();
            (zeros.clone(), output + zeros)
        } else {
            let leaf = output.require_grad();
            (leaf.clone(), leaf)
        };
        let size: usize = rows.iter().product();
        self.scalars += kept + 3 * size;
        self.widest = self.widest.max(size / rows[0]);
        self.marks.push(Mark { step, probe, dims });
        output.reshape(shape)
    }
}
