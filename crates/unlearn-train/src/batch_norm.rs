//! Batch norms that use their running statistics while the rest trains.

use std::collections::BTreeSet;

use burn::module::{Flag, Module, ModuleMapper, Param};
use unlearn_curvature::{ParamPath, PathTracker};

/// The batch norms that [`freeze`](Self::freeze) has switched off, to be switched on again in what
/// is handed back: Burn's flags are sticky through `valid` and `train`.
#[derive(Debug, Default)]
pub(crate) struct FrozenNorms {
    paths: BTreeSet<ParamPath>,
}

impl FrozenNorms {
    /// Turns the batch norms of `model` to their running statistics. Dropout stays as it is, and so
    /// do the norms that were off before.
    pub(crate) fn freeze<M: Module>(model: M) -> (M, Self) {
        let mut flags = Flags { tracker: PathTracker::default(), paths: BTreeSet::new(), turn: Turn::Off };
        let model = model.map(&mut flags);
        (model, Self { paths: flags.paths })
    }

    /// Undoes [`freeze`](Self::freeze) on a copy of the model.
    pub(crate) fn thaw<M: Module>(&self, model: M) -> M {
        if self.paths.is_empty() {
            return model;
        }
        let paths = self.paths.clone();
        model.map(&mut Flags { tracker: PathTracker::default(), paths, turn: Turn::On })
    }
}

enum Turn {
    On,
    Off,
}

struct Flags {
    tracker: PathTracker,
    paths: BTreeSet<ParamPath>,
    turn: Turn,
}

impl ModuleMapper for Flags {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.tracker.enter(name, container_type);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.tracker.exit();
    }

    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        let path = self.tracker.path();
        match self.turn {
            Turn::Off if self.tracker.container() == "Struct:BatchNorm" && flag.is_enabled() => {
                self.paths.insert(path);
                flag.with_value(false)
            }
            Turn::On if self.paths.contains(&path) => flag.with_value(true),
            _ => flag,
        }
    }
}
