//! Machine unlearning on Burn.
pub use burn;
pub use unlearn_algos as algos;
pub use unlearn_curvature as curvature;
pub use unlearn_data as data;
pub use unlearn_eval as eval;
pub use unlearn_models as models;
pub use unlearn_prune as prune;
pub use unlearn_train as train;
