//! What tells one run from another.

use serde_json::{Value, json};
use unlearn_curvature::parameters;
use unlearn_data::Dataset;
use unlearn_models::{Classifier, StateDict};

use crate::TrainError;
use crate::commit::sha256;
use crate::fit::Task;

/// Height and width that the pictures are brought to.
fn shown(dataset: &Dataset) -> [usize; 2] {
    let shape = dataset.input_shape();
    [shape.height, shape.width]
}

/// What makes a run this run.
pub(crate) fn identity<M: Classifier>(task: &Task<'_, M>, model: &M) -> Result<Value, TrainError> {
    let failed = |e: serde_json::Error| TrainError::Read { reason: e.to_string() };
    let mut fit = serde_json::to_value(task.config).map_err(failed)?;
    if let Value::Object(fields) = &mut fit {
        // How often a run saves changes nothing of what comes out.
        fields.remove("checkpoint");
    }
    let trained: Vec<String> =
        parameters(model).into_iter().filter(|p| p.trainable).map(|p| p.path.to_string()).collect();
    let loader = task.loader;
    let indices: Vec<u8> = loader.indices().iter().flat_map(|i| (*i as u64).to_le_bytes()).collect();
    let (augment, augment_seed) = loader.augment();
    let mut identity = json!({
        "format": 1,
        "fit": fit,
        "objective": task.objective.describe(),
        "constraint": task.constraint.describe(),
        "model": {
            "weights": StateDict::of(model)?.fingerprint(),
            "trained": sha256(trained.join("\n").as_bytes()),
        },
        "data": {
            "fingerprint": loader.dataset().fingerprint(),
            // A network takes pictures of many sizes, and learns other weights from each.
            "shown_at": shown(loader.dataset()),
            "samples": loader.num_samples(),
            "indices": sha256(&indices),
            "batch_size": loader.batch_size(),
            "shuffle_seed": loader.shuffle(),
            "augment": augment,
            "augment_seed": augment_seed,
        },
    });
    let settings = model.settings();
    if !settings.is_empty() {
        identity["model"]["settings"] = settings.into();
    }
    Ok(identity)
}
