//! Dotted names of parameters, and a visitor that reads them off any Burn module.

use std::fmt;

use burn::Tensor;
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use serde::{Deserialize, Serialize};

/// Where a parameter stands in its module, as field names joined by dots:
/// `layer1.0.conv1.weight`, `fc.bias`. These are *Burn's* field names, so a batch norm has
/// `bn1.gamma`; the names that PyTorch uses exist only on disk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ParamPath(String);

impl ParamPath {
    /// Wraps a dotted name.
    pub fn new(path: impl Into<String>) -> Self {
        Self(path.into())
    }

    /// The dotted name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ParamPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for ParamPath {
    fn from(path: &str) -> Self {
        Self(path.to_owned())
    }
}

/// Keeps the dotted path while Burn walks a module: call [`enter`](Self::enter) and
/// [`exit`](Self::exit) from the visitor's or mapper's `enter_module` and `exit_module`.
#[derive(Debug, Default, Clone)]
pub struct PathTracker {
    names: Vec<String>,
    containers: Vec<String>,
}

impl PathTracker {
    /// Goes one level down.
    pub fn enter(&mut self, name: &str, container: &str) {
        self.names.push(name.to_owned());
        self.containers.push(container.to_owned());
    }

    /// Goes one level up.
    pub fn exit(&mut self) {
        self.names.pop();
        self.containers.pop();
    }

    /// The path of the value being visited.
    pub fn path(&self) -> ParamPath {
        ParamPath(self.names.join("."))
    }

    /// The type that holds the value being visited, as Burn writes it: `Struct:Conv2d`.
    pub fn container(&self) -> &str {
        self.containers.last().map_or("", String::as_str)
    }
}

/// What is known of one float parameter or buffer without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamInfo {
    /// Its place in the module.
    pub path: ParamPath,
    /// Burn's identifier; it changes whenever a module is built anew.
    pub id: ParamId,
    /// Its shape, in Burn's layout (a `Linear` weight is `[d_input, d_output]`).
    pub shape: Vec<usize>,
    /// The type of the layer that holds it (`Conv2d`, `Linear`, `BatchNorm`, …).
    pub layer: String,
    /// Whether training moves it. Running statistics and frozen parameters say `false`.
    pub trainable: bool,
}

struct InfoVisitor {
    tracker: PathTracker,
    found: Vec<ParamInfo>,
}

impl ModuleVisitor for InfoVisitor {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.tracker.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.tracker.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let layer = self.tracker.container();
        self.found.push(ParamInfo {
            path: self.tracker.path(),
            id: param.id,
            shape: param.lazy_shape().to_vec(),
            layer: layer.strip_prefix("Struct:").unwrap_or(layer).to_owned(),
            trainable: param.is_require_grad(),
        });
    }
}

/// Lists the float parameters and buffers of `module` in traversal order.
///
/// Trainability is what training would see: it is read off `module.valid().train()`, so a module
/// that lies on a plain device answers as its training copy would.
pub fn parameters<M: Module>(module: &M) -> Vec<ParamInfo> {
    let mut visitor = InfoVisitor { tracker: PathTracker::default(), found: Vec::new() };
    module.valid().train().visit(&mut visitor);
    visitor.found
}

#[cfg(test)]
mod tests;
