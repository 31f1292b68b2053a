//! The names that most programs use: `use unlearn::prelude::*;`.

pub use burn::tensor::{Device, Tensor};
pub use unlearn_algos::{Context, Outcome, TrainingRecipe, Unlearn};
pub use unlearn_data::{Augment, Dataset, ForgetSpec, Loader, Partition, Seed, Split, SplitRule, Stream};
pub use unlearn_eval::{EvalConfig, Evaluation, EvaluationData, evaluate};
pub use unlearn_models::{Classifier, ResNetConfig, StateDict};
pub use unlearn_prune::MaskSet;
pub use unlearn_train::{CrossEntropy, FitConfig, OptimizerConfig, Silent, Unconstrained, fit};
