//! Vision transformers: rules, one-shot and iterative pruning, rewinding.

use burn::tensor::Device;
use unlearn_data::{Seed, Stream};
use unlearn_models::{Vit, VitConfig};
use unlearn_train::{CrossEntropy, FitConfig, OptimizerConfig, Schedule, Silent, Unconstrained, fit};

use super::net::{CLASSES, bits, loader, values};
use crate::iterative::{IterativeRun, RetrainLength};
use crate::{
    IterativeConfig, Magnitude, MaskSet, Prunable, PrunableRule, PruneConfig, Rewind, iterative, one_shot,
};

/// Two blocks of eight features on pictures of 6×6.
fn config() -> VitConfig {
    let tiny = VitConfig::tiny_cifar(CLASSES);
    VitConfig { image: 6, patch: 3, hidden: 8, layers: 2, heads: 2, mlp: 12, ..tiny }
}

fn transformer() -> Vit {
    let mut rng = Seed(5).rng(Stream::Init, 0, 0);
    config().init(&[0.5; 3], &[0.25; 3], &Device::flex(), &mut rng).unwrap()
}

fn with_rule(rule: PrunableRule, rate: f64) -> PruneConfig {
    PruneConfig { prunable: Prunable::from(rule), ..PruneConfig::new(rate) }
}

#[test]
fn dense_is_every_linear_of_the_blocks_and_the_reference_goes_by_name() {
    let model = transformer();
    let of = |rule: PrunableRule| -> Vec<String> {
        let chosen = Prunable::from(rule).select(&model).unwrap();
        chosen.into_iter().map(|p| p.path.to_string()).collect()
    };
    let block = |inner: &[&str]| -> Vec<String> {
        let names = |i| inner.iter().map(move |name| format!("vit.encoder.layer.{i}.{name}.weight"));
        (0..2).flat_map(names).collect()
    };
    let by_name = ["attention.output.dense", "intermediate.dense", "output.dense"];
    assert_eq!(of(PrunableRule::ReferenceDense), block(&by_name));
    let attention = ["key", "query", "value"].map(|name| format!("attention.attention.{name}"));
    let mut all: Vec<&str> = attention.iter().map(String::as_str).collect();
    all.extend(by_name);
    assert_eq!(of(PrunableRule::Dense), block(&all));
    assert_eq!(of(PrunableRule::Conv), ["vit.embeddings.patch_embeddings.projection.weight"]);
    // Class token and positions are no weights of a layer, and the head is one.
    let everything = of(PrunableRule::AllWeights);
    assert_eq!(everything.len(), 14);
    assert!(everything.contains(&"classifier.weight".to_owned()));
    // As many classes as features: the head is still the last.
    let same = VitConfig { classes: 8, ..config() };
    let mut rng = Seed(5).rng(Stream::Init, 0, 0);
    let same = same.init(&[0.5; 3], &[0.25; 3], &Device::flex(), &mut rng).unwrap();
    let chosen = Prunable::from(PrunableRule::Dense).select(&same).unwrap();
    assert_eq!(chosen.len(), 12);
    assert!(chosen.iter().all(|p| p.path.as_str() != "classifier.weight"));
}

/// The shapes of ViT-B, without its weights.
#[test]
fn the_published_counts_are_those_of_the_rules() {
    let VitConfig { hidden, layers, mlp, .. } = VitConfig::base_16_224(10);
    let narrow =
        VitConfig { hidden: 24, heads: 12, layers, mlp: 96, image: 16, ..VitConfig::base_16_224(10) };
    let mut rng = Seed(5).rng(Stream::Init, 0, 0);
    let narrow = narrow.init(&[0.5; 3], &[0.25; 3], &Device::flex(), &mut rng).unwrap();
    let wide = |n: usize| if n == 24 { hidden } else { mlp };
    let weights = |rule: PrunableRule| -> usize {
        let chosen = Prunable::from(rule).select(&narrow).unwrap();
        chosen.iter().map(|p| p.shape.iter().map(|&n| wide(n)).product::<usize>()).sum()
    };
    assert_eq!(weights(PrunableRule::ReferenceDense), 63_700_992);
    assert_eq!(weights(PrunableRule::Dense), 84_934_656);
}

#[test]
fn one_shot_pruning_and_training_keep_the_mask() {
    let model = transformer();
    let mask = one_shot(&model, &Magnitude, &with_rule(PrunableRule::Dense, 0.5), None).unwrap();
    let total = 2 * (4 * 64 + 2 * 96);
    assert_eq!((mask.len(), mask.total(), mask.kept()), (12, total, total / 2));
    let sparse = mask.apply(&model).unwrap();
    let fit_config = FitConfig::new(2, 1e-3, OptimizerConfig::adam_w());
    let constraint = mask.constraint(&sparse).unwrap();
    let objective = CrossEntropy::default();
    let trained = fit(sparse, &loader(24, 8), &objective, &constraint, &fit_config, &mut Silent).unwrap();
    let mut moved = 0;
    for (path, mask) in mask.iter() {
        let (before, after) = (values(&model, path.as_str()), values(&trained.model, path.as_str()));
        for ((before, after), keep) in before.iter().zip(&after).zip(mask.keep()) {
            assert!(*keep || after.to_bits() == 0, "{path}: a pruned weight came back");
            moved += usize::from(*keep && before != after);
        }
    }
    assert!(moved > total / 4, "{moved} weights were trained");
}

#[test]
fn iterative_pruning_rewinds_to_where_it_says() {
    let loader = loader(24, 8);
    let fit_config = FitConfig {
        schedule: Schedule::Cosine,
        warmup_epochs: 1,
        ..FitConfig::new(3, 2e-3, OptimizerConfig::adam_w())
    };
    let objective = CrossEntropy::default();
    let rounds = |rewind: Rewind| {
        let config = IterativeConfig {
            rounds: 2,
            prune: with_rule(PrunableRule::ReferenceDense, 0.4),
            rewind,
            fit: fit_config.clone(),
            retrain: None,
            retrain_length: RetrainLength::Remaining,
        };
        let run = IterativeRun {
            loader: &loader,
            objective: &objective,
            score: &Magnitude,
            mask: None,
            directory: None,
        };
        iterative(transformer(), &run, &config, &mut Silent).unwrap()
    };
    let by_hand = |start: &Vit, mask: &MaskSet, config: &FitConfig| {
        let constraint = mask.constraint(start).unwrap();
        let start = burn::module::Module::valid(start);
        fit(start, &loader, &objective, &constraint, config, &mut Silent).unwrap().model
    };
    // 2·(64 + 96 + 96) = 512 → 307 → 184.
    let init = rounds(Rewind::Init);
    let kept: Vec<usize> = init[1..].iter().map(|round| round.mask.kept()).collect();
    assert_eq!(kept, [307, 184]);
    for round in &init[1..] {
        assert_eq!(bits(&round.model), bits(&by_hand(&transformer(), &round.mask, &fit_config)));
    }
    let early = rounds(Rewind::Epoch(1));
    let snapshots = FitConfig { snapshot_epochs: vec![1], ..fit_config.clone() };
    let dense = fit(transformer(), &loader, &objective, &Unconstrained, &snapshots, &mut Silent).unwrap();
    let tail = FitConfig { epochs: 2, schedule_offset: 1, ..fit_config.clone() };
    for round in &early[1..] {
        assert_eq!(bits(&round.model), bits(&by_hand(&dense.snapshots[&1], &round.mask, &tail)));
    }
    let last = rounds(Rewind::Final);
    assert_eq!(bits(&last[1].model), bits(&by_hand(&last[0].model, &last[1].mask, &fit_config)));
    assert_ne!(bits(&last[1].model), bits(&early[1].model));
}
