//! The parameters whose curvature is asked for.

use std::collections::{BTreeMap, BTreeSet};

use burn::Tensor;
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{DType, Device, TensorData};

use crate::{CurvatureError, ParamPath, ParamTree, PathTracker};

/// One parameter.
#[derive(Debug, Clone)]
pub struct Target {
    /// Burn's identifier.
    pub id: u64,
    /// Its path in the module.
    pub path: ParamPath,
    /// Its shape in Burn's layout.
    pub shape: Vec<usize>,
    /// 1 where an entry is a parameter, 0 where a pruning mask has removed it; flat.
    pub keep: Option<Tensor<1>>,
}

/// The trainable parameters of a module by Burn's identifier.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    by_id: BTreeMap<u64, Target>,
    /// Parameters of the module that are not trained.
    others: BTreeSet<u64>,
}

impl Targets {
    /// All trainable parameters of `module`.
    ///
    /// # Errors
    /// [`CurvatureError::Argument`] when there is none, [`CurvatureError::Unsupported`] when one
    /// parameter stands at two paths or is not float32.
    pub fn of<M: Module>(module: &M) -> Result<Self, CurvatureError> {
        let (mut by_id, mut others) = (BTreeMap::new(), BTreeSet::new());
        for info in crate::parameters(module) {
            if !info.trainable {
                others.insert(info.id.val());
                continue;
            }
            let target = Target { id: info.id.val(), path: info.path, shape: info.shape, keep: None };
            if let Some(other) = by_id.insert(info.id.val(), target.clone()) {
                return Err(CurvatureError::Unsupported {
                    what: format!("one parameter under two names, `{}` and `{}`", other.path, target.path),
                    mend: "keep a shared layer in one field and use it twice, or give the copies identifiers \
                           of their own",
                });
            }
        }
        if by_id.is_empty() {
            return Err(CurvatureError::Argument {
                field: "model",
                got: "a module without trainable parameters".into(),
                expected: "a module with at least one",
            });
        }
        single_precision(module)?;
        Ok(Self { by_id, others })
    }

    /// Takes gradients as zero where `keep` says `false`. Parameters that are not named keep all.
    ///
    /// # Errors
    /// [`CurvatureError::Keys`] for a parameter that is no target, [`CurvatureError::Shape`] for another
    /// number of entries.
    pub fn with_kept(
        mut self,
        keep: &BTreeMap<ParamPath, Vec<bool>>,
        device: &Device,
    ) -> Result<Self, CurvatureError> {
        let unknown: Vec<_> = keep
            .keys()
            .filter(|path| self.by_id.values().all(|target| target.path != **path))
            .map(ToString::to_string)
            .collect();
        if !unknown.is_empty() {
            return Err(CurvatureError::Keys { missing: Vec::new(), unknown });
        }
        for target in self.by_id.values_mut() {
            let Some(keep) = keep.get(&target.path) else { continue };
            let size = target.shape.iter().product::<usize>();
            if keep.len() != size {
                return Err(CurvatureError::Shape {
                    path: target.path.to_string(),
                    got: vec![keep.len()],
                    expected: target.shape.clone(),
                });
            }
            let keep: Vec<f32> = keep.iter().map(|&keep| f32::from(u8::from(keep))).collect();
            target.keep = Some(Tensor::from_data(TensorData::new(keep, [size]), device));
        }
        Ok(self)
    }

    /// The parameters' identifiers, for [`Record::new`](crate::tape::Record::new).
    pub fn ids(&self) -> impl Iterator<Item = ParamId> {
        self.by_id.keys().map(|&id| ParamId::from(id))
    }

    /// The parameters in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Target> {
        self.by_id.values()
    }

    /// Number of parameters (tensors).
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// `tree` with zeros where an entry does not count.
    ///
    /// # Errors
    /// [`CurvatureError::Keys`] and [`CurvatureError::Shape`] unless it has exactly these parameters.
    pub fn restrict(&self, tree: &ParamTree) -> Result<ParamTree, CurvatureError> {
        let known: BTreeMap<&ParamPath, &Target> = self.iter().map(|target| (&target.path, target)).collect();
        let missing: Vec<_> =
            known.keys().filter(|path| tree.get(path).is_none()).map(ToString::to_string).collect();
        let unknown: Vec<_> = tree
            .iter()
            .filter(|(path, _)| !known.contains_key(path))
            .map(|(path, _)| path.to_string())
            .collect();
        if !missing.is_empty() || !unknown.is_empty() {
            return Err(CurvatureError::Keys { missing, unknown });
        }
        if let Some((path, leaf)) = tree.iter().find(|(path, leaf)| known[path].shape != leaf.shape) {
            return Err(CurvatureError::Shape {
                path: path.to_string(),
                got: leaf.shape.clone(),
                expected: known[path].shape.clone(),
            });
        }
        Ok(tree.map(|path, values| match &known[path].keep {
            Some(keep) => values * keep.clone(),
            None => values,
        }))
    }

    /// Whether the module has a parameter `id`, trained or not.
    pub(crate) fn knows(&self, id: u64) -> bool {
        self.by_id.contains_key(&id) || self.others.contains(&id)
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Target> {
        self.by_id.get(&id)
    }
}

/// Cotangents and sums are float32 all through; another type would meet them half-way back.
fn single_precision<M: Module>(module: &M) -> Result<(), CurvatureError> {
    struct Other(PathTracker, Option<(ParamPath, DType)>);

    impl ModuleVisitor for Other {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.0.enter(name, container_type);
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.exit();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let dtype = param.val().dtype();
            if dtype != DType::F32 {
                self.1.get_or_insert((self.0.path(), dtype));
            }
        }
    }

    let mut other = Other(PathTracker::default(), None);
    module.visit(&mut other);
    match other.1 {
        None => Ok(()),
        Some((path, dtype)) => Err(CurvatureError::Unsupported {
            what: format!("`{path}` of type {dtype:?}"),
            mend: "cast the model to float32, and its inputs",
        }),
    }
}
