//! Identifiers of parameters that follow from their paths.

use burn::Tensor;
use burn::module::{Flag, Module, ModuleMapper, Param, ParamId};
use burn::tensor::{Bool, Int};
use sha2::{Digest, Sha256};
use unlearn_curvature::PathTracker;

/// `module` with identifiers that follow from the parameters' paths alone.
///
/// Burn gives a parameter a random identifier when it is made, and an optimizer finds its state by
/// it. With stable ones, state that one process saved fits the model that another process builds.
/// Values, trainability and device stay; running statistics keep their own identifiers, which no
/// optimizer uses.
pub fn with_stable_ids<M: Module>(module: M) -> M {
    module.map(&mut Renamer { tracker: PathTracker::default() })
}

/// The identifier of the parameter at `path`: the first eight bytes of its SHA-256, little-endian.
pub fn stable_id(path: &str) -> ParamId {
    let digest = Sha256::digest(path.as_bytes());
    let mut first = [0_u8; 8];
    first.copy_from_slice(&digest[..8]);
    ParamId::from(u64::from_le_bytes(first))
}

struct Renamer {
    tracker: PathTracker,
}

impl Renamer {
    fn id(&self) -> ParamId {
        stable_id(self.tracker.path().as_str())
    }
}

impl ModuleMapper for Renamer {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.tracker.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.tracker.exit();
    }

    fn map_float<const D: usize>(&mut self, mut param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.id = self.id();
        param
    }

    fn map_int<const D: usize>(&mut self, mut param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        param.id = self.id();
        param
    }

    fn map_bool<const D: usize>(&mut self, mut param: Param<Tensor<D, Bool>>) -> Param<Tensor<D, Bool>> {
        param.id = self.id();
        param
    }

    fn map_flag(&mut self, mut flag: Param<Flag>) -> Param<Flag> {
        flag.id = self.id();
        flag
    }
}
