//! The suite that every method passes: what the contract of [`Unlearn`] says, checked.
//!
//! Use it in the tests of a method of your own:
//!
//! ```no_run
//! # fn example<M: unlearn_models::Classifier>(
//! #     suite: &unlearn_algos::testing::Suite<'_, M>,
//! #     mine: &dyn unlearn_algos::Unlearn<M>,
//! # ) {
//! assert_eq!(suite.violations(mine), Vec::<String>::new());
//! # }
//! ```

use std::collections::BTreeMap;

use burn::Tensor;
use burn::module::{Module, ModuleVisitor, Param};
use unlearn_curvature::{PathTracker, parameters};
use unlearn_data::{Dataset, Partition, Seed};
use unlearn_models::Classifier;
use unlearn_prune::MaskSet;
use unlearn_train::Silent;

use crate::{Context, Outcome, Reads, TrainingRecipe, Unlearn, UnlearnError};

/// What methods are tried on: keep it tiny, each method runs four to six times.
pub struct Suite<'a, M> {
    /// Makes the untrained model.
    pub fresh: &'a dyn Fn() -> M,
    /// A trained model, on a plain device.
    pub model: M,
    /// The training data.
    pub dataset: &'a Dataset,
    /// What is forgotten.
    pub partition: &'a Partition,
    /// How the model was trained.
    pub training: TrainingRecipe,
    /// A mask for the second half of the suite; the model need not obey it yet.
    pub mask: MaskSet,
    /// Whether the method is asked for a dense model, whatever mask there is; as a rule it is not.
    pub dense: bool,
}

/// Every float parameter and buffer by path, as bits, so that NaN equals itself and −0 differs from 0.
type Bits = BTreeMap<String, Vec<u32>>;

impl<M: Classifier> Suite<'_, M> {
    /// What `method` breaks of its contract; empty when it keeps it.
    pub fn violations(&self, method: &dyn Unlearn<M>) -> Vec<String> {
        let mut found = Vec::new();
        for mask in [None, Some(&self.mask)] {
            let on = if mask.is_some() { "pruned model" } else { "dense model" };
            let mut say = |what: String| found.push(format!("{} on a {on}: {what}", method.name()));
            if let Err(error) = self.check(method, mask, &mut say) {
                say(format!("fails: {error}"));
            }
        }
        found
    }

    /// Runs `method` once on a copy of the model that obeys `mask`, with `dataset` for the suite's own.
    ///
    /// # Errors
    /// What the method returns.
    pub fn run(
        &self,
        method: &dyn Unlearn<M>,
        mask: Option<&MaskSet>,
        dataset: &Dataset,
        workers: usize,
    ) -> Result<Outcome<M>, UnlearnError> {
        let model = crate::check::enter(&self.model, mask)?;
        self.run_on(model, method, mask, dataset, workers)
    }

    fn run_on(
        &self,
        model: M,
        method: &dyn Unlearn<M>,
        mask: Option<&MaskSet>,
        dataset: &Dataset,
        workers: usize,
    ) -> Result<Outcome<M>, UnlearnError> {
        let mut context = Context {
            dataset,
            fresh: self.fresh,
            training: &self.training,
            mask,
            seed: Seed(11),
            workers,
            directory: None,
            observer: &mut Silent,
        };
        method.unlearn(model, self.partition, &mut context)
    }

    fn check(
        &self,
        method: &dyn Unlearn<M>,
        mask: Option<&MaskSet>,
        say: &mut dyn FnMut(String),
    ) -> Result<(), UnlearnError> {
        let start = crate::check::enter(&self.model, mask)?;
        let before = bits(&start);
        // A plain clone shares its batch-norm statistics with the caller's model.
        let outcome = self.run_on(start.clone(), method, mask, self.dataset, 1)?;
        if bits(&start) != before {
            say("the caller's model changed".into());
        }
        let after = bits(&outcome.model);
        if outcome.model.devices().iter().any(burn::tensor::Device::is_autodiff) {
            say("the result is not on a plain device".into());
        }
        let trained = |model: &M| {
            parameters(model).into_iter().map(|p| (p.path, p.shape, p.trainable)).collect::<Vec<_>>()
        };
        if trained(&outcome.model) != trained(&start) {
            say("names, shapes or trainability of parameters changed".into());
        }
        if let Some(path) = after.iter().find(|(_, v)| v.iter().any(|v| !f32::from_bits(*v).is_finite())) {
            say(format!("`{}` is not finite", path.0));
        }
        if let Some(mask) = &outcome.mask {
            for (path, mask) in mask.iter() {
                let values = after.get(path.as_str()).map_or(&[][..], Vec::as_slice);
                let broken = values.iter().zip(mask.keep()).filter(|(v, keep)| !**keep && **v != 0).count();
                if broken > 0 || values.len() != mask.total() {
                    say(format!("{broken} pruned weights of `{path}` are not exactly zero"));
                }
            }
        }
        match (&outcome.mask, self.dense) {
            (None, false) if mask.is_some() => {
                say("the mask of the context is gone and no other stands in its place".into());
            }
            (Some(_), true) => say("a mask, though a dense model was asked for".into()),
            _ => {}
        }
        if outcome.seconds.is_nan() || outcome.seconds < 0.0 {
            say(format!("it took {} seconds", outcome.seconds));
        }
        if after == before {
            say("nothing moved".into());
        }
        // Again, with other threads: the same bits.
        if bits(&self.run(method, mask, self.dataset, 3)?.model) != after {
            say("a second run gives other weights".into());
        }
        let unread = match method.reads() {
            Reads::Both => return Ok(()),
            Reads::Retain => self.partition.forget(),
            Reads::Forget => self.partition.retain(),
        };
        let blacked = black_out(self.dataset, unread)?;
        if bits(&self.run(method, mask, &blacked, 1)?.model) != after {
            say("it reads the set that it says it does not read".into());
        }
        Ok(())
    }
}

/// `dataset` with the pictures at `indices` all black, and of the next class.
fn black_out(dataset: &Dataset, indices: &[usize]) -> Result<Dataset, UnlearnError> {
    let mut images = Vec::new();
    let mut labels = Vec::new();
    let classes = dataset.class_names().len();
    for (index, mut label) in dataset.labels().enumerate() {
        let image = dataset.image(index).unwrap_or_default();
        if indices.contains(&index) {
            images.resize(images.len() + image.len(), 0);
            label = (label + 1) % classes;
        } else {
            images.extend_from_slice(image);
        }
        labels.push(label as u16);
    }
    let (shape, names) = (dataset.shape(), dataset.class_names().to_vec());
    let black = Dataset::new("blacked out", shape, images, labels, names, dataset.normalization().clone())?;
    let shown = dataset.input_shape();
    Ok(if shown == shape { black } else { black.shown_at(shown.height, shown.width)? })
}

fn bits<M: Module>(model: &M) -> Bits {
    struct Reader {
        tracker: PathTracker,
        found: Bits,
    }
    impl ModuleVisitor for Reader {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.tracker.enter(name, container_type);
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.tracker.exit();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let values = param.val().inner().into_data().try_into_vec_as::<f32>().unwrap_or_default();
            let values = values.into_iter().map(f32::to_bits).collect();
            self.found.insert(self.tracker.path().to_string(), values);
        }
    }
    let mut reader = Reader { tracker: PathTracker::default(), found: Bits::new() };
    // `valid` flushes pending statistics.
    model.valid().visit(&mut reader);
    reader.found
}
