//! What a reducer sees of one parameter.

use std::ops::Range;

use burn::Tensor;
use burn::tensor::{Device, TensorData};

use super::targets::Target;
use crate::ParamPath;
use crate::estimate::Columns;
use crate::layer::conv::Geometry;

/// What is common to all parameters in one sweep.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Number of the first unit among all units of the run.
    pub first: usize,
    /// u, the number of units in this sweep.
    pub units: usize,
    /// m, the number of samples that make one unit.
    pub group: usize,
    /// c, the number of columns in this sweep.
    pub columns: usize,
    /// The power of two, `[u]`, that each unit's true gradients are larger (smaller) by than those that
    /// the taps give; 1 unless the cotangents are so small that their squares would leave float32.
    pub scales: Vec<f64>,
    /// Largest of `scales`.
    pub common: f64,
    /// `scales / common`, `[u]`, when they are not all equal.
    pub relative: Option<Tensor<1>>,
}

impl Frame {
    pub(crate) fn new(columns: &Columns, first: usize, device: &Device) -> Self {
        let scales = columns.scales().to_vec();
        let common = scales.iter().copied().fold(0.0, f64::max);
        let relative = scales.iter().any(|&s| s != common).then(|| {
            let relative: Vec<f32> = scales.iter().map(|s| (s / common) as f32).collect();
            Tensor::from_data(TensorData::new(relative, [scales.len()]), device)
        });
        Self {
            first,
            units: scales.len(),
            group: columns.group(),
            columns: columns.count(),
            scales,
            common,
            relative,
        }
    }
}

/// What a weight was multiplied with at one call site.
#[derive(Debug, Clone)]
pub(crate) enum SiteInput {
    /// Pictures, to be cut into patches.
    Image { x: Tensor<4>, geometry: Geometry },
    /// Rows, `[b, t, d]`.
    Rows { x: Tensor<3> },
}

impl SiteInput {
    fn image(&self) -> Option<Tensor<4>> {
        match self {
            Self::Image { x, .. } => Some(x.clone()),
            Self::Rows { .. } => None,
        }
    }

    fn rows(&self) -> Option<Tensor<3>> {
        match self {
            Self::Rows { x } => Some(x.clone()),
            Self::Image { .. } => None,
        }
    }

    fn positions(&self) -> usize {
        match self {
            Self::Image { geometry, .. } => geometry.positions(),
            Self::Rows { x } => x.dims()[1],
        }
    }

    /// `[b, d, t]` of a range of samples.
    fn columns(&self, samples: Range<usize>) -> Tensor<3> {
        match self {
            Self::Image { x, geometry } => geometry.patches(x.clone().slice([samples])),
            Self::Rows { x } => x.clone().slice([samples]).swap_dims(1, 2),
        }
    }

    /// matrix · input: `[p, d]` → `[b, p, t]`.
    fn apply(&self, samples: Range<usize>, matrix: Tensor<2>) -> Tensor<3> {
        match self {
            Self::Image { x, geometry } => geometry.apply(x.clone().slice([samples]), matrix),
            Self::Rows { x } => {
                let x = x.clone().slice([samples]);
                let ([b, t, d], p) = (x.dims(), matrix.dims()[0]);
                x.reshape([b * t, d]).matmul(matrix.transpose()).reshape([b, t, p]).swap_dims(1, 2)
            }
        }
    }
}

/// One use of a weight: what it was multiplied with, and the cotangent of the result, `[b·c, p, t]`.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) input: SiteInput,
    pub(crate) cotangent: Tensor<3>,
}

/// A weight matrix `[p, d]` in one sweep, as the two factors of its gradients. Cloning shares tensors.
#[derive(Debug, Clone)]
pub struct MatrixTap {
    target: Target,
    sites: Vec<Site>,
    outputs: usize,
    inputs: usize,
    units: usize,
    group: usize,
    columns: usize,
}

impl MatrixTap {
    pub(crate) fn new(target: &Target, sites: Vec<Site>, frame: &Frame) -> Self {
        let outputs = sites[0].cotangent.dims()[1];
        let size: usize = target.shape.iter().product();
        Self {
            target: target.clone(),
            sites,
            outputs,
            inputs: size / outputs,
            units: frame.units,
            group: frame.group,
            columns: frame.columns,
        }
    }

    /// The weight's path.
    pub fn path(&self) -> &ParamPath {
        &self.target.path
    }

    /// The weight's shape in Burn's layout.
    pub fn shape(&self) -> &[usize] {
        &self.target.shape
    }

    /// p.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// d.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// t, over all samples of a unit and all uses of the weight.
    pub fn positions(&self) -> usize {
        self.group * self.sites.iter().map(|site| site.input.positions()).sum::<usize>()
    }

    /// u.
    pub fn units(&self) -> usize {
        self.units
    }

    /// c.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// 1 where an entry counts, `[p, d]`; `None` when all do.
    pub fn keep(&self) -> Option<Tensor<2>> {
        self.target.keep.clone().map(|keep| self.matrix(keep))
    }

    /// The inputs (patches) of a range of units, `[u, d, t]`.
    pub fn input(&self, units: Range<usize>) -> Tensor<3> {
        let (u, m, d) = (units.len(), self.group, self.inputs);
        let parts = self.sites.iter().map(|site| {
            let t = site.input.positions();
            let x = site.input.columns(units.start * m..units.end * m);
            if m == 1 { x } else { x.reshape([u, m, d, t]).swap_dims(1, 2).reshape([u, d, m * t]) }
        });
        join(parts.collect(), 2)
    }

    /// The cotangents of a range of units and a range of outputs, `[u, c, p, t]`.
    pub fn cotangent(&self, units: Range<usize>, outputs: Range<usize>) -> Tensor<4> {
        let (u, m, c, p) = (units.len(), self.group, self.columns, outputs.len());
        let rows = units.start * m * c..units.end * m * c;
        let parts = self.sites.iter().map(|site| {
            let t = site.input.positions();
            let g = site.cotangent.clone().slice([rows.clone(), outputs.clone(), 0..t]);
            if m == 1 {
                g.reshape([u, c, p, t])
            } else {
                g.reshape([u, m, c, p, t]).permute([0, 2, 3, 1, 4]).reshape([u, c, p, m * t])
            }
        });
        join(parts.collect(), 3)
    }

    /// Where the factors lie.
    pub(crate) fn device(&self) -> Device {
        self.sites[0].cotangent.device()
    }

    /// Whether [`fused_squares`](Self::fused_squares) serves for this weight.
    pub fn has_fused_squares(&self) -> bool {
        match self.sites.as_slice() {
            [Site { input: SiteInput::Image { x, geometry }, .. }] => {
                geometry.has_fused_squares(x, self.outputs)
            }
            _ => false,
        }
    }

    /// Σ over units and columns of squared gradients, each unit's times its entry of `factors` `[u]` first:
    /// `[p, d]`, with no gradient stored. For convolutions that are used once, on a device that has a kernel
    /// for it; `None` elsewhere. Entries that do not [count](Self::keep) are not zeroed.
    pub fn fused_squares(&self, factors: Option<Tensor<1>>) -> Option<Tensor<2>> {
        match self.sites.as_slice() {
            [Site { input: SiteInput::Image { x, geometry }, cotangent }] => {
                geometry.fused_squares(x, cotangent, self.columns, self.group, factors)
            }
            _ => None,
        }
    }

    /// Σ over units of their gradients times `weights` `[u]`, `[p, d]`, without a patch matrix, for one column; where
    /// [`fused_squares`](Self::fused_squares) serves.
    pub fn fused_sum(&self, weights: Tensor<1>) -> Option<Tensor<2>> {
        let [Site { input: SiteInput::Image { x, geometry }, cotangent }] = self.sites.as_slice() else {
            return None;
        };
        if self.columns != 1 {
            return None;
        }
        let (u, m) = (self.units, self.group);
        let weights = weights.reshape([u, 1]).expand([u, m]).reshape([u * m, 1, 1]);
        geometry.weight_gradient(x, cotangent.clone() * weights)
    }

    /// The gradients of a range of units and outputs (and input channels), `[u·c, entries]`, without a patch matrix,
    /// where [`fused_squares`](Self::fused_squares) serves: `[p, d]` each where `ordered`, else in an order of the
    /// kernel's own with zeros between, the same for every unit. Entries that do not [count](Self::keep) are not zeroed.
    pub(crate) fn fused_gradients(
        &self,
        units: Range<usize>,
        outputs: Range<usize>,
        channels: Option<Range<usize>>,
        ordered: bool,
    ) -> Option<Tensor<2>> {
        let [Site { input: SiteInput::Image { x, geometry }, cotangent }] = self.sites.as_slice() else {
            return None;
        };
        let (m, c) = (self.group, self.columns);
        let samples = units.start * m..units.end * m;
        let channels = channels.unwrap_or(0..geometry.channels);
        let geometry = geometry.with_channels(channels.len());
        let x = x.clone().slice([samples.clone(), channels]);
        let cotangent = cotangent.clone().slice([samples.start * c..samples.end * c, outputs]);
        geometry.single_gradients(&x, &cotangent, (c, m), ordered)
    }

    /// Input channels of the weight where [`fused_gradients`](Self::fused_gradients) serves.
    pub(crate) fn fused_channels(&self) -> Option<usize> {
        match self.sites.as_slice() {
            [Site { input: SiteInput::Image { geometry, .. }, .. }] if self.has_fused_squares() => {
                Some(geometry.channels)
            }
            _ => None,
        }
    }

    /// Taps of one weight in several sweeps as one of all their units.
    pub(crate) fn join(taps: Vec<&Self>) -> Self {
        let mut all = match taps.as_slice() {
            [] => unreachable!("a Gram matrix is of at least one sweep"),
            [only] => return (*only).clone(),
            [first, ..] => (*first).clone(),
        };
        all.units = taps.iter().map(|tap| tap.units).sum();
        for (index, site) in all.sites.iter_mut().enumerate() {
            let parts = || taps.iter().map(|tap| &tap.sites[index]);
            site.cotangent = Tensor::cat(parts().map(|site| site.cotangent.clone()).collect(), 0);
            match &mut site.input {
                SiteInput::Image { x, .. } => {
                    *x = Tensor::cat(parts().filter_map(|site| site.input.image()).collect(), 0);
                }
                SiteInput::Rows { x } => {
                    *x = Tensor::cat(parts().filter_map(|site| site.input.rows()).collect(), 0);
                }
            }
        }
        all
    }

    /// ⟨gradient, matrix⟩ of every unit and column, `[u, c]`, for a matrix `[p, d]`: one more product of
    /// the forward kind, and no gradient.
    pub fn dots(&self, units: Range<usize>, matrix: &Tensor<2>) -> Tensor<2> {
        let (u, m, c, p) = (units.len(), self.group, self.columns, self.outputs);
        let mut sum: Option<Tensor<2>> = None;
        for site in &self.sites {
            let size = p * site.input.positions();
            let image = site.input.apply(units.start * m..units.end * m, matrix.clone());
            let rows = units.start * m * c..units.end * m * c;
            let g = site.cotangent.clone().slice([rows]);
            let product = g.reshape([u * m, c, size]) * image.reshape([u * m, 1, size]);
            let dots = product.sum_dim(2).reshape([u, m, c]).sum_dim(1).reshape([u, c]);
            sum = Some(match sum {
                Some(sum) => sum + dots,
                None => dots,
            });
        }
        sum.unwrap_or_else(|| unreachable!("a tap has at least one site"))
    }

    /// A flat parameter in Burn's layout as the matrix `[p, d]`.
    pub fn matrix(&self, flat: Tensor<1>) -> Tensor<2> {
        if self.is_transposed() {
            flat.reshape([self.inputs, self.outputs]).transpose()
        } else {
            flat.reshape([self.outputs, self.inputs])
        }
    }

    /// Bytes of inputs and cotangents.
    pub(crate) fn bytes(&self) -> usize {
        let scalars = |site: &Site| {
            let input = match &site.input {
                SiteInput::Image { x, .. } => x.shape().num_elements(),
                SiteInput::Rows { x } => x.shape().num_elements(),
            };
            input + site.cotangent.shape().num_elements()
        };
        self.sites.iter().map(scalars).sum::<usize>() * size_of::<f32>()
    }

    /// Gradients, one matrix `[p, d]` a row, in Burn's layout.
    pub(crate) fn flat_rows(&self, rows: Tensor<2>) -> Tensor<2> {
        if !self.is_transposed() {
            return rows;
        }
        let (n, p, d) = (rows.dims()[0], self.outputs, self.inputs);
        rows.reshape([n, p, d]).swap_dims(1, 2).reshape([n, p * d])
    }

    /// What a reducer may see instead: the gradients themselves, `[u·c, entries]` in Burn's layout.
    pub(crate) fn formed(&self, gradients: Tensor<2>) -> VectorTap {
        let entries = self.outputs * self.inputs;
        let gradient = gradients.reshape([self.units, self.columns, entries]);
        VectorTap { target: self.target.clone(), gradient }
    }

    /// The reverse of [`matrix`](Self::matrix).
    pub fn flat(&self, matrix: Tensor<2>) -> Tensor<1> {
        let size = self.outputs * self.inputs;
        if self.is_transposed() { matrix.transpose().reshape([size]) } else { matrix.reshape([size]) }
    }

    /// Burn keeps the weight of a linear layer as `[d, p]`.
    fn is_transposed(&self) -> bool {
        matches!(self.sites[0].input, SiteInput::Rows { .. })
    }
}

fn join<const D: usize>(mut parts: Vec<Tensor<D>>, dimension: usize) -> Tensor<D> {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            Tensor::cat(parts, dimension)
        }
        None => unreachable!("a tap has at least one site"),
    }
}

/// A vector of parameters (a bias, a scale) in one sweep: the gradients themselves, which are small.
#[derive(Debug, Clone)]
pub struct VectorTap {
    target: Target,
    gradient: Tensor<3>,
}

impl VectorTap {
    pub(crate) fn new(target: &Target, gradient: Tensor<2>, frame: &Frame) -> Self {
        let (u, m, c) = (frame.units, frame.group, frame.columns);
        let p = gradient.dims()[1];
        let gradient = if m == 1 {
            gradient.reshape([u, c, p])
        } else {
            gradient.reshape([u, m, c * p]).sum_dim(1).reshape([u, c, p])
        };
        let gradient = match &target.keep {
            Some(keep) => gradient * keep.clone().reshape([1, 1, p]),
            None => gradient,
        };
        Self { target: target.clone(), gradient }
    }

    /// The parameter's path.
    pub fn path(&self) -> &ParamPath {
        &self.target.path
    }

    /// The parameter's shape.
    pub fn shape(&self) -> &[usize] {
        &self.target.shape
    }

    /// The gradients, `[u, c, p]`, zero where an entry does not count.
    pub fn gradient(&self) -> Tensor<3> {
        self.gradient.clone()
    }
}
