use unlearn_data::Seed;

use super::mask::thirds;
use super::net::{INPUT, TinyNet, bits, values};
use crate::{
    EmptyLayers, Magnitude, MaskSet, PrunableRule, PruneConfig, Random, Scope, Score, SynFlow, one_shot,
};

fn prune(net: &TinyNet, config: &PruneConfig, mask: Option<&MaskSet>) -> MaskSet {
    one_shot(net, &Magnitude, config, mask).unwrap()
}

#[test]
fn a_rate_is_a_share() {
    let net = TinyNet::flex(1);
    for rate in [0.0, 1.0, -0.1, 1.5, f64::NAN, f64::INFINITY] {
        let error = one_shot(&net, &Magnitude, &PruneConfig::new(rate), None).unwrap_err();
        assert_eq!(error.code(), "E_RATE", "{rate}");
    }
}

#[test]
fn global_magnitude_removes_the_smallest_of_all_convolutions() {
    let net = TinyNet::flex(1);
    let before = bits(&net);
    let mask = prune(&net, &PruneConfig::new(0.5), None);
    assert_eq!((mask.len(), mask.total(), mask.kept()), (3, 308, 154));
    let weights = |keep: bool| {
        let of = |(path, m): (&unlearn_curvature::ParamPath, &crate::Mask)| {
            let chosen = values(&net, path.as_str()).into_iter().zip(m.keep().to_vec());
            chosen.filter(|(_, k)| *k == keep).map(|(w, _)| w.abs()).collect::<Vec<_>>()
        };
        mask.iter().flat_map(of).collect::<Vec<_>>()
    };
    let largest_gone = weights(false).into_iter().fold(0.0, f32::max);
    let smallest_kept = weights(true).into_iter().fold(f32::MAX, f32::min);
    assert!(largest_gone <= smallest_kept);
    assert_eq!(bits(&net), before);
    assert_eq!(prune(&net, &PruneConfig::new(0.5), None), mask, "equal calls differ");
}

#[test]
fn per_layer_takes_the_same_share_everywhere() {
    let config = PruneConfig { scope: Scope::PerLayer, ..PruneConfig::new(0.7) };
    let mask = prune(&TinyNet::flex(1), &config, None);
    let kept: Vec<_> = mask.iter().map(|(_, m)| m.kept()).collect();
    // 108 − 76 (75.6), 180 − 126, 20 − 14.
    assert_eq!(kept, [32, 54, 6]);
}

#[test]
fn an_existing_mask_is_pruned_on_and_kept_where_it_is_not_prunable() {
    let net = TinyNet::flex(1);
    let start = thirds(&net); // conv2 keeps 120 of 180; head is not prunable by the rule
    let mask = prune(&net, &PruneConfig::new(0.25), Some(&start));
    assert_eq!(mask.get(&"head.weight".into()), start.get(&"head.weight".into()));
    let conv = ["conv1.weight", "conv2.weight", "shortcut.weight"];
    let left: usize = conv.iter().map(|p| mask.get(&(*p).into()).unwrap().kept()).sum();
    assert_eq!(left, 248 - 62);
    assert_eq!(mask.intersect(&start).unwrap(), mask, "a pruned weight came back");
    let mut foreign = MaskSet::new();
    foreign.insert("conv2.weight", vec![180], vec![true; 180]).unwrap();
    let error = one_shot(&net, &Magnitude, &PruneConfig::new(0.5), Some(&foreign)).unwrap_err();
    assert_eq!(error.code(), "E_MASK_SHAPE");
}

#[test]
fn extreme_rates_empty_layers_only_if_allowed() {
    let net = TinyNet::flex(1);
    let config = PruneConfig::new(0.99);
    let error = one_shot(&net, &Magnitude, &config, None).unwrap_err();
    assert_eq!(error.code(), "E_PRUNE_LAYER_EMPTY");
    let mask = prune(&net, &PruneConfig { empty_layers: EmptyLayers::Allow, ..config }, None);
    assert_eq!(mask.kept(), 3);
    // Layer by layer it is known before anything is scored: 0.99 of 20 weights are 20.
    let config = PruneConfig { scope: Scope::PerLayer, ..PruneConfig::new(0.99) };
    let error = config.check(&net, 1, None).unwrap_err();
    assert_eq!(error.code(), "E_PRUNE_LAYER_EMPTY");
    assert!(error.to_string().contains("`shortcut.weight`"), "{error}");
    PruneConfig { empty_layers: EmptyLayers::Allow, ..config }.check(&net, 1, None).unwrap();
}

/// A hundred rounds end at exactly the same count as one, and SynFlow empties no layer at a rate
/// at which one round of it would.
#[test]
fn synflow_takes_a_hundred_rounds_to_the_exact_count() {
    let net = TinyNet::flex(9);
    let synflow = SynFlow::new(INPUT);
    assert_eq!(Score::<TinyNet>::rounds(&synflow), 100);
    for rate in [0.3, 0.85, 0.95] {
        let mask = one_shot(&net, &synflow, &PruneConfig::new(rate), None).unwrap();
        assert_eq!(mask.kept(), 308 - (308.0 * rate).round_ties_even() as usize, "{rate}");
    }
    let at_once = SynFlow { rounds: 1, ..synflow };
    let config = PruneConfig::new(0.85);
    let (many, one) = (one_shot(&net, &synflow, &config, None), one_shot(&net, &at_once, &config, None));
    assert_ne!(many.unwrap(), one.unwrap(), "the rounds made no difference");
}

#[test]
fn random_pruning_in_rounds_is_random_pruning_at_once() {
    let net = TinyNet::flex(1);
    let random = Random { seed: Seed(3) };
    let config = |rate| PruneConfig { prunable: PrunableRule::AllWeights.into(), ..PruneConfig::new(rate) };
    let first = one_shot(&net, &random, &config(0.5), None).unwrap();
    let second = one_shot(&net, &random, &config(0.5), Some(&first)).unwrap();
    let at_once = one_shot(&net, &random, &config(0.75), None).unwrap();
    assert_eq!(first.total(), 362);
    // 362 → 181 → 181 − 90; at once 362 − 272 (271.5).
    assert_eq!((second.kept(), at_once.kept()), (91, 90));
    assert_eq!(second.intersect(&at_once).unwrap().kept(), 90);
}

#[test]
fn a_config_is_read_from_a_recipe() {
    let read = |json: &str| serde_json::from_str::<PruneConfig>(json);
    assert_eq!(read(r#"{"rate":0.95}"#).unwrap(), PruneConfig::new(0.95));
    let full = r#"{"rate":0.5,"scope":"per-layer","prunable":"dense","empty_layers":"allow"}"#;
    let config = read(full).unwrap();
    assert_eq!((config.scope, config.empty_layers), (Scope::PerLayer, EmptyLayers::Allow));
    assert_eq!(serde_json::to_string(&config).unwrap(), full.replace("\"dense\"", r#"{"rule":"dense"}"#));
    assert!(read(r#"{"rate":0.5,"scoop":"global"}"#).is_err());
}
