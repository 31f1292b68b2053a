//! Changing and reading parameter values by path, on plain and autodiff devices alike.

use std::collections::{BTreeMap, BTreeSet};

use burn::Tensor;
use burn::module::{Module, ModuleVisitor, Param};
use unlearn_curvature::{ParamPath, PathTracker};

use crate::PruneError;

/// Applies `f` to the value of `param` and leaves a *leaf* behind.
///
/// `Param::map` alone would make an autodiff parameter the result of an operation: it would
/// silently stop training. So the value is changed off the graph and put back as a leaf with the
/// gradient setting and checkpointing strategy that it had.
pub(crate) fn edit<const D: usize>(
    param: Param<Tensor<D>>,
    f: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Param<Tensor<D>> {
    let tracked = param.is_require_grad();
    param.map(|value| {
        if !value.is_autodiff() {
            return f(value);
        }
        let strategy = value.gradient_checkpointing_strategy();
        let value = f(value.without_autodiff()).autodiff();
        let value = match strategy {
            Some(strategy) => value.with_gradient_checkpointing_strategy(strategy),
            None => value,
        };
        value.set_require_grad(tracked)
    })
}

/// The values of the parameters at `paths` on the host, row-major.
pub(crate) fn read_values<M: Module>(
    model: &M,
    paths: &BTreeSet<ParamPath>,
) -> Result<BTreeMap<ParamPath, Vec<f32>>, PruneError> {
    let mut reader = Reader { tracker: PathTracker::default(), paths, found: BTreeMap::new() };
    model.visit(&mut reader);
    reader.found.into_iter().map(|(path, values)| Ok((path, to_host(values)?))).collect()
}

/// A tensor's values on the host.
pub(crate) fn to_host(values: Tensor<1>) -> Result<Vec<f32>, PruneError> {
    let data = values.try_into_data().map_err(|e| PruneError::Read { reason: e.to_string() })?;
    data.try_into_vec_as::<f32>().map_err(|e| PruneError::Read { reason: format!("{e:?}") })
}

struct Reader<'a> {
    tracker: PathTracker,
    paths: &'a BTreeSet<ParamPath>,
    found: BTreeMap<ParamPath, Tensor<1>>,
}

impl ModuleVisitor for Reader<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.tracker.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.tracker.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.tracker.path();
        if self.paths.contains(&path) {
            let value = param.base().without_autodiff();
            let n = value.shape().num_elements();
            self.found.insert(path, value.reshape([n]));
        }
    }
}
