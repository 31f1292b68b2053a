//! The optimizer's state out of a run and into one.
//!
//! A tensor is named `<parameter path>:<field>.<field>`, as Burn derives the fields; whole numbers
//! (AdamW's step count) stand under the same names in the file's text.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{Optimizer, RecordState, StateSink, StateSource};
use burn::tensor::{Tensor, TensorData};
use burn_pack::Scalar;
use serde::{Deserialize, Serialize};
use unlearn_curvature::PathTracker;
use unlearn_models::HostTensor;

use crate::TrainError;
use crate::optimizer::{Rule, Stepper};
use crate::tensor_file::TensorFile;

/// A scalar of a state, in the file's text.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Number {
    Int(i64),
    Unsigned(u64),
    Float(f64),
    Bool(bool),
}

impl From<Scalar> for Number {
    fn from(scalar: Scalar) -> Self {
        match scalar {
            Scalar::Int(v) => Self::Int(v),
            Scalar::UInt(v) => Self::Unsigned(v),
            Scalar::Float(v) => Self::Float(v),
            Scalar::Bool(v) => Self::Bool(v),
        }
    }
}

impl From<Number> for Scalar {
    fn from(number: Number) -> Self {
        match number {
            Number::Int(v) => Self::Int(v),
            Number::Unsigned(v) => Self::UInt(v),
            Number::Float(v) => Self::Float(v),
            Number::Bool(v) => Self::Bool(v),
        }
    }
}

impl Stepper {
    /// The state for the parameters of `model`.
    ///
    /// # Errors
    /// [`TrainError::Read`].
    pub(crate) fn export<M: Module>(&self, model: &M) -> Result<TensorFile, TrainError> {
        match self {
            Self::Sgd(rule) => rule.export(model),
            Self::AdamW(rule) => rule.export(model),
        }
    }

    /// Takes over a state that was exported for an equal model, all of it.
    ///
    /// # Errors
    /// In words, what does not fit.
    pub(crate) fn import<M: Module>(&mut self, file: &TensorFile, model: &M) -> Result<(), String> {
        match self {
            Self::Sgd(rule) => rule.import(file, model),
            Self::AdamW(rule) => rule.import(file, model),
        }
    }
}

impl<O: Optimizer> Rule<O> {
    fn export<M: Module>(&self, model: &M) -> Result<TensorFile, TrainError> {
        let mut reader = Reader { rule: self, tracker: PathTracker::default(), sink: StateSink::default() };
        model.visit(&mut reader);
        let failed = |reason: String| TrainError::Read { reason };
        let mut tensors = BTreeMap::new();
        for (name, data) in reader.sink.tensors {
            let shape = data.shape().to_vec();
            let values = data.try_into_vec_as::<f32>().map_err(|e| failed(format!("{name}: {e:?}")))?;
            tensors.insert(name, HostTensor { shape, values });
        }
        let numbers: BTreeMap<String, Number> =
            reader.sink.scalars.into_iter().map(|(name, scalar)| (name, scalar.into())).collect();
        let about = serde_json::to_string(&numbers).map_err(|e| failed(e.to_string()))?;
        Ok(TensorFile { tensors, about })
    }

    fn import<M: Module>(&mut self, file: &TensorFile, model: &M) -> Result<(), String> {
        let numbers: BTreeMap<String, Number> =
            serde_json::from_str(&file.about).map_err(|e| e.to_string())?;
        let mut source =
            StateSource::new(numbers.into_iter().map(|(name, number)| (name, number.into())).collect());
        for (name, tensor) in &file.tensors {
            let data = TensorData::new(tensor.values.clone(), tensor.shape.clone());
            source.insert_tensor(name.clone(), data);
        }
        let mut writer = Writer { rule: self, tracker: PathTracker::default(), source, fault: None };
        model.visit(&mut writer);
        match writer.fault {
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }
}

/// What the names of a parameter's state begin with. No path holds a colon, so that a parameter
/// never answers for one below it (`weight` for `weight.lora.a`).
fn prefix(tracker: &PathTracker) -> String {
    format!("{}:state", tracker.path())
}

struct Reader<'a, O> {
    rule: &'a Rule<O>,
    tracker: PathTracker,
    sink: StateSink,
}

impl<O: Optimizer> ModuleVisitor for Reader<'_, O> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.tracker.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.tracker.exit();
    }

    fn visit_float<const D: usize>(&mut self, _: &Param<Tensor<D>>) {
        let state = self.rule.states.get(&self.tracker.path());
        if let Some(state) = state.and_then(|s| s.downcast_ref::<O::State<D>>()) {
            state.state_flatten(&prefix(&self.tracker), &mut self.sink);
        }
    }
}

struct Writer<'a, O> {
    rule: &'a mut Rule<O>,
    tracker: PathTracker,
    source: StateSource,
    fault: Option<String>,
}

impl<O: Optimizer> ModuleVisitor for Writer<'_, O> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.tracker.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.tracker.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let prefix = prefix(&self.tracker);
        if !self.source.has_under(&prefix) {
            return;
        }
        let device = param.lazy_device().without_autodiff();
        match O::State::<D>::state_unflatten(&prefix, &mut self.source, &device) {
            Some(state) => {
                self.rule.states.insert(self.tracker.path(), Box::new(state));
            }
            None => {
                self.fault
                    .get_or_insert_with(|| format!("the state of {} is incomplete", self.tracker.path()));
            }
        }
    }
}
