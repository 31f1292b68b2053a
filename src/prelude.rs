//! The names that most programs use: `use unlearn::prelude::*;`.

pub use burn::module::Module;
pub use burn::tensor::{Device, Tensor};
pub use unlearn_algos::methods::FineTune;
pub use unlearn_algos::{Context, Outcome, TrainingRecipe, Unlearn, by_name};
pub use unlearn_data::source::synthetic::Synthetic;
pub use unlearn_data::{Augment, Dataset, Loader, Normalization, Partition, Seed, Split, SplitRule, Stream};
pub use unlearn_eval::{EvalConfig, EvaluationData, evaluate};
pub use unlearn_models::{Classifier, ResNetConfig};
pub use unlearn_train::{
    CrossEntropy, FitConfig, OptimizerConfig, Silent, Unconstrained, fit, keep_freed_memory,
};
