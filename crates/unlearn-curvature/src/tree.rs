//! Values shaped like a module's parameters: gradients, Fisher diagonals, update directions.

mod transfer;

use std::collections::BTreeMap;

use burn::Tensor;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, TensorData};

use self::transfer::{GradientReader, ValueReader, ValueWriter};
use crate::CurvatureError;
use crate::path::{ParamPath, PathTracker};

/// One entry of a [`ParamTree`]: a tensor laid out flat, and the shape it stands for.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// The shape in Burn's layout.
    pub shape: Vec<usize>,
    /// The values, `[product of shape]`, row-major, on a plain (untracked) device.
    pub values: Tensor<1>,
}

impl Leaf {
    /// The values on the host, in row-major order.
    ///
    /// # Errors
    /// [`CurvatureError::Read`] when the device cannot give them.
    pub fn to_vec(&self) -> Result<Vec<f32>, CurvatureError> {
        read(self.values.clone())
    }
}

/// A map from parameter path to a tensor of that parameter's shape.
///
/// Sums, means and products are plain element-wise arithmetic between trees with equal keys; a
/// missing or misshapen key is an error, never a silent skip.
#[derive(Debug, Clone, Default)]
pub struct ParamTree {
    leaves: BTreeMap<ParamPath, Leaf>,
}

impl ParamTree {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// The leaves in path order.
    pub fn iter(&self) -> impl Iterator<Item = (&ParamPath, &Leaf)> {
        self.leaves.iter()
    }

    /// Number of leaves.
    pub fn len(&self) -> usize {
        self.leaves.len()
    }

    /// Whether there is no leaf.
    pub fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// Number of scalars in all leaves.
    pub fn num_scalars(&self) -> usize {
        self.leaves.values().map(|l| l.shape.iter().product::<usize>()).sum()
    }

    /// The leaf at `path`.
    pub fn get(&self, path: &ParamPath) -> Option<&Leaf> {
        self.leaves.get(path)
    }

    /// Puts a flat tensor at `path`, replacing what was there.
    ///
    /// # Errors
    /// [`CurvatureError::Shape`] when the number of values is not the product of `shape`.
    pub fn insert(
        &mut self,
        path: ParamPath,
        shape: Vec<usize>,
        values: Tensor<1>,
    ) -> Result<(), CurvatureError> {
        let expected: usize = shape.iter().product();
        let got = values.dims()[0];
        if got != expected {
            return Err(CurvatureError::Shape { path: path.to_string(), got: vec![got], expected: shape });
        }
        self.leaves.insert(path, Leaf { shape, values });
        Ok(())
    }

    /// Puts host values at `path`.
    ///
    /// # Errors
    /// As [`insert`](Self::insert).
    pub fn insert_host(
        &mut self,
        path: ParamPath,
        shape: Vec<usize>,
        values: Vec<f32>,
        device: &Device,
    ) -> Result<(), CurvatureError> {
        let n = values.len();
        let plain = device.clone().without_autodiff();
        self.insert(path, shape, Tensor::from_data(TensorData::new(values, [n]), &plain))
    }

    /// The current values of all trainable parameters of `module`.
    pub fn of_parameters<M: Module>(module: &M) -> Self {
        let mut reader = ValueReader { tracker: PathTracker::default(), tree: Self::new() };
        module.valid().train().visit(&mut reader);
        reader.tree
    }

    /// Takes the gradients of `module`'s trainable parameters. A parameter that the loss did not
    /// reach gets zeros.
    pub fn of_gradients<M: Module>(module: &M, gradients: &GradientsParams) -> Self {
        let mut reader = GradientReader { tracker: PathTracker::default(), gradients, tree: Self::new() };
        module.visit(&mut reader);
        reader.tree
    }

    /// A tree of zeros with the same keys and shapes.
    pub fn zeros_like(&self) -> Self {
        self.map(|_, x| x.zeros_like())
    }

    /// Applies `f` to every leaf.
    pub fn map(&self, mut f: impl FnMut(&ParamPath, Tensor<1>) -> Tensor<1>) -> Self {
        let leaves = self
            .leaves
            .iter()
            .map(|(path, leaf)| {
                let values = f(path, leaf.values.clone());
                (path.clone(), Leaf { shape: leaf.shape.clone(), values })
            })
            .collect();
        Self { leaves }
    }

    /// Applies `f` to the leaves of two trees with equal keys.
    ///
    /// # Errors
    /// [`CurvatureError::Keys`] when the keys differ, [`CurvatureError::Shape`] when shapes do.
    pub fn zip(
        &self,
        other: &Self,
        mut f: impl FnMut(Tensor<1>, Tensor<1>) -> Tensor<1>,
    ) -> Result<Self, CurvatureError> {
        self.same_keys(other)?;
        let leaves = self
            .leaves
            .iter()
            .map(|(path, leaf)| {
                let values = f(leaf.values.clone(), other.leaves[path].values.clone());
                (path.clone(), Leaf { shape: leaf.shape.clone(), values })
            })
            .collect();
        Ok(Self { leaves })
    }

    /// Applies `f` to every pair of values of two trees with equal keys, in float64 on the host; the result is
    /// rounded to float32 and lies where `self` does.
    ///
    /// # Errors
    /// As [`zip`](Self::zip), or [`CurvatureError::Read`].
    pub fn zip_host(&self, other: &Self, mut f: impl FnMut(f64, f64) -> f64) -> Result<Self, CurvatureError> {
        self.same_keys(other)?;
        let mut result = Self::new();
        for (path, leaf) in &self.leaves {
            let right = other.leaves[path].to_vec()?;
            let pairs = leaf.to_vec()?.into_iter().zip(right);
            let values = pairs.map(|(a, b)| f(f64::from(a), f64::from(b)) as f32).collect();
            result.insert_host(path.clone(), leaf.shape.clone(), values, &leaf.values.device())?;
        }
        Ok(result)
    }

    /// ⟨self, other⟩ in float64 throughout, on the host.
    ///
    /// # Errors
    /// As [`zip_host`](Self::zip_host).
    pub fn dot_host(&self, other: &Self) -> Result<f64, CurvatureError> {
        self.same_keys(other)?;
        let mut sum = 0.0;
        for (path, leaf) in &self.leaves {
            let right = other.leaves[path].to_vec()?;
            sum += leaf.to_vec()?.iter().zip(right).map(|(a, b)| f64::from(*a) * f64::from(b)).sum::<f64>();
        }
        Ok(sum)
    }

    /// `self + other`.
    ///
    /// # Errors
    /// As [`zip`](Self::zip).
    pub fn add(&self, other: &Self) -> Result<Self, CurvatureError> {
        self.zip(other, Tensor::add)
    }

    /// `self − other`.
    ///
    /// # Errors
    /// As [`zip`](Self::zip).
    pub fn sub(&self, other: &Self) -> Result<Self, CurvatureError> {
        self.zip(other, Tensor::sub)
    }

    /// `factor · self`.
    pub fn scale(&self, factor: f64) -> Self {
        self.map(|_, x| x.mul_scalar(factor))
    }

    /// ⟨self, other⟩ summed over all leaves, in float64 across leaves.
    ///
    /// # Errors
    /// As [`zip`](Self::zip), or [`CurvatureError::Read`].
    pub fn dot(&self, other: &Self) -> Result<f64, CurvatureError> {
        self.same_keys(other)?;
        let mut sum = 0.0;
        for (path, leaf) in &self.leaves {
            let product = leaf.values.clone().mul(other.leaves[path].values.clone()).sum();
            sum += f64::from(read(product)?[0]);
        }
        Ok(sum)
    }

    /// `module` with the values of this tree at the given paths; everything else, and whether a
    /// parameter is trained, stays. The result lies on a plain device.
    ///
    /// # Errors
    /// [`CurvatureError::Keys`] when a path of the tree is not in the module,
    /// [`CurvatureError::Shape`] when a shape differs.
    pub fn write_into<M: Module>(&self, module: &M) -> Result<M, CurvatureError> {
        let known: BTreeMap<_, _> =
            crate::path::parameters(module).into_iter().map(|p| (p.path, p.shape)).collect();
        for (path, leaf) in &self.leaves {
            match known.get(path) {
                None => {
                    return Err(CurvatureError::Keys {
                        missing: Vec::new(),
                        unknown: vec![path.to_string()],
                    });
                }
                Some(shape) if *shape != leaf.shape => {
                    return Err(CurvatureError::Shape {
                        path: path.to_string(),
                        got: leaf.shape.clone(),
                        expected: shape.clone(),
                    });
                }
                Some(_) => {}
            }
        }
        let mut writer = ValueWriter { tracker: PathTracker::default(), tree: self };
        Ok(module.valid().map(&mut writer))
    }

    fn same_keys(&self, other: &Self) -> Result<(), CurvatureError> {
        let missing: Vec<_> =
            self.leaves.keys().filter(|k| !other.leaves.contains_key(k)).map(ToString::to_string).collect();
        let unknown: Vec<_> =
            other.leaves.keys().filter(|k| !self.leaves.contains_key(k)).map(ToString::to_string).collect();
        if !missing.is_empty() || !unknown.is_empty() {
            return Err(CurvatureError::Keys { missing, unknown });
        }
        for (path, leaf) in &self.leaves {
            let got = &other.leaves[path].shape;
            if *got != leaf.shape {
                return Err(CurvatureError::Shape {
                    path: path.to_string(),
                    got: got.clone(),
                    expected: leaf.shape.clone(),
                });
            }
        }
        Ok(())
    }
}

pub(crate) fn read(values: Tensor<1>) -> Result<Vec<f32>, CurvatureError> {
    let data = values.try_into_data().map_err(|e| CurvatureError::Read { reason: e.to_string() })?;
    data.try_into_vec_as::<f32>().map_err(|e| CurvatureError::Read { reason: format!("{e:?}") })
}

#[cfg(test)]
mod tests;
