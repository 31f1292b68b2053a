//! Checks that every method makes.

use burn::Tensor;
use burn::module::{Module, ModuleVisitor, Param};
use unlearn_curvature::PathTracker;
use unlearn_models::{LoraConfig, LoraError};
use unlearn_prune::MaskSet;

use crate::UnlearnError;

/// `Ok` when `fine`, else [`UnlearnError::Hyperparameter`].
pub(crate) fn require(
    fine: bool,
    method: &'static str,
    field: &'static str,
    got: impl ToString,
    expected: &str,
    mend: &str,
) -> Result<(), UnlearnError> {
    if fine {
        return Ok(());
    }
    Err(UnlearnError::Hyperparameter {
        method,
        field,
        got: got.to_string(),
        expected: expected.to_owned(),
        mend: mend.to_owned(),
    })
}

/// A number that must be finite and above zero.
pub(crate) fn positive(
    method: &'static str,
    field: &'static str,
    got: f64,
    mend: &str,
) -> Result<(), UnlearnError> {
    require(got.is_finite() && got > 0.0, method, field, got, "finite and above zero", mend)
}

/// The settings of adapters, where there are any.
pub(crate) fn adapters(method: &'static str, lora: Option<&LoraConfig>) -> Result<(), UnlearnError> {
    lora.map_or(Ok(()), LoraConfig::validate).map_err(|error| match error {
        LoraError::Config { field, got, expected, mend } => UnlearnError::Hyperparameter {
            method,
            field: "lora",
            got: format!("{field} = {got}"),
            expected: expected.to_owned(),
            mend: mend.to_owned(),
        },
        other => other.into(),
    })
}

/// A deep copy of `model` on a plain device with the mask applied.
pub(crate) fn enter<M: Module>(model: &M, mask: Option<&MaskSet>) -> Result<M, UnlearnError> {
    Ok(match mask {
        Some(mask) => mask.apply(model)?,
        None => model.valid(),
    })
}

/// Every float parameter and buffer of `model` is finite, or an error that names the first that is not.
pub(crate) fn finite<M: Module>(method: &'static str, model: &M) -> Result<(), UnlearnError> {
    let mut visitor = Finite { tracker: PathTracker::default(), found: None };
    model.visit(&mut visitor);
    match visitor.found {
        None => Ok(()),
        Some(path) => Err(UnlearnError::NonFinite {
            method,
            what: format!("`{path}` of the result"),
            mend: "take a smaller step, or more damping".into(),
        }),
    }
}

struct Finite {
    tracker: PathTracker,
    found: Option<String>,
}

impl ModuleVisitor for Finite {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.tracker.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.tracker.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.found.is_some() {
            return;
        }
        let values = param.val().inner().into_data().try_into_vec_as::<f32>();
        if values.is_ok_and(|values| values.iter().any(|v| !v.is_finite())) {
            self.found = Some(self.tracker.path().to_string());
        }
    }
}
