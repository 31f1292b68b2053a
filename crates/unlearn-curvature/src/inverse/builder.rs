//! The inverse product: what is asked for.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use burn::Tensor;
use burn::module::Module;

use super::fitted::FittedInverse;
use super::{Damping, ReferenceRecursion, Solution};
use crate::oracle::Samples;
use crate::reduce::Route;
use crate::sweep::Settings;
use crate::watch::{Watch, Watched};
use crate::way::{Forward, Marked, OnTape, OneByOne, Way};
use crate::{CurvatureError, ParamPath, ParamTree};

/// k = H⁻¹ v with H = λI + (1/N) Σ_n g_n g_nᵀ, the damped empirical Fisher matrix of N samples, for a model with a
/// forward pass on a tape or, after [`marked`](Self::marked), in plain Burn: choose how, then [`solve`](Self::solve), or [`fit`](Self::fit) once and
/// [`apply`](FittedInverse::apply) to any number of v.
///
/// No matrix of the size of the parameters and no stack of gradients is ever made: layer inputs and cotangents of
/// the samples are held where they fit the budget (a fraction of the size of the gradients) and swept anew where
/// they do not. The model runs in evaluation mode on a plain copy of its own.
///
/// ```
/// use burn::module::Module;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor};
/// use unlearn_curvature::oracle::TensorSamples;
/// use unlearn_curvature::tape::{Tape, Var};
/// use unlearn_curvature::{InverseFisher, PerSample};
///
/// fn forward(net: &Linear, images: Var<4>, tape: &mut dyn Tape) -> Var<2> {
///     let x = tape.global_avg_pool(images);
///     tape.linear(net, x)
/// }
///
/// let device = Device::flex();
/// let net = LinearConfig::new(2, 3).init(&device);
/// let images = Tensor::<4>::ones([4, 2, 5, 5], &device);
/// let samples = TensorSamples::new(images, vec![0, 1, 2, 0])?;
///
/// let v = PerSample::new().weighted_gradient(&net, forward, &samples, &[1.0; 4])?;
/// let solution = InverseFisher::woodbury(1000).damping(1e-2).solve(&net, forward, &samples, &v)?;
/// assert_eq!(solution.samples, 4);
/// assert!(solution.residual < 1e-6);
/// # Ok::<(), unlearn_curvature::CurvatureError>(())
/// ```
#[derive(Debug, Clone)]
pub struct InverseFisher<'w, W = OnTape> {
    pub(super) how: How,
    pub(super) settings: Settings<'w>,
    way: PhantomData<fn() -> W>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum How {
    Woodbury { samples: usize, damping: Damping },
    ConjugateGradient { samples: usize, damping: Damping, tolerance: f64, iterations: usize },
    Reference(ReferenceRecursion),
}

impl<'w> InverseFisher<'w> {
    fn new(how: How) -> Self {
        Self { how, settings: Settings::default(), way: PhantomData }
    }

    /// Exactly, by the Gram matrix of the first `samples` samples (all, where there are fewer):
    /// k = (1/λ) \[v − Gᵀ (λN I + G Gᵀ)⁻¹ G v\]  (Woodbury; Singh and Alistarh 2020, eq. 9, solved at once). N³/3
    /// multiplications in float64 on the host, and the inner products of all pairs: for a few thousand samples. A
    /// relative damping of 0.1 unless set.
    pub fn woodbury(samples: usize) -> Self {
        Self::new(How::Woodbury { samples, damping: Damping::Relative(0.1) })
    }

    /// By conjugate gradients (Hestenes and Stiefel 1952) on H itself over the first `samples` samples: one product
    /// with H an iteration, linear in N. A relative damping of 0.1, a residual of 1e-4 and at most 100 iterations
    /// unless set. In float32: residuals under about 1e-6 are out of reach.
    pub fn conjugate_gradient(samples: usize) -> Self {
        let damping = Damping::Relative(0.1);
        Self::new(How::ConjugateGradient { samples, damping, tolerance: 1e-4, iterations: 100 })
    }

    /// What the published "WoodFisher" loop computes with its constant of 1000, which is no inverse product; see
    /// [`reference_recursion`](super::reference_recursion()). The damping is 1 whatever is set.
    pub fn reference_compat() -> Self {
        Self::reference(ReferenceRecursion::default())
    }

    /// [`reference_compat`](Self::reference_compat) with another constant.
    pub fn reference(recursion: ReferenceRecursion) -> Self {
        Self::new(How::Reference(recursion))
    }

    /// For forward passes in plain Burn whose layers are marked with [`Probes`](crate::Probes).
    pub fn marked(self) -> InverseFisher<'w, Marked> {
        InverseFisher { how: self.how, settings: self.settings, way: PhantomData }
    }

    /// For forward passes in plain Burn in which not every layer can be marked: batches of one sample, slowly. The
    /// forward pass gets [`Probes`](crate::Probes) too, but need not use them.
    pub fn one_by_one(self) -> InverseFisher<'w, OneByOne> {
        InverseFisher { how: self.how, settings: self.settings, way: PhantomData }
    }
}

impl<'w, W: Way> InverseFisher<'w, W> {
    /// λ (a number), or any [`Damping`].
    pub fn damping(mut self, new: impl Into<Damping>) -> Self {
        if let How::Woodbury { damping, .. } | How::ConjugateGradient { damping, .. } = &mut self.how {
            *damping = new.into();
        }
        self
    }

    /// Conjugate gradients end when ‖H k − v‖ ≤ `tolerance` · ‖v‖.
    pub fn tolerance(mut self, new: f64) -> Self {
        if let How::ConjugateGradient { tolerance, .. } = &mut self.how {
            *tolerance = new;
        }
        self
    }

    /// Conjugate gradients end after so many iterations, whatever the [residual](Solution::residual) is then.
    pub fn iterations(mut self, new: usize) -> Self {
        if let How::ConjugateGradient { iterations, .. } = &mut self.how {
            *iterations = new;
        }
        self
    }

    /// At most `samples` at a time (64 by default), fewer where the budget asks for it.
    pub fn batch(mut self, samples: usize) -> Self {
        self.settings.batch = samples;
        self
    }

    /// Holds about `bytes` beside the parameters, a few vectors of their size and the Gram matrix (1 GiB by default).
    /// With more there are fewer passes.
    pub fn budget(mut self, bytes: usize) -> Self {
        self.settings.budget = bytes;
        self
    }

    /// Forms all inner products by `route` where it can serve, instead of choosing by shape.
    pub fn route(mut self, route: Route) -> Self {
        self.settings.route = Some(route);
        self
    }

    /// Takes every gradient, and v, as zero where `keep` says `false`; see
    /// [`FisherDiag::kept`](crate::FisherDiag::kept).
    pub fn kept(mut self, keep: BTreeMap<ParamPath, Vec<bool>>) -> Self {
        self.settings.keep = keep;
        self
    }

    /// Tells `watch` the progress after every batch; it may end the run.
    pub fn watch(mut self, watch: &'w dyn Watch) -> Self {
        self.settings.watched = Watched::by(watch);
        self
    }

    /// All that does not depend on v.
    ///
    /// # Errors
    /// [`CurvatureError::Argument`] for a setting out of range or no samples, [`CurvatureError::Solve`] when the
    /// system has no factor, and the errors of [`FisherDiag::run`](crate::FisherDiag::run).
    pub fn fit<'a, M, F, S>(
        &self,
        model: &M,
        forward: F,
        samples: &'a S,
    ) -> Result<FittedInverse<'a, M, F, S, W>, CurvatureError>
    where
        'w: 'a,
        M: Module,
        F: Forward<M, W>,
        S: Samples<Input = Tensor<4>>,
    {
        self.validate()?;
        FittedInverse::new(self, model, forward, samples)
    }

    /// k = H⁻¹ v.
    ///
    /// # Errors
    /// Those of [`fit`](Self::fit) and [`FittedInverse::apply`].
    pub fn solve<M, F, S>(
        &self,
        model: &M,
        forward: F,
        samples: &S,
        v: &ParamTree,
    ) -> Result<Solution, CurvatureError>
    where
        M: Module,
        F: Forward<M, W>,
        S: Samples<Input = Tensor<4>>,
    {
        self.fit(model, forward, samples)?.apply(v)
    }

    fn validate(&self) -> Result<(), CurvatureError> {
        let (samples, damping) = match self.how {
            How::Woodbury { samples, damping } => (samples, damping),
            How::ConjugateGradient { samples, damping, tolerance, iterations } => {
                if !(tolerance.is_finite() && tolerance > 0.0) {
                    let (got, expected) = (tolerance.to_string(), "a finite number above 0");
                    return Err(CurvatureError::Argument { field: "tolerance", got, expected });
                }
                at_least_one("iterations", iterations)?;
                (samples, damping)
            }
            How::Reference(ReferenceRecursion { n }) => return at_least_one("n", n),
        };
        at_least_one("samples", samples)?;
        damping.validate()
    }
}

fn at_least_one(field: &'static str, value: usize) -> Result<(), CurvatureError> {
    if value > 0 {
        return Ok(());
    }
    Err(CurvatureError::Argument { field, got: "0".into(), expected: "at least 1" })
}
