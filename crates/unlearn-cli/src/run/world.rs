//! Everything of a run that does not depend on the architecture: pictures, split, forget set,
//! device.

use std::path::Path;
use std::str::FromStr;

use unlearn::burn::tensor::Device;
use unlearn::data::source::synthetic::CLASSES;
use unlearn::data::source::synthetic::Synthetic;
use unlearn::data::source::{self, PerClass, SourceKind, TrainTest};
use unlearn::data::{Dataset, ForgetSpec, Loader, Normalization, Partition, Split, SplitRule};

use super::origin::Said;
use super::pretrained::{self, Pretrained};
use crate::args::RecipeArgs;
use crate::device;
use crate::error::Failure;
use crate::progress::Teller;
use crate::recipe::{DataConfig, DataKind, NormalizationKind, Recipe, Seeds, SplitConfig, SplitKind};

/// Threads that prepare batches; no result depends on it.
pub(crate) const WORKERS: usize = 2;

/// What a run is about.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) recipe: Recipe,
    pub(crate) device: Device,
    pub(crate) device_name: String,
    /// The training pictures, which the split divides.
    pub(crate) train: Dataset,
    /// The test pictures.
    pub(crate) test: Dataset,
    pub(crate) split: Split,
    pub(crate) partition: Partition,
    /// What the model is before its first step, where that is not drawn.
    pub(crate) pretrained: Option<Pretrained>,
    pub(crate) teller: Teller,
}

impl World {
    /// Opens device and data for `models`, in this order, so that the cheap checks come first.
    pub(crate) fn open(
        mut recipe: Recipe,
        models: &[Said],
        device_name: &str,
        teller: Teller,
    ) -> Result<Self, Failure> {
        let device = device::open(device_name)?;
        // A folder is listed twice and divided twice, which is little beside decoding its pictures in vain.
        if let Some(TrainTest { train, .. }) = outline(&recipe.data)? {
            check_classes(&recipe, &train)?;
            divided(&recipe, &train)?;
            models.iter().try_for_each(|said| said.check(&train))?;
        }
        let TrainTest { train, test } = pictures(&recipe.data, &recipe.seeds)?;
        check_classes(&recipe, &train)?;
        let pretrained = pretrained::open(&mut recipe, teller.is_quiet())?;
        let shown = |set| shown(&recipe, pretrained.as_ref(), set);
        let (train, test) = (shown(train)?, shown(test)?);
        let (split, partition) = divided(&recipe, &train)?;
        tracing::info!(
            train = train.len(),
            test = test.len(),
            validation = split.validation().len(),
            forget = partition.forget().len(),
            "data"
        );
        let device_name = device_name.to_owned();
        Ok(Self { recipe, device, device_name, train, test, split, partition, pretrained, teller })
    }

    /// The stream that the original model is trained on: every training sample of the split.
    pub(crate) fn training_loader(&self) -> Result<Loader, Failure> {
        let training = &self.recipe.training;
        let seed = self.recipe.seeds.training;
        Ok(Loader::new(&self.train, self.split.train(), training.batch_size)?
            .with_shuffle(seed)
            .with_augment(training.augment, seed)
            .with_workers(WORKERS))
    }
}

fn check_classes(recipe: &Recipe, train: &Dataset) -> Result<(), Failure> {
    let classes = recipe.model.classes();
    if classes == train.num_classes() {
        return Ok(());
    }
    Err(Failure::config(
        "model.classes",
        classes.to_string(),
        format!("{}, the number of classes in {}", train.num_classes(), train.name()),
        "give the model as many classes as the data have",
    ))
}

/// What is held back for validation, and what is to be forgotten.
fn divided(recipe: &Recipe, train: &Dataset) -> Result<(Split, Partition), Failure> {
    let split = Split::new(train, split_rule(recipe.split, &recipe.seeds)?)?;
    let spec = ForgetSpec::from_str(&recipe.forget.spec)?;
    let partition = Partition::new(train, &split, &spec, recipe.seeds.forget)?;
    Ok((split, partition))
}

/// The pictures as the model is to get them: weights from elsewhere know the constants that they were trained with.
fn shown(recipe: &Recipe, pretrained: Option<&Pretrained>, mut set: Dataset) -> Result<Dataset, Failure> {
    let constants = match (pretrained, recipe.data.normalization) {
        (Some(Pretrained { folder, .. }), _) => {
            Some(Normalization { mean: folder.mean.clone(), std: folder.std.clone() })
        }
        (None, NormalizationKind::Data) => None,
        (None, NormalizationKind::Half) => Some(Normalization::half(set.shape().channels)),
        (None, NormalizationKind::Imagenet) => Some(Normalization::imagenet()),
    };
    if let Some(constants) = constants {
        set = set.with_normalization(constants)?;
    }
    match recipe.model.input_side() {
        Some(side) => Ok(set.shown_at(side, side)?),
        None => Ok(set),
    }
}

/// `--data DIR` and `--pretrained SOURCE` in place of the recipe's folders.
pub(crate) fn with_folders(mut recipe: Recipe, arguments: &RecipeArgs) -> Result<Recipe, Failure> {
    if let Some(folder) = &arguments.pretrained {
        in_text("--pretrained", folder)?;
        recipe.training.pretrained = Some(folder.clone());
    }
    let Some(folder) = &arguments.data else { return Ok(recipe) };
    if recipe.data.kind == DataKind::Synthetic {
        return Err(Failure::config(
            "--data",
            folder.display().to_string(),
            "no folder: the recipe's data are synthetic",
            "leave --data out, or --set data.kind=auto",
        ));
    }
    in_text("--data", folder)?;
    recipe.data.dir = Some(folder.clone());
    Ok(recipe)
}

/// A folder stands in the resolved recipe, which is text.
fn in_text(place: &str, folder: &Path) -> Result<(), Failure> {
    if folder.to_str().is_some() {
        return Ok(());
    }
    Err(Failure::config(
        place,
        folder.display().to_string(),
        "a path in UTF-8, which a recipe can hold",
        "rename the folder, or make a link to it with a plain name",
    ))
}

fn pictures(data: &DataConfig, seeds: &Seeds) -> Result<TrainTest, Failure> {
    match place(data)? {
        Some((kind, dir)) => Ok(source::open_first(kind, Some(dir), wanted(data))?),
        None => synthetic(data, seeds),
    }
}

/// What can be known before a picture is opened.
fn outline(data: &DataConfig) -> Result<Option<TrainTest>, Failure> {
    let Some((kind, dir)) = place(data)? else { return Ok(None) };
    Ok(source::outline(&kind, dir, wanted(data))?)
}

/// Where the pictures lie, unless they are drawn.
fn place(data: &DataConfig) -> Result<Option<(SourceKind, &Path)>, Failure> {
    let kind = match data.kind {
        DataKind::Auto => SourceKind::Auto,
        DataKind::Cifar10 => SourceKind::Cifar10,
        DataKind::Cifar100 => SourceKind::Cifar100,
        DataKind::Folder => SourceKind::Folder,
        DataKind::Packed => SourceKind::Packed,
        DataKind::Synthetic => return Ok(None),
    };
    let Some(dir) = &data.dir else {
        return Err(Failure::config(
            "data.dir",
            "no folder",
            format!("the folder that holds the {} pictures", kind.id()),
            "name it with --data DIR, or write data.dir into the recipe",
        ));
    };
    check_folder(dir)?;
    Ok(Some((kind, dir)))
}

/// As many of each class as the recipe asks for.
fn wanted(data: &DataConfig) -> PerClass {
    PerClass { train: data.train_per_class, test: data.test_per_class }
}

fn check_folder(dir: &Path) -> Result<(), Failure> {
    std::fs::metadata(dir).map(|_| ()).map_err(|error| Failure::io(dir, &error))
}

fn synthetic(data: &DataConfig, seeds: &Seeds) -> Result<TrainTest, Failure> {
    let mut synthetic = Synthetic { seed: seeds.data, ..Synthetic::default() };
    // The classes take turns, so that this is the same number of each.
    let all = |per_class: usize| per_class.saturating_mul(CLASSES);
    synthetic.train = data.train_per_class.map_or(synthetic.train, all);
    synthetic.test = data.test_per_class.map_or(synthetic.test, all);
    synthetic.size = data.size.unwrap_or(synthetic.size);
    Ok(source::open(SourceKind::Synthetic(synthetic), None)?)
}

fn split_rule(split: SplitConfig, seeds: &Seeds) -> Result<SplitRule, Failure> {
    let fraction = split.fraction.unwrap_or(0.1);
    Ok(match split.rule {
        SplitKind::None => SplitRule::None,
        SplitKind::Stratified => SplitRule::Stratified { fraction, seed: seeds.split },
        SplitKind::Reference => {
            let seed = u32::try_from(seeds.split.0).map_err(|_| {
                Failure::config(
                    "seeds.split",
                    seeds.split.0.to_string(),
                    format!("at most {} with the rule \"reference\"", u32::MAX),
                    "NumPy's legacy generator takes 32 bits: choose a smaller seed",
                )
            })?;
            SplitRule::Reference { fraction, seed }
        }
    })
}
