//! From stages to `results.json`, `results.csv` and the table.

use std::collections::BTreeMap;
use std::path::Path;

use unlearn::eval::{EvalError, Evaluation, Report, Row, State};

use super::artefact::Record;
use super::folder::Folder;
use super::world::World;
use crate::error::{Exit, Failure};
use crate::recipe::SplitKind;

/// What [`write`] writes, and what no network of a recipe may be called.
pub(crate) const FILES: [&str; 3] = ["results.json", "results.csv", "results.md"];

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
    let row = Row::new(record.network_sparsity.unwrap_or(record.sparsity), &record.stage, evaluation)?
        .with_seconds(record.seconds)
        .with_diagnostics(record.diagnostics.clone());
    Ok(report.push(about_row(row, world, network, record))?)
}

/// Adds the row of a method that diverged on a network of `sparsity`.
pub(crate) fn push_diverged(
    report: &mut Report,
    world: &World,
    network: &str,
    record: &Record,
    failure: &Failure,
) -> Result<(), Failure> {
    let sparsity = record.network_sparsity.unwrap_or(record.sparsity);
    let reason = format!("{}: {}", failure.place, failure.got);
    let row = Row::diverged(sparsity, &record.stage, &reason, &world.recipe.evaluation)?;
    Ok(report.push(about_row(row, world, Some(network), record))?)
}

/// What a row says beside its numbers.
fn about_row(row: Row, world: &World, network: Option<&str>, record: &Record) -> Row {
    // The seeds that the model was made with win over those of a recipe that only measures it.
    let mut seeds: BTreeMap<String, u64> =
        world.recipe.seeds.named().map(|(name, seed)| (name.to_owned(), seed.0)).into();
    seeds.extend(record.seeds.clone());
    let row = row
        .with_seeds(seeds)
        .with_reference(references(world))
        .with_reference(record.reference.clone())
        .with_hyperparameters(&record.hyperparameters);
    match network {
        Some(network) => row.with_network_name(network),
        None => row,
    }
}

/// The recipe's switches on which data are divided as the published code divides them.
fn references(world: &World) -> Vec<&'static str> {
    let split = world.recipe.split.rule == SplitKind::Reference;
    let forget = world.recipe.forget.spec.starts_with("reference:");
    [("split", split), ("forget", forget)].into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect()
}

/// Fails when a row of the report diverged. The report itself is whole; the exit code tells.
pub(crate) fn verdict(report: &Report) -> Result<(), Failure> {
    let name = |row: &Row| format!("{}/{}", row.network_name.as_deref().unwrap_or("model"), row.method);
    let lost: Vec<String> = report.rows.iter().filter(|row| row.state == State::Diverged).map(name).collect();
    if lost.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        "E_DIVERGED",
        Exit::Diverged,
        lost.join(", "),
        format!("{} of {} rows that diverged", lost.len(), report.rows.len()),
        "finite numbers in every row",
        "the other rows are good; lower the learning rates of these (the reasons stand below the table)",
    ))
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
