//! Parameters as one flat host vector, and back.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::Device;

use crate::{CurvatureError, ParamPath, ParamTree};

/// Names, shapes and order in which the trainable parameters of a module lie in a flat vector: by path,
/// each row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    entries: Vec<(ParamPath, Vec<usize>)>,
    dropped: Vec<usize>,
    len: usize,
}

impl Layout {
    /// The layout of `module`'s trainable parameters.
    pub fn of<M: Module>(module: &M) -> Self {
        let mut entries: Vec<_> = crate::parameters(module)
            .into_iter()
            .filter(|p| p.trainable)
            .map(|p| (p.path, p.shape))
            .collect();
        entries.sort();
        let len = entries.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        Self { entries, dropped: Vec::new(), len }
    }

    /// Number of scalars, p.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Path and shape of each parameter, in order.
    pub fn entries(&self) -> &[(ParamPath, Vec<usize>)] {
        &self.entries
    }

    pub(super) fn set_kept(&mut self, keep: &BTreeMap<ParamPath, Vec<bool>>) -> Result<(), CurvatureError> {
        let unknown: Vec<_> = keep
            .keys()
            .filter(|k| self.entries.iter().all(|(p, _)| p != *k))
            .map(ToString::to_string)
            .collect();
        if !unknown.is_empty() {
            return Err(CurvatureError::Keys { missing: Vec::new(), unknown });
        }
        let mut dropped = Vec::new();
        let mut offset = 0;
        for (path, shape) in &self.entries {
            let size: usize = shape.iter().product();
            if let Some(keep) = keep.get(path) {
                if keep.len() != size {
                    return Err(CurvatureError::Shape {
                        path: path.to_string(),
                        got: vec![keep.len()],
                        expected: shape.clone(),
                    });
                }
                dropped.extend(keep.iter().enumerate().filter(|(_, keep)| !**keep).map(|(i, _)| offset + i));
            }
            offset += size;
        }
        self.dropped = dropped;
        Ok(())
    }

    /// The values of `tree` as one vector, `[p]`; zero where entries are dropped.
    ///
    /// # Errors
    /// [`CurvatureError::Keys`] and [`CurvatureError::Shape`] when the tree is of another module,
    /// [`CurvatureError::Read`] when the device cannot give its values.
    pub fn flatten(&self, tree: &ParamTree) -> Result<Vec<f32>, CurvatureError> {
        let missing: Vec<_> =
            self.entries.iter().filter(|(p, _)| tree.get(p).is_none()).map(|(p, _)| p.to_string()).collect();
        let unknown: Vec<_> = tree
            .iter()
            .filter(|(p, _)| self.entries.iter().all(|(q, _)| q != *p))
            .map(|(p, _)| p.to_string())
            .collect();
        if !missing.is_empty() || !unknown.is_empty() {
            return Err(CurvatureError::Keys { missing, unknown });
        }
        let mut flat = Vec::with_capacity(self.len);
        for ((_, shape), (path, leaf)) in self.entries.iter().zip(tree.iter()) {
            if leaf.shape != *shape {
                return Err(CurvatureError::Shape {
                    path: path.to_string(),
                    got: leaf.shape.clone(),
                    expected: shape.clone(),
                });
            }
            flat.extend(leaf.to_vec()?);
        }
        for &index in &self.dropped {
            flat[index] = 0.0;
        }
        Ok(flat)
    }

    /// The tree whose values are `flat`, `[p]`, rounded to float32, on `device`.
    ///
    /// # Errors
    /// [`CurvatureError::Shape`] when there are more or fewer than p values.
    pub fn unflatten(&self, flat: &[f64], device: &Device) -> Result<ParamTree, CurvatureError> {
        if flat.len() != self.len {
            return Err(CurvatureError::Shape {
                path: "(all parameters)".into(),
                got: vec![flat.len()],
                expected: vec![self.len],
            });
        }
        let mut tree = ParamTree::new();
        let mut offset = 0;
        for (path, shape) in &self.entries {
            let size: usize = shape.iter().product();
            let values = flat[offset..offset + size].iter().map(|&v| v as f32).collect();
            tree.insert_host(path.clone(), shape.clone(), values, device)?;
            offset += size;
        }
        Ok(tree)
    }
}
