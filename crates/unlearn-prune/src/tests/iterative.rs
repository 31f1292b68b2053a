use std::cell::RefCell;
use std::path::Path;

use burn::module::Module;
use unlearn_train::{
    CrossEntropy, Event, FitConfig, Observer, OptimizerConfig, Schedule, Silent, Unconstrained, fit,
};

use super::mask::thirds;
use super::net::{TinyNet, bits, loader, values};
use crate::iterative::{IterativeRun, RetrainLength, Round};
use crate::{
    EmptyLayers, IterativeConfig, Magnitude, MaskSet, PruneConfig, PruneError, Rewind, Scope, Start,
    iterative, iterative_from, one_shot,
};

fn config(rounds: u32, rewind: Rewind) -> IterativeConfig {
    let fit = FitConfig {
        schedule: Schedule::MultiStep { milestones: vec![2], gamma: 0.5 },
        ..FitConfig::new(3, 0.05, OptimizerConfig::sgd(0.9, 5e-4))
    };
    let prune = PruneConfig::new(0.4);
    IterativeConfig { rounds, prune, rewind, fit, retrain: None, retrain_length: RetrainLength::Remaining }
}

fn run(
    config: &IterativeConfig,
    mask: Option<&MaskSet>,
    directory: Option<&Path>,
    observer: &mut dyn Observer,
) -> Result<Vec<Round<TinyNet>>, PruneError> {
    let loader = loader(24, 8);
    let objective = CrossEntropy::default();
    let run = IterativeRun { loader: &loader, objective: &objective, score: &Magnitude, mask, directory };
    iterative(TinyNet::flex(1), &run, config, observer)
}

/// The learning rates of all steps of all runs.
fn rates(config: &IterativeConfig) -> Vec<Vec<f64>> {
    let seen = RefCell::new(Vec::new());
    run(config, None, None, &mut |event: &Event| match event {
        Event::Started { .. } => seen.borrow_mut().push(Vec::new()),
        Event::Step { rate, .. } => seen.borrow_mut().last_mut().unwrap().push(*rate),
        _ => {}
    })
    .unwrap();
    seen.into_inner()
}

#[test]
fn rounds_compound_and_the_last_is_trained_not_pruned() {
    let rounds = run(&config(3, Rewind::Init), None, None, &mut Silent).unwrap();
    assert_eq!(rounds.len(), 4);
    // 308 → 185 (123.2 go) → 111 (74) → 67 (44.4).
    let kept: Vec<_> = rounds[1..].iter().map(|r| r.record.sparsity.kept).collect();
    assert_eq!(kept, [185, 111, 67]);
    assert!(rounds[0].mask.is_empty());
    for (n, round) in rounds.iter().enumerate() {
        assert_eq!(round.record.round, n as u32);
        assert_eq!((round.record.steps, round.record.history.len()), (9, 3));
        assert_eq!(round.record.mask, round.mask.fingerprint());
        for (path, mask) in round.mask.iter() {
            for (w, keep) in values(&round.model, path.as_str()).into_iter().zip(mask.keep()) {
                assert!(*keep || w.to_bits() == 0, "round {n}: {path}");
            }
        }
    }
    // Each mask comes of the trained weights of the round before, and only ever loses.
    for pair in rounds.windows(2) {
        let again =
            one_shot(&pair[0].model, &Magnitude, &PruneConfig::new(0.4), Some(&pair[0].mask)).unwrap();
        assert_eq!(again, pair[1].mask);
        assert_eq!(pair[1].mask.intersect(&pair[0].mask).unwrap(), pair[1].mask);
    }
}

/// Each rewind is what one would do by hand.
#[test]
fn training_goes_on_from_where_the_rewind_says() {
    let loader = loader(24, 8);
    let by_hand = |start: &TinyNet, mask: &MaskSet, fit_config: &FitConfig| {
        let constraint = mask.constraint(start).unwrap();
        let objective = CrossEntropy::default();
        fit(start.valid(), &loader, &objective, &constraint, fit_config, &mut Silent).unwrap().model
    };
    let first = |rewind| run(&config(1, rewind), None, None, &mut Silent).unwrap();
    let init = TinyNet::flex(1);
    let whole = config(1, Rewind::Init).fit;

    let rounds = first(Rewind::Init);
    assert_eq!(bits(&rounds[1].model), bits(&by_hand(&init, &rounds[1].mask, &whole)));

    let rounds = first(Rewind::Final);
    assert_eq!(bits(&rounds[1].model), bits(&by_hand(&rounds[0].model, &rounds[1].mask, &whole)));

    let rounds = first(Rewind::Epoch(1));
    let objective = CrossEntropy::default();
    let snapshots = FitConfig { snapshot_epochs: vec![1], ..whole.clone() };
    let dense = fit(init.valid(), &loader, &objective, &Unconstrained, &snapshots, &mut Silent).unwrap();
    assert_eq!(bits(&dense.model), bits(&rounds[0].model));
    let tail = FitConfig { epochs: 2, schedule_offset: 1, ..whole.clone() };
    assert_eq!(bits(&rounds[1].model), bits(&by_hand(&dense.snapshots[&1], &rounds[1].mask, &tail)));
    // The three differ, so the comparison means something.
    assert_ne!(bits(&rounds[1].model), bits(&by_hand(&init, &rounds[1].mask, &whole)));
}

#[test]
fn the_learning_rate_is_rewound_with_the_weights() {
    let steps = |epochs: [f64; 3]| epochs.into_iter().flat_map(|r| [r; 3]).collect::<Vec<_>>();
    let dense = steps([0.05, 0.05, 0.025]);
    assert_eq!(rates(&config(1, Rewind::Init)), [dense.clone(), dense.clone()]);
    assert_eq!(rates(&config(1, Rewind::Final)), [dense.clone(), dense.clone()]);
    let tail = dense[6..].to_vec();
    assert_eq!(rates(&config(2, Rewind::Epoch(2))), [dense.clone(), tail.clone(), tail]);
    let mut reference = config(1, Rewind::Epoch(2));
    reference.retrain_length = RetrainLength::Reference;
    assert_eq!(rates(&reference), [dense.clone(), steps([0.025; 3])]);
    let mut own = config(1, Rewind::Init);
    own.retrain = Some(FitConfig::new(1, 0.01, OptimizerConfig::sgd(0.0, 0.0)));
    assert_eq!(rates(&own), [dense, vec![0.01; 3]]);
}

#[test]
fn a_given_mask_holds_from_the_start() {
    let start = thirds(&TinyNet::flex(1));
    let rounds = run(&config(1, Rewind::Init), Some(&start), None, &mut Silent).unwrap();
    assert_eq!(rounds[0].mask, start);
    let zero =
        |r: &Round<TinyNet>| values(&r.model, "head.weight").iter().step_by(3).all(|w| w.to_bits() == 0);
    assert!(zero(&rounds[0]) && zero(&rounds[1]), "a weight outside the rule came back");
}

/// A network that was trained elsewhere is pruned as the one that was trained here.
#[test]
fn the_first_training_can_be_done_elsewhere() {
    let loader = loader(24, 8);
    let objective = CrossEntropy::default();
    let given = thirds(&TinyNet::flex(1));
    for (rewind, mask) in
        [(Rewind::Init, None), (Rewind::Epoch(1), None), (Rewind::Final, None), (Rewind::Final, Some(&given))]
    {
        let config = config(2, rewind);
        let whole = run(&config, mask, None, &mut Silent).unwrap();
        let snapshots = FitConfig { snapshot_epochs: vec![1], ..config.fit.clone() };
        let early =
            fit(TinyNet::flex(1), &loader, &objective, &Unconstrained, &snapshots, &mut Silent).unwrap();
        let start = Start {
            init: TinyNet::flex(1),
            model: whole[0].model.valid(),
            early: Some(early.snapshots[&1].valid()),
        };
        let parts =
            IterativeRun { loader: &loader, objective: &objective, score: &Magnitude, mask, directory: None };
        let rounds = iterative_from(&start, &parts, &config, &mut Silent).unwrap();
        assert_eq!(rounds.len(), 2);
        for (ours, theirs) in rounds.iter().zip(&whole[1..]) {
            assert_eq!(bits(&ours.model), bits(&theirs.model), "{rewind}");
            assert_eq!((&ours.mask, ours.record.round), (&theirs.mask, theirs.record.round));
            if let Some(mask) = mask {
                assert_eq!(ours.mask.intersect(mask).unwrap(), ours.mask, "a weight that was gone came back");
            }
        }
        if rewind == Rewind::Epoch(1) {
            let none = Start { early: None, ..start };
            let error = iterative_from(&none, &parts, &config, &mut Silent).unwrap_err();
            assert!(error.to_string().contains("weights of epoch 1"), "{error}");
        }
    }
}

#[test]
fn a_rate_that_leaves_nothing_is_refused_before_any_training() {
    for (rate, rounds, scope) in
        [(0.9999, 1, Scope::Global), (0.9, 4, Scope::Global), (0.9, 4, Scope::PerLayer)]
    {
        let mut config = config(rounds, Rewind::Init);
        config.prune = PruneConfig { scope, empty_layers: EmptyLayers::Allow, ..PruneConfig::new(rate) };
        let error = config.prune.check(&TinyNet::flex(1), rounds, None).unwrap_err();
        assert_eq!(error.code(), "E_PRUNE_ALL");
        assert!(error.to_string().contains("308 prunable weights"), "{error}");
    }
    // 308 → 31 → 3 at two rounds; with a third it is none (2.7 of 3 go).
    let check = |rounds, mask: Option<&MaskSet>| PruneConfig::new(0.9).check(&TinyNet::flex(1), rounds, mask);
    check(2, None).unwrap();
    assert_eq!(check(3, None).unwrap_err().code(), "E_PRUNE_ALL");
    check(u32::MAX, None).unwrap_err();
    // What is gone already counts.
    let once = one_shot(&TinyNet::flex(1), &Magnitude, &PruneConfig::new(0.9), None).unwrap();
    check(1, Some(&once)).unwrap();
    assert_eq!(check(2, Some(&once)).unwrap_err().code(), "E_PRUNE_ALL");
}

#[test]
fn bad_settings_are_refused_before_any_work() {
    let refused = |config: IterativeConfig, code: &str, says: &str| {
        let mut observer = |event: &Event| panic!("work was begun: {event:?}");
        let error = run(&config, None, None, &mut observer).unwrap_err();
        assert_eq!(error.code(), code);
        assert!(error.to_string().contains(says), "{error}");
    };
    refused(config(0, Rewind::Init), "E_CONFIG", "rounds");
    refused(config(1, Rewind::Epoch(3)), "E_CONFIG", "epoch:3");
    refused(config(1, Rewind::Epoch(u64::MAX)), "E_CONFIG", "rewind");
    let mut reference = config(1, Rewind::Epoch(4));
    reference.retrain_length = RetrainLength::Reference;
    refused(reference, "E_CONFIG", "epoch:4");
    let mut bad = config(1, Rewind::Init);
    bad.prune.rate = 1.0;
    refused(bad, "E_RATE", "1");
    let mut bad = config(1, Rewind::Init);
    bad.fit.epochs = 0;
    refused(bad.clone(), "E_CONFIG", "epochs");
    bad.rewind = Rewind::Epoch(1);
    refused(bad, "E_CONFIG", "epochs");
    let mut bad = config(1, Rewind::Epoch(1));
    bad.retrain = Some(FitConfig::new(1, 0.1, OptimizerConfig::adam_w()));
    refused(bad.clone(), "E_CONFIG", "epoch:1");
    bad.retrain = Some(FitConfig::new(0, 0.1, OptimizerConfig::adam_w()));
    refused(bad, "E_CONFIG", "epochs");
}

#[test]
fn rewinds_have_names() {
    for (text, rewind) in [("init", Rewind::Init), ("epoch:8", Rewind::Epoch(8)), ("final", Rewind::Final)] {
        let json = format!("\"{text}\"");
        assert_eq!(serde_json::from_str::<Rewind>(&json).unwrap(), rewind);
        assert_eq!(serde_json::to_string(&rewind).unwrap(), json);
    }
    for bad in ["", "epoch", "epoch:", "epoch:-1", "epoch:1.5", "Init", "8"] {
        assert!(bad.parse::<Rewind>().unwrap_err().to_string().contains("epoch:K"), "{bad}");
    }
}

/// Stops the whole thing after so many steps, as a kill would between two of them.
struct StopAfter(u32);

impl Observer for StopAfter {
    fn on_event(&mut self, event: &Event) {
        if matches!(event, Event::Step { .. }) {
            self.0 = self.0.saturating_sub(1);
        }
    }

    fn should_stop(&mut self) -> bool {
        self.0 == 0
    }
}

#[test]
fn a_run_in_a_directory_goes_on_where_it_was_stopped() {
    let config = config(2, Rewind::Epoch(1));
    let whole = run(&config, None, None, &mut Silent).unwrap();
    for stop in [2, 9, 11, 15, 19] {
        let folder = tempfile::tempdir().unwrap();
        let stopped = run(&config, None, Some(folder.path()), &mut StopAfter(stop));
        assert!(stopped.is_err(), "{stop}");
        let resumed = run(&config, None, Some(folder.path()), &mut Silent).unwrap();
        for (a, b) in whole.iter().zip(&resumed) {
            assert_eq!(bits(&a.model), bits(&b.model), "stopped after {stop}");
            assert_eq!(a.mask, b.mask);
            assert_eq!(MaskSet::load(folder.path().join("mask-02.safetensors")).unwrap(), whole[2].mask);
        }
        // Once more: everything is there, and no step is done again.
        let steps = RefCell::new(0);
        let again = run(&config, None, Some(folder.path()), &mut |event: &Event| {
            *steps.borrow_mut() += usize::from(matches!(event, Event::Step { .. }));
        });
        assert_eq!(bits(&again.unwrap()[2].model), bits(&whole[2].model));
        assert_eq!(steps.into_inner(), 0, "a finished round was trained again");
    }
}

#[test]
fn a_directory_of_another_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = config(1, Rewind::Init);
    run(&first, None, Some(folder.path()), &mut Silent).unwrap();
    let mut other = first.clone();
    other.prune.rate = 0.5;
    let error = run(&other, None, Some(folder.path()), &mut Silent).unwrap_err();
    assert_eq!(error.code(), "E_RESUME_CONFIG");
    let text = error.to_string();
    assert!(text.contains("prune.rate") && text.contains("0.4") && text.contains("0.5"), "{text}");
    // How often it saves may change.
    let mut same = first.clone();
    same.fit.checkpoint.keep = 5;
    run(&same, None, Some(folder.path()), &mut Silent).unwrap();
    // Another mask than the one stored: say, of another score.
    let path = folder.path().join("mask-01.safetensors");
    let mut mask = MaskSet::load(&path).unwrap();
    mask.get_mut(&"conv1.weight".into()).unwrap().keep_mut().fill(true);
    mask.save(&path).unwrap();
    let error = run(&first, None, Some(folder.path()), &mut Silent).unwrap_err();
    assert_eq!(error.code(), "E_RESUME_CONFIG");
    assert!(error.to_string().contains("mask-01.safetensors"), "{error}");
}
