//! Everything about a recipe that can be wrong before data or device are touched.

use std::str::FromStr;

use unlearn::data::{ForgetSpec, Seed, Stream};
use unlearn::models::{Architecture, ArchitectureVisitor, LoraConfig, ModelConfig};
use unlearn::prune::{MOST_ROUNDS, Rewind};

use super::MethodConfig;
use super::schema::{
    DataConfig, DataKind, FirstWeights, PruneAt, PruningConfig, Recipe, SplitConfig, SplitKind,
    TrainingConfig,
};
use super::source::Source;
use crate::error::Failure;
use crate::run::workshop::{RETRAIN, algorithm};

/// Checks the whole recipe; the first fault is reported with its file and line.
pub(super) fn validate(recipe: &Recipe, source: &Source) -> Result<(), Failure> {
    let check = Check { source };
    check.name("name", &recipe.name)?;
    data(check, &recipe.data)?;
    split(check, recipe.split)?;
    recipe.model.validate().map_err(|error| placed(check, "model", error.into()))?;
    training(check, &recipe.training, &recipe.model)?;
    forget(check, &recipe.forget.spec, recipe.model.classes())?;
    networks(check, recipe)?;
    methods(check, recipe)?;
    recipe.evaluation.validate().map_err(|error| {
        let failure = Failure::from(error);
        Failure { place: check.source.place(&failure.place), ..failure }
    })
}

#[derive(Clone, Copy)]
struct Check<'a> {
    source: &'a Source,
}

impl Check<'_> {
    fn fail(self, path: &str, got: impl ToString, expected: &str, mend: &str) -> Failure {
        Failure::config(self.source.place(path), got.to_string(), expected, mend)
    }

    fn at_least_one(self, path: &str, value: u64) -> Result<(), Failure> {
        if value == 0 { Err(self.fail(path, 0, "at least 1", "give a number above zero")) } else { Ok(()) }
    }

    fn number(
        self,
        path: &str,
        value: f64,
        allowed: impl Fn(f64) -> bool,
        expected: &str,
        mend: &str,
    ) -> Result<(), Failure> {
        if value.is_finite() && allowed(value) { Ok(()) } else { Err(self.fail(path, value, expected, mend)) }
    }

    /// Names become folders.
    fn name(self, path: &str, value: &str) -> Result<(), Failure> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
        let good =
            !value.is_empty() && value.len() <= 64 && value.chars().all(plain) && !value.starts_with('.');
        if good {
            return Ok(());
        }
        let expected = "1 to 64 letters, digits, '-', '_', '+' or '.', not starting with '.'";
        Err(self.fail(path, format!("{value:?}"), expected, "it names a folder: choose a plain word"))
    }

    fn unique<'a>(self, array: &str, key: &str, names: impl Iterator<Item = &'a str>) -> Result<(), Failure> {
        let mut seen = std::collections::BTreeSet::new();
        for (position, name) in names.enumerate() {
            if !seen.insert(name) {
                return Err(self.fail(
                    &format!("{array}.{position}.{key}"),
                    format!("{name:?} a second time"),
                    &format!("a different {key} in each [[{array}]]"),
                    &format!("give this one its own {key}"),
                ));
            }
        }
        Ok(())
    }
}

fn data(check: Check<'_>, data: &DataConfig) -> Result<(), Failure> {
    for (path, count) in
        [("data.train_per_class", data.train_per_class), ("data.test_per_class", data.test_per_class)]
    {
        if let Some(count) = count {
            check.at_least_one(path, count as u64)?;
        }
    }
    match (data.kind, &data.dir) {
        (DataKind::Synthetic, Some(dir)) => Err(check.fail(
            "data.dir",
            dir.display(),
            "no folder: synthetic pictures are made on the spot",
            "remove the key (and --data), or choose another kind",
        )),
        (kind, _) if kind != DataKind::Synthetic && data.size.is_some() => Err(check.fail(
            "data.size",
            data.size.unwrap_or_default(),
            "no size: only synthetic pictures are drawn in a size",
            "remove the key",
        )),
        _ => Ok(()),
    }
}

fn split(check: Check<'_>, split: SplitConfig) -> Result<(), Failure> {
    let expected = "a number above 0 and below 1";
    match (split.rule, split.fraction) {
        (SplitKind::None, Some(fraction)) => Err(check.fail(
            "split.fraction",
            fraction,
            "no fraction with rule \"none\"",
            "remove it, or choose the rule \"stratified\"",
        )),
        (_, Some(fraction)) => {
            check.number("split.fraction", fraction, |f| f > 0.0 && f < 1.0, expected, "use 0.1 for a tenth")
        }
        (_, None) => Ok(()),
    }
}

fn training(check: Check<'_>, training: &TrainingConfig, model: &ModelConfig) -> Result<(), Failure> {
    check.at_least_one("training.epochs", training.epochs)?;
    check.at_least_one("training.batch_size", training.batch_size as u64)?;
    check.number(
        "training.learning_rate",
        training.learning_rate,
        |rate| rate > 0.0,
        "a number above 0",
        "0.1 is usual for SGD on CIFAR, 0.001 for AdamW",
    )?;
    check.number(
        "training.label_smoothing",
        training.label_smoothing,
        |s| (0.0..1.0).contains(&s),
        "a number from 0 up to, not including, 1",
        "use 0 for none",
    )?;
    if let Some(norm) = training.clip_norm {
        let mend = "leave the key out for no clipping";
        check.number("training.clip_norm", norm, |n| n > 0.0, "a number above 0", mend)?;
    }
    if training.first_weights == FirstWeights::Pytorch && matches!(model, ModelConfig::Vit(_)) {
        return Err(check.fail(
            "training.first_weights",
            "\"pytorch\" for a vision transformer",
            "\"usual\", or a residual network",
            "leave the key out",
        ));
    }
    let fit = training.fit(unlearn::data::Seed(0));
    fit.validate().map_err(|error| placed(check, "training", error.into()))
}

/// A library's refusal of a setting, with the recipe's file and line.
fn placed(check: Check<'_>, table: &str, failure: Failure) -> Failure {
    let field =
        failure.place.strip_prefix(table).map_or(&*failure.place, |rest| rest.trim_start_matches('.'));
    Failure { place: check.source.place(&format!("{table}.{field}")), ..failure }
}

fn forget(check: Check<'_>, spec: &str, classes: usize) -> Result<(), Failure> {
    let spec = ForgetSpec::from_str(spec).map_err(|error| {
        let failure = Failure::from(error);
        let place = check.source.place("forget.spec");
        if failure.code == "E_CONFIG" { Failure { place, ..failure } } else { failure.within(&place) }
    })?;
    match spec {
        // The data have as many classes as the model, or are refused.
        ForgetSpec::Class(class) if class >= classes => Err(check.fail(
            "forget.spec",
            format!("class {class}"),
            &format!("a class from 0 to {}", classes - 1),
            "name one of the model's classes",
        )),
        _ => Ok(()),
    }
}

fn networks(check: Check<'_>, recipe: &Recipe) -> Result<(), Failure> {
    let networks = &recipe.network;
    if networks.is_empty() {
        return Err(check.fail(
            "network",
            "no [[network]]",
            "at least one",
            "leave the key out for one dense network",
        ));
    }
    check.unique("network", "name", networks.iter().map(|n| n.name.as_str()))?;
    for (position, network) in networks.iter().enumerate() {
        let path = format!("network.{position}");
        check.name(&format!("{path}.name"), &network.name)?;
        if crate::run::RESERVED.iter().any(|name| name.eq_ignore_ascii_case(&network.name)) {
            return Err(check.fail(
                &format!("{path}.name"),
                format!("{:?}", network.name),
                "a name that no file or folder of a run has",
                &format!("choose another name than {}", crate::run::RESERVED.join(", ")),
            ));
        }
        if let Some(pruning) = &network.pruning {
            self::pruning(check, &format!("{path}.pruning"), recipe, pruning)?;
        }
    }
    Ok(())
}

fn pruning(check: Check<'_>, path: &str, recipe: &Recipe, pruning: &PruningConfig) -> Result<(), Failure> {
    check.at_least_one(&format!("{path}.rounds"), u64::from(pruning.rounds))?;
    if pruning.rounds > MOST_ROUNDS {
        let expected = format!("at most {MOST_ROUNDS}");
        let mend = "prune more in each round";
        return Err(check.fail(&format!("{path}.rounds"), pruning.rounds, &expected, mend));
    }
    check.at_least_one(&format!("{path}.samples_per_class"), pruning.samples_per_class as u64)?;
    if pruning.at == PruneAt::Init && (pruning.rounds > 1 || pruning.rewind != Rewind::Init) {
        return Err(check.fail(
            &format!("{path}.at"),
            "\"init\" with several rounds or a rewind",
            "one round and rewind \"init\" where nothing is trained before pruning",
            "choose at = \"trained\", or remove rounds and rewind",
        ));
    }
    // The rate's message names the field by itself.
    pruning
        .prune()
        .validate()
        .map_err(|error| Failure { place: check.source.place(&format!("{path}.rate")), ..error.into() })?;
    crate::run::iterative_config(recipe, pruning)
        .validate()
        .map_err(|error| placed(check, path, error.into()))?;
    // Width changes no name and no layer, so the narrowest net tells what rule and patterns select.
    let narrow = recipe.model.clone().with_width(2);
    narrow.visit(Selection { pruning }).map_err(|failure| {
        let place = check.source.place(&format!("{path}.prunable"));
        Failure { place, ..failure }
    })
}

/// Looks which weights a pruning would be of.
struct Selection<'a> {
    pruning: &'a PruningConfig,
}

impl ArchitectureVisitor for Selection<'_> {
    type Output = Result<(), Failure>;

    fn visit<A: Architecture>(self, architecture: &A) -> Self::Output {
        let mut rng = Seed(0).rng(Stream::Init, 0, 0);
        let model = architecture.build(&[0.5; 3], &[0.25; 3], &crate::device::any()?, &mut rng)?;
        Ok(self.pruning.prunable.select(&model).map(drop)?)
    }
}

fn methods(check: Check<'_>, recipe: &Recipe) -> Result<(), Failure> {
    check.unique("method", "label", recipe.method.iter().map(MethodConfig::label))?;
    for (position, method) in recipe.method.iter().enumerate() {
        if method.label() == crate::run::ORIGINAL || method.label().ends_with(".evaluation") {
            return Err(check.fail(
                &format!("method.{position}.label"),
                format!("{:?}", method.label()),
                "another label: that one names something else in the run's folder",
                "choose another label",
            ));
        }
        // Gaps refer to the row of this name.
        if method.label() == RETRAIN && method.name != RETRAIN {
            return Err(check.fail(
                &format!("method.{position}.label"),
                format!("{RETRAIN:?} for {}", method.name),
                "another label: the gaps of all rows refer to the one of this name",
                "choose another label",
            ));
        }
        let key = if method.label.is_some() { "label" } else { "name" };
        check.name(&format!("method.{position}.{key}"), method.label())?;
        recipe.model.visit(Hyperparameters { check, position, method })?;
    }
    Ok(())
}

/// Lets the method check its own hyperparameters.
struct Hyperparameters<'a> {
    check: Check<'a>,
    position: usize,
    method: &'a MethodConfig,
}

impl ArchitectureVisitor for Hyperparameters<'_> {
    type Output = Result<(), Failure>;

    fn visit<A: Architecture>(self, architecture: &A) -> Self::Output {
        let checked = algorithm::<A>(self.method).map(drop);
        checked.and_then(|()| self.adapters(architecture)).map_err(|failure| {
            let field = failure.place.rsplit(": ").next().unwrap_or_default();
            let field = field.split('.').next().unwrap_or_default();
            let named = self.method.parameters.contains_key(field).then_some(field);
            let key = named.or_else(|| self.of_wrong_form::<A>()).unwrap_or("name");
            let place = self.check.source.place(&format!("method.{}.{key}", self.position));
            Failure { place, ..failure }
        })
    }
}

impl Hyperparameters<'_> {
    /// Adapters must fit the model: their patterns name layers, and their rank is one that these can have.
    fn adapters<A: Architecture>(&self, architecture: &A) -> Result<(), Failure> {
        let Some(lora) = self.method.parameters.get("lora") else { return Ok(()) };
        // The method has checked its form.
        let Ok(lora) = serde_json::from_value::<LoraConfig>(lora.clone()) else { return Ok(()) };
        let mut rng = Seed(0).rng(Stream::Init, 0, 0);
        let model = architecture.build(&[0.5; 3], &[0.25; 3], &crate::device::any()?, &mut rng)?;
        Ok(unlearn::models::lora::check(&model, &lora)?)
    }

    /// The hyperparameter whose value has another form than it must: the one that is refused on its
    /// own. A reader's message does not say which it was at.
    fn of_wrong_form<A: Architecture>(&self) -> Option<&str> {
        let alone = |key: &str, value: &serde_json::Value| MethodConfig {
            parameters: serde_json::Map::from_iter([(key.to_owned(), value.clone())]),
            ..self.method.clone()
        };
        let whole = format!("method {}", self.method.name);
        let wrong = |key: &str, value: &serde_json::Value| {
            algorithm::<A>(&alone(key, value)).err().is_some_and(|failure| failure.place == whole)
        };
        self.method.parameters.iter().find(|(key, value)| wrong(key, value)).map(|(key, _)| key.as_str())
    }
}
