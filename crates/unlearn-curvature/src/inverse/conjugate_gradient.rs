//! Conjugate gradients on H = λI + (1/N) Gᵀ G.

use burn::Tensor;
use burn::module::Module;

use crate::oracle::Samples;
use crate::sweep::Gathered;
use crate::way::{Forward, Way};
use crate::{CurvatureError, ParamTree};

/// When to end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    pub(super) tolerance: f64,
    pub(super) iterations: usize,
}

/// k with ‖H k − v‖ ≤ tolerance · ‖v‖ (by the recurrence) or after the last iteration; the true relative residual and
/// the number of iterations. Hestenes and Stiefel 1952, eq. 3:1.
pub(super) fn conjugate_gradient<M, F, S, W>(
    gathered: &mut Gathered<'_, M, F, S, W>,
    v: &ParamTree,
    lambda: f64,
    rule: Rule,
) -> Result<(ParamTree, f64, usize), CurvatureError>
where
    M: Module,
    F: Forward<M, W>,
    W: Way,
    S: Samples<Input = Tensor<4>>,
{
    let v_squared = v.dot_host(v)?;
    let mut k = v.zeros_like();
    if v_squared == 0.0 {
        return Ok((k, 0.0, 0));
    }
    let (mut residual, mut direction) = (v.clone(), v.clone());
    let mut squared = v_squared;
    let mut done = 0;
    while done < rule.iterations {
        let image = product(gathered, &direction, lambda)?;
        let curvature = direction.dot_host(&image)?;
        if !(curvature.is_finite() && curvature > 0.0) {
            return Err(CurvatureError::Solve {
                got: format!("a curvature of {curvature:e} along a direction"),
                mend: "raise the damping",
            });
        }
        let step = squared / curvature;
        k = k.add(&direction.scale(step))?;
        residual = residual.sub(&image.scale(step))?;
        done += 1;
        let next = residual.dot_host(&residual)?;
        tracing::debug!(iteration = done, residual = (next / v_squared).sqrt(), "conjugate gradients");
        if next <= rule.tolerance * rule.tolerance * v_squared {
            break;
        }
        direction = residual.add(&direction.scale(next / squared))?;
        squared = next;
    }
    let left = product(gathered, &k, lambda)?.zip_host(v, |a, b| a - b)?;
    let residual = (left.dot_host(&left)? / v_squared).sqrt();
    if residual > rule.tolerance {
        tracing::warn!(residual, iterations = done, "conjugate gradients have not reached their tolerance");
    }
    Ok((k, residual, done))
}

/// H x = λ x + (1/N) Gᵀ (G x). One pass: both products of a batch are made while it is there.
fn product<M, F, S, W>(
    gathered: &mut Gathered<'_, M, F, S, W>,
    x: &ParamTree,
    lambda: f64,
) -> Result<ParamTree, CurvatureError>
where
    M: Module,
    F: Forward<M, W>,
    W: Way,
    S: Samples<Input = Tensor<4>>,
{
    let n = gathered.count();
    let mut dots = gathered.dots(x.clone());
    let mut back = gathered.weighted(vec![0.0; n]);
    gathered.each("product with the Fisher matrix", &mut |held| {
        held.show(&mut dots)?;
        for i in held.range() {
            back.weights_mut()[i] = dots.totals()[i] / n as f64;
        }
        held.show(&mut back)
    })?;
    back.finish()?.zip(x, |f, x| f + x.mul_scalar(lambda))
}
