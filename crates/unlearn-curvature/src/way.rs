//! The ways in which a forward pass can be stated so that per-sample gradients come in batches.

use burn::Tensor;
use burn::module::Module;
use burn::tensor::Device;

use crate::CurvatureError;
use crate::estimate::Columns;
use crate::one_by_one::Unit;
use crate::probes::{Graph, Probes, inspect};
use crate::reduce::Reduce;
use crate::sweep::Targets;
use crate::tape::{Record, Recording, Tape, Var};

/// A way to state a forward pass: [`OnTape`], or in plain Burn, with its layers [`Marked`] or [`OneByOne`]. A builder is of one way,
/// [`OnTape`] unless told otherwise, and takes the [`Forward`] passes of that way. Implemented here only.
pub trait Way: private::Sealed + Sized {
    /// What the forward pass takes: pictures, `[n, channels, height, width]`.
    type Input;
    /// What it is written on.
    type Tape<'t>;
    /// What it returns: logits, `[n, k]`, row i those of picture i.
    type Logits;
    /// A batch that went forward.
    #[doc(hidden)]
    type Batch;
    /// Most columns that go back at once.
    #[doc(hidden)]
    const COLUMNS: usize;
    /// Most samples that go forward at once, but for a group of a group mean, which goes whole.
    #[doc(hidden)]
    const BATCH: usize = usize::MAX;

    /// Takes `images` forward: the logits on a plain device, and what goes back.
    #[doc(hidden)]
    fn record<M: Module, F: Forward<M, Self>>(
        model: &M,
        forward: &F,
        targets: &Targets,
        images: Tensor<4>,
    ) -> Result<(Tensor<2>, Self::Batch), CurvatureError>;

    /// Looks for what would make gradients wrong in silence, with the first `images`. Samples alone need no look. A tape
    /// needs little: its operations keep samples apart, and going back shows which parameter does not lead to the logits.
    /// It does not see a value that is worked on beside it and brought back as a constant.
    #[doc(hidden)]
    fn inspect<M: Module, F: Forward<M, Self>>(
        model: &M,
        forward: &F,
        targets: &Targets,
        images: &dyn Fn() -> Result<Tensor<4>, CurvatureError>,
    ) -> Result<(), CurvatureError> {
        let _ = (model, forward, targets, images);
        Ok(())
    }

    /// Bytes that a batch holds, and the scalars a sample of the widest value that a column goes through.
    #[doc(hidden)]
    fn size(batch: &Self::Batch) -> (usize, usize);

    /// Carries `columns` back to `reducers`. A batch that goes back only once is taken, and made `again` when it is
    /// gone.
    #[doc(hidden)]
    fn sweep(
        batch: &mut Option<Self::Batch>,
        again: &dyn Fn() -> Result<Self::Batch, CurvatureError>,
        columns: (&Columns, usize),
        targets: &Targets,
        device: &Device,
        reducers: &mut [&mut dyn Reduce],
    ) -> Result<(), CurvatureError>;
}

/// The forward pass of a model `M`, stated in the way `W`. Implemented for every function and closure of the type:
///
/// | `W` | type |
/// |---|---|
/// | [`OnTape`] | `Fn(&M, Var<4>, &mut dyn Tape) -> Var<2>` |
/// | [`Marked`], [`OneByOne`] | `Fn(&M, Tensor<4>, &mut Probes) -> Tensor<2>` |
pub trait Forward<M, W: Way>: for<'m, 't> Fn(&'m M, W::Input, W::Tape<'t>) -> W::Logits {}

impl<M, W: Way, F> Forward<M, W> for F where F: for<'m, 't> Fn(&'m M, W::Input, W::Tape<'t>) -> W::Logits {}

/// The forward pass is written on a [`Tape`]: one forward pass a batch, and a reverse sweep of our own with any number
/// of columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnTape;

/// The forward pass is plain Burn, and the layers with parameters are marked with [`Probes`]: a forward pass and one of
/// Burn's backward passes a batch and column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marked;

/// The forward pass is plain Burn and nothing need be said of its layers (marks are passed over): a forward and a full
/// backward pass of Burn's for every sample and column. For what cannot be marked; slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OneByOne;

mod private {
    pub trait Sealed {}
    impl Sealed for super::OnTape {}
    impl Sealed for super::Marked {}
    impl Sealed for super::OneByOne {}
}

impl Way for OnTape {
    type Input = Var<4>;
    type Tape<'t> = &'t mut (dyn Tape + 't);
    type Logits = Var<2>;
    type Batch = Recording;
    const COLUMNS: usize = usize::MAX;

    fn record<M: Module, F: Forward<M, Self>>(
        model: &M,
        forward: &F,
        targets: &Targets,
        images: Tensor<4>,
    ) -> Result<(Tensor<2>, Recording), CurvatureError> {
        Record::new(targets.ids()).forward(images, |images, tape| forward(model, images, tape))
    }

    fn size(batch: &Recording) -> (usize, usize) {
        (batch.bytes(), batch.widest())
    }

    fn sweep(
        batch: &mut Option<Recording>,
        again: &dyn Fn() -> Result<Recording, CurvatureError>,
        (columns, first): (&Columns, usize),
        targets: &Targets,
        device: &Device,
        reducers: &mut [&mut dyn Reduce],
    ) -> Result<(), CurvatureError> {
        let recording = match batch {
            Some(recording) => recording,
            None => batch.insert(again()?),
        };
        recording.sweep(columns, first, targets, device, reducers)
    }
}

impl Way for Marked {
    type Input = Tensor<4>;
    type Tape<'t> = &'t mut Probes;
    type Logits = Tensor<2>;
    type Batch = Graph;
    const COLUMNS: usize = 1;

    fn record<M: Module, F: Forward<M, Self>>(
        model: &M,
        forward: &F,
        targets: &Targets,
        images: Tensor<4>,
    ) -> Result<(Tensor<2>, Graph), CurvatureError> {
        Graph::record(targets, images, |images, probes| forward(model, images, probes))
    }

    fn inspect<M: Module, F: Forward<M, Self>>(
        model: &M,
        forward: &F,
        targets: &Targets,
        images: &dyn Fn() -> Result<Tensor<4>, CurvatureError>,
    ) -> Result<(), CurvatureError> {
        inspect::unmarked_uses(model, targets, images()?, forward)?;
        inspect::coupling(targets, images()?, |images, probes| forward(model, images, probes))
    }

    fn size(batch: &Graph) -> (usize, usize) {
        (batch.bytes(), batch.widest())
    }

    fn sweep(
        batch: &mut Option<Graph>,
        again: &dyn Fn() -> Result<Graph, CurvatureError>,
        (columns, first): (&Columns, usize),
        targets: &Targets,
        device: &Device,
        reducers: &mut [&mut dyn Reduce],
    ) -> Result<(), CurvatureError> {
        each_column(batch, again, columns, |graph, column| {
            graph.sweep(column, first, targets, device, reducers)
        })
    }
}

impl Way for OneByOne {
    type Input = Tensor<4>;
    type Tape<'t> = &'t mut Probes;
    type Logits = Tensor<2>;
    type Batch = Unit;
    const COLUMNS: usize = 1;
    const BATCH: usize = 1;

    fn record<M: Module, F: Forward<M, Self>>(
        model: &M,
        forward: &F,
        targets: &Targets,
        images: Tensor<4>,
    ) -> Result<(Tensor<2>, Unit), CurvatureError> {
        Unit::record(model, targets, images, |model, images, probes| forward(model, images, probes))
    }

    fn size(batch: &Unit) -> (usize, usize) {
        (batch.bytes(), 0)
    }

    fn sweep(
        batch: &mut Option<Unit>,
        again: &dyn Fn() -> Result<Unit, CurvatureError>,
        (columns, first): (&Columns, usize),
        targets: &Targets,
        device: &Device,
        reducers: &mut [&mut dyn Reduce],
    ) -> Result<(), CurvatureError> {
        each_column(batch, again, columns, |unit, column| {
            unit.sweep(column, first, targets, device, reducers)
        })
    }
}

/// Gives every column a batch of its own: the one that is there first, then new ones.
fn each_column<B>(
    batch: &mut Option<B>,
    again: &dyn Fn() -> Result<B, CurvatureError>,
    columns: &Columns,
    mut sweep: impl FnMut(B, &Columns) -> Result<(), CurvatureError>,
) -> Result<(), CurvatureError> {
    for column in 0..columns.count() {
        let batch = match batch.take() {
            Some(batch) => batch,
            None => again()?,
        };
        sweep(batch, &columns.part(column..column + 1))?;
    }
    Ok(())
}
