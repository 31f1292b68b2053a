//! From patterns to layers.

use std::collections::{BTreeMap, BTreeSet};

use unlearn_curvature::{ParamInfo, ParamPath};

use super::{LoraConfig, LoraError, Norms};
use crate::checkpoint::names::OnDisk;
use crate::nearest::nearest;

/// A layer that gets an adapter.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// The layer's name on disk.
    pub(super) module: String,
    /// Its weight.
    pub(super) weight: ParamInfo,
}

/// What a configuration means for one model.
#[derive(Debug, Clone, Default)]
pub(super) struct Chosen {
    /// In order of the module's walk.
    pub(super) targets: Vec<Target>,
    /// Names on disk of the modules trained in full, none inside another.
    pub(super) full: BTreeSet<String>,
    /// The paths of all values of those, statistics included.
    pub(super) full_paths: BTreeSet<ParamPath>,
}

/// What is done with a pattern that matches nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unmatched {
    Refuse,
    Skip,
}

/// Whether `pattern` is the end of `path` from a dot on.
fn matches(path: &str, pattern: &str) -> bool {
    path.strip_suffix(pattern).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The name on disk of the module that holds a value; `None` for a value of the model itself.
fn module_of(info: &ParamInfo) -> Option<String> {
    OnDisk::of(info).name.rsplit_once('.').map(|(module, _)| module.to_owned())
}

fn is_adaptable(info: &ParamInfo) -> bool {
    let weight = info.path.as_str().ends_with(".weight");
    weight && matches!((info.layer.as_str(), info.shape.len()), ("Linear", 2) | ("Conv2d", 4))
}

/// The last part of a path that is no number: what a pattern would say.
fn short(path: &str) -> &str {
    path.rsplit('.').find(|part| part.parse::<usize>().is_err()).unwrap_or(path)
}

fn no_match(field: &'static str, pattern: &str, modules: &BTreeSet<String>) -> LoraError {
    let known: BTreeSet<String> = modules.iter().map(|path| short(path).to_owned()).collect();
    let candidates = known.iter().chain(modules).map(String::as_str);
    let nearest = nearest(pattern, candidates).map(str::to_owned);
    LoraError::NoMatch { field, pattern: pattern.to_owned(), nearest, known: known.into_iter().collect() }
}

impl Chosen {
    /// The layers and modules of a model with these `parameters` that `config` means.
    ///
    /// # Errors
    /// [`LoraError::NoMatch`], if it is to be refused.
    pub(super) fn of(
        parameters: &[ParamInfo],
        config: &LoraConfig,
        unmatched: Unmatched,
    ) -> Result<Self, LoraError> {
        let mut chosen = Self::default();
        let mut modules = BTreeMap::<String, Vec<&ParamInfo>>::new();
        for info in parameters {
            // Every module on the way down can be named.
            let mut name = module_of(info);
            while let Some(module) = name {
                let parent = module.rsplit_once('.').map(|(parent, _)| parent.to_owned());
                modules.entry(module).or_default().push(info);
                name = parent;
            }
        }
        let all: BTreeSet<String> = modules.keys().cloned().collect();
        for pattern in &config.modules_to_save {
            let found: Vec<&String> = all.iter().filter(|module| matches(module, pattern)).collect();
            if found.is_empty() && unmatched == Unmatched::Refuse {
                return Err(no_match("modules_to_save", pattern, &all));
            }
            chosen.full.extend(found.into_iter().cloned());
        }
        if config.norms == Norms::Train {
            let norms = parameters.iter().filter(|info| info.layer == "BatchNorm").filter_map(module_of);
            chosen.full.extend(norms);
        }
        let outer = chosen.full.clone();
        chosen.full.retain(|module| !outer.iter().any(|other| module.starts_with(&format!("{other}."))));
        let inside = chosen.full.iter().filter_map(|module| modules.get(module)).flatten();
        chosen.full_paths = inside.map(|info| info.path.clone()).collect();

        let layers: Vec<Target> = parameters
            .iter()
            .filter(|info| is_adaptable(info))
            .filter_map(|info| Some(Target { module: module_of(info)?, weight: info.clone() }))
            .collect();
        let names: BTreeSet<String> = layers.iter().map(|layer| layer.module.clone()).collect();
        for pattern in &config.targets {
            if unmatched == Unmatched::Refuse && !names.iter().any(|name| matches(name, pattern)) {
                return Err(no_match("targets", pattern, &names));
            }
        }
        let in_full = |layer: &Target| chosen.full_paths.contains(&layer.weight.path);
        for pattern in &config.targets {
            let mut meant = layers.iter().filter(|layer| matches(&layer.module, pattern)).peekable();
            if unmatched == Unmatched::Refuse && meant.peek().is_some() && meant.all(in_full) {
                return Err(LoraError::Config {
                    field: "targets",
                    got: format!("`{pattern}`, all of whose layers are trained in full"),
                    expected: "layers that modules_to_save does not name",
                    mend: "leave it out of one of the two",
                });
            }
        }
        let wanted = |layer: &Target| config.targets.iter().any(|pattern| matches(&layer.module, pattern));
        chosen.targets = layers.into_iter().filter(|layer| wanted(layer) && !in_full(layer)).collect();
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::{matches, short};

    #[test]
    fn patterns_are_ends_of_paths() {
        assert!(matches("layer1.0.conv1", "conv1"));
        assert!(matches("conv1", "conv1"));
        assert!(matches("layer1.0.conv1", "0.conv1"));
        assert!(matches("layer1.0.conv1", "layer1.0.conv1"));
        assert!(!matches("layer1.0.preconv1", "conv1"));
        assert!(!matches("layer1.0.conv1", "conv"));
        assert_eq!(short("layer1.0.downsample.0"), "downsample");
        assert_eq!(short("fc"), "fc");
    }
}
