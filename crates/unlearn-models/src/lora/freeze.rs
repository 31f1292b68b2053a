//! Switching training off in a base, and on again in what is handed back.

use std::collections::BTreeSet;

use burn::Tensor;
use burn::module::{Flag, Module, ModuleMapper, Param};
use unlearn_curvature::{ParamPath, PathTracker};

/// What [`freeze`](Self::freeze) has switched off.
#[derive(Debug, Clone, Default)]
pub(super) struct Frozen {
    parameters: BTreeSet<ParamPath>,
    norms: BTreeSet<ParamPath>,
}

impl Frozen {
    /// A copy of `module` on a plain device of which training will move the values at `but` only. Batch norms none of
    /// whose values are among them keep to their running statistics.
    pub(super) fn freeze<M: Module>(module: &M, but: &BTreeSet<ParamPath>) -> (M, Self) {
        let mut frozen = Self::default();
        let mut switch =
            Switch { tracker: PathTracker::default(), but, frozen: &mut frozen, turn: Turn::Off };
        // Flags of a copy on a plain device are off whatever they were.
        let module = module.valid().train().map(&mut switch).valid();
        (module, frozen)
    }

    /// A copy on a plain device that trains as what was frozen did.
    pub(super) fn thaw<M: Module>(&self, module: &M) -> M {
        let (mut frozen, but) = (self.clone(), BTreeSet::new());
        let mut switch =
            Switch { tracker: PathTracker::default(), but: &but, frozen: &mut frozen, turn: Turn::On };
        module.valid().train().map(&mut switch).valid()
    }
}

enum Turn {
    On,
    Off,
}

struct Switch<'a> {
    tracker: PathTracker,
    but: &'a BTreeSet<ParamPath>,
    frozen: &'a mut Frozen,
    turn: Turn,
}

impl Switch<'_> {
    /// Whether a value of the module that holds the one being visited is spared.
    fn spares_module(&self) -> bool {
        let path = self.tracker.path();
        let Some((module, _)) = path.as_str().rsplit_once('.') else { return false };
        self.but.iter().any(|spared| spared.as_str().rsplit_once('.').is_some_and(|(m, _)| m == module))
    }
}

impl ModuleMapper for Switch<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.tracker.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.tracker.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.tracker.path();
        match self.turn {
            Turn::Off if param.is_require_grad() && !self.but.contains(&path) => {
                self.frozen.parameters.insert(path);
                param.set_require_grad(false)
            }
            Turn::On if self.frozen.parameters.contains(&path) => param.set_require_grad(true),
            _ => param,
        }
    }

    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        let path = self.tracker.path();
        match self.turn {
            Turn::Off
                if self.tracker.container() == "Struct:BatchNorm"
                    && flag.is_enabled()
                    && !self.spares_module() =>
            {
                self.frozen.norms.insert(path);
                flag.with_value(false)
            }
            Turn::On if self.frozen.norms.contains(&path) => flag.with_value(true),
            _ => flag,
        }
    }
}
