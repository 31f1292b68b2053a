//! What a run must keep.

use burn::optim::GradientsParams;

/// What a run must keep: a pruning mask, frozen parameters.
///
/// # Contract
/// After [`enter`](Self::enter) the model satisfies the constraint. If it does before a step, and
/// the gradients went through [`gradients`](Self::gradients), it does after
/// [`project`](Self::project): exactly, not to rounding.
pub trait Constraint<M>: Send + Sync {
    /// Brings a model into the constraint before the first step.
    fn enter(&self, model: M) -> M {
        self.project(model)
    }

    /// Changes the gradients before the optimizer sees them, so that no momentum gathers where
    /// nothing may move.
    fn gradients(&self, model: &M, gradients: GradientsParams) -> GradientsParams;

    /// Brings the model back after the optimizer's step.
    fn project(&self, model: M) -> M;

    /// What tells this constraint from another, in a word or two: a run directory keeps it and
    /// refuses to go on under another one. A constraint with content (a mask) adds a fingerprint of
    /// it. The default is the name of the type.
    fn describe(&self) -> String {
        std::any::type_name::<Self>().to_owned()
    }
}

/// Keeps nothing: an ordinary run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unconstrained;

impl<M> Constraint<M> for Unconstrained {
    fn gradients(&self, _model: &M, gradients: GradientsParams) -> GradientsParams {
        gradients
    }

    fn project(&self, model: M) -> M {
        model
    }

    fn describe(&self) -> String {
        "unconstrained".to_owned()
    }
}
