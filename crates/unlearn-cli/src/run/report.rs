//! From stages to `results.json`, `results.csv` and the table.

use std::collections::BTreeMap;
use std::path::Path;

use unlearn::eval::{EvalError, Evaluation, Report, Row};

use super::artefact::Record;
use super::folder::Folder;
use super::world::World;
use crate::error::{Exit, Failure};

/// What all rows have in common.
pub(crate) fn about(world: &World) -> BTreeMap<String, String> {
    let recipe = &world.recipe;
    let split = world.split.validation().len();
    let entries = [
        ("recipe", recipe.name.clone()),
        (
            "data set",
            format!(
                "{} ({} training, {} test pictures)",
                world.train.name(),
                world.train.len(),
                world.test.len()
            ),
        ),
        ("validation", format!("{split} pictures")),
        ("forget set", format!("{} ({} pictures)", recipe.forget.spec, world.partition.forget().len())),
        ("retain set", format!("{} pictures", world.partition.retain().len())),
        ("device", world.device_name.clone()),
    ];
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Adds the row of one model; `network` is the name of the recipe's network that it belongs to.
pub(crate) fn push(
    report: &mut Report,
    world: &World,
    network: Option<&str>,
    record: &Record,
    evaluation: Evaluation,
) -> Result<(), Failure> {
    let seeds = world.recipe.seeds;
    let seeds = [
        ("data", seeds.data),
        ("split", seeds.split),
        ("init", seeds.init),
        ("forget", seeds.forget),
        ("training", seeds.training),
        ("method", seeds.method),
    ];
    let mut row = Row::new(record.sparsity, &record.stage, evaluation)?
        .with_seconds(record.seconds)
        .with_seeds(seeds.map(|(name, seed)| (name, seed.0)))
        .with_reference(record.reference.iter().cloned())
        .with_diagnostics(record.diagnostics.clone());
    if let Some(network) = network {
        row = row.with_network_name(network);
    }
    Ok(report.push(row)?)
}

/// Writes the three forms of the report.
pub(crate) fn write(folder: &Folder, report: &Report) -> Result<(), Failure> {
    folder.write("results.json", &report.to_json()?)?;
    folder.write("results.csv", &report.to_csv()?)?;
    folder.write("results.md", &report.to_markdown())
}

/// `evaluation.json` of a stage.
pub(crate) fn evaluation_bytes(evaluation: &Evaluation) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec_pretty(evaluation).map_err(|error| unreadable(Path::new("evaluation.json"), &error))
}

/// Reads it back.
pub(crate) fn read_evaluation(path: &Path, bytes: &[u8]) -> Result<Evaluation, Failure> {
    serde_json::from_slice(bytes).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &serde_json::Error) -> Failure {
    Failure::new(
        EvalError::Format { what: String::new(), reason: String::new(), mend: "" }.code(),
        Exit::Verification,
        path.display().to_string(),
        error.to_string(),
        "an evaluation of this version",
        "delete its folder and run again with --resume",
    )
}
