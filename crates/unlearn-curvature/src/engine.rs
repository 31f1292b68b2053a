//! Which of the two ways to per-sample gradients is taken.

use serde::{Deserialize, Serialize};

use crate::CurvatureError;

/// How the gradients of a model are come by, for methods that take any model. Both ways give the same to rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// [`Tape`](Self::Tape) for a model that has a forward pass on a tape which the engine can go through, else
    /// [`Autodiff`](Self::Autodiff). The log says which, and warns where a tape could not be used.
    #[default]
    Auto,
    /// The engine: batches, one recorded forward pass and a reverse sweep of our own
    /// ([`FisherDiag`](crate::FisherDiag), [`PerSample`](crate::PerSample), [`InverseFisher`](crate::InverseFisher)).
    /// A model without a tape is refused.
    Tape,
    /// The [oracle](crate::oracle): Burn's automatic differentiation, one sample at a time where samples must be told
    /// apart. Works for every Burn module; ten to a hundred times slower.
    Autodiff,
}

impl Engine {
    /// Runs one of two ways to the same result for a model that is `taped` or not.
    ///
    /// # Errors
    /// [`CurvatureError::Unsupported`] when [`Tape`](Self::Tape) is asked for and cannot be had, and what the way
    /// that was taken returns.
    pub fn run<T>(
        self,
        taped: bool,
        tape: impl FnOnce() -> Result<T, CurvatureError>,
        autodiff: impl FnOnce() -> Result<T, CurvatureError>,
    ) -> Result<T, CurvatureError> {
        match self {
            Self::Autodiff => autodiff(),
            Self::Auto if !taped => {
                tracing::debug!("the model has no tape: automatic differentiation");
                autodiff()
            }
            Self::Tape if !taped => Err(CurvatureError::Unsupported {
                what: "a model without a forward pass on a tape".into(),
                mend: "write one (`Classifier::taped`), or choose the engine `autodiff`",
            }),
            Self::Tape => tape(),
            Self::Auto => match tape() {
                Err(CurvatureError::Unsupported { what, .. }) => {
                    tracing::warn!(
                        "the curvature engine cannot go through {what}: automatic differentiation"
                    );
                    autodiff()
                }
                other => other,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_choice_takes_the_way_it_says() {
        let refuse = || Err(CurvatureError::Unsupported { what: "this".into(), mend: "" });
        let slow = || Ok("slow");
        for (engine, taped, expected) in [
            (Engine::Auto, true, "fast"),
            (Engine::Auto, false, "slow"),
            (Engine::Tape, true, "fast"),
            (Engine::Autodiff, true, "slow"),
            (Engine::Autodiff, false, "slow"),
        ] {
            assert_eq!(engine.run(taped, || Ok("fast"), slow), Ok(expected));
        }
        assert_eq!(Engine::Auto.run(true, refuse, slow), Ok("slow"));
        assert!(matches!(Engine::Tape.run(true, refuse, slow), Err(CurvatureError::Unsupported { .. })));
        let none = Engine::Tape.run(false, || Ok("fast"), slow);
        assert!(matches!(none, Err(CurvatureError::Unsupported { .. })));
        // Only what the engine cannot do is done in another way.
        let read = || Err(CurvatureError::Read { reason: String::new() });
        assert!(matches!(Engine::Auto.run(true, read, slow), Err(CurvatureError::Read { .. })));
    }
}
