//! Walks over a module that take its state and put it back.

use std::collections::BTreeMap;

use burn::Tensor;
use burn::module::{ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, Int, TensorData};
use unlearn_curvature::{ParamInfo, ParamPath, PathTracker};

use super::names::{Layout, OnDisk, transpose};
use super::{CheckpointError, HostTensor, StateDict};

/// Gathers the state; stops at the first error.
#[derive(Default)]
pub(super) struct Reader {
    tracker: PathTracker,
    pub(super) state: StateDict,
    pub(super) error: Option<CheckpointError>,
}

impl Reader {
    fn take<const D: usize>(&mut self, param: &Param<Tensor<D>>) -> Result<(), CheckpointError> {
        let path = self.tracker.path();
        let failed =
            |reason: String| CheckpointError::Device { path: self.tracker.path().to_string(), reason };
        let data = param.val().try_into_data().map_err(|e| failed(e.to_string()))?;
        let values = data.try_into_vec_as::<f32>().map_err(|e| failed(format!("{e:?}")))?;
        let layer = self.tracker.container();
        let info = ParamInfo {
            path,
            id: param.id,
            shape: param.lazy_shape().to_vec(),
            layer: layer.strip_prefix("Struct:").unwrap_or(layer).to_owned(),
            trainable: false,
        };
        let OnDisk { name, shape, layout } = OnDisk::of(&info);
        let values = match layout {
            Layout::Same => values,
            Layout::Transposed => transpose(&values, info.shape[0], info.shape[1]),
        };
        self.state.insert(name, HostTensor { shape, values })
    }

    fn refuse(&mut self, got: &'static str) {
        let path = self.tracker.path().to_string();
        self.error.get_or_insert(CheckpointError::Unsupported { path, got });
    }
}

impl ModuleVisitor for Reader {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.tracker.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.tracker.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.error.is_none()
            && let Err(error) = self.take(param)
        {
            self.error = Some(error);
        }
    }

    fn visit_int<const D: usize>(&mut self, _: &Param<Tensor<D, Int>>) {
        self.refuse("integers");
    }

    fn visit_bool<const D: usize>(&mut self, _: &Param<Tensor<D, Bool>>) {
        self.refuse("truth values");
    }
}

/// Puts values, in Burn's layout, at their paths. Values of a parameter that trains stay a leaf,
/// because the module lies on a plain device meanwhile.
pub(super) struct Writer {
    tracker: PathTracker,
    values: BTreeMap<ParamPath, TensorData>,
}

impl Writer {
    pub(super) fn new(values: BTreeMap<ParamPath, TensorData>) -> Self {
        Self { tracker: PathTracker::default(), values }
    }
}

impl ModuleMapper for Writer {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.tracker.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.tracker.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.values.remove(&self.tracker.path()) {
            None => param,
            Some(data) => param.map(|old| Tensor::from_data(data, &old.device())),
        }
    }
}
