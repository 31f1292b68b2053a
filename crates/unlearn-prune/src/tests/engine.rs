//! SNIP by the curvature engine and by automatic differentiation, on a small residual network.

use burn::module::Module;
use burn::tensor::Device;
use unlearn_data::{Seed, Stream};
use unlearn_models::{ResNet, ResNetConfig};

use super::net::{CLASSES, TinyNet, loader};
use crate::score::{Precision, SnipForm};
use crate::{Magnitude, Prunable, PrunableRule, PruneConfig, Score, Scores, ScoringData, Snip, one_shot};
use unlearn_curvature::Engine;

fn net() -> ResNet {
    let config = ResNetConfig { blocks: [1, 1, 1, 1], ..ResNetConfig::resnet18(CLASSES).with_width(4) };
    config.init(&[0.5; 3], &[0.25; 3], &Device::flex(), &mut Seed(2).rng(Stream::Init, 0, 0)).unwrap()
}

/// Batches of 6 and 5, which the engine cuts in its own way.
fn data() -> ScoringData {
    ScoringData::first(&loader(16, 6), 11).unwrap()
}

fn score(net: &ResNet, snip: &Snip) -> Scores {
    snip.scores(net, &Prunable::from(PrunableRule::Conv).select(net).unwrap()).unwrap()
}

#[test]
fn both_engines_give_the_same_scores() {
    let dense = net();
    let mask = one_shot(&dense, &Magnitude, &PruneConfig::new(0.5), None).unwrap();
    let pruned = mask.apply(&dense).unwrap();
    // Frozen weights have scores too.
    let frozen = dense.valid().no_grad();
    for net in [&dense, &pruned, &frozen] {
        for form in [SnipForm::Connection, SnipForm::Reference] {
            let snip = |engine| Snip { form, engine, ..Snip::new(data()) };
            let (fast, slow) = (score(net, &snip(Engine::Tape)), score(net, &snip(Engine::Autodiff)));
            assert_ne!(fast, slow, "one way only");
            assert_eq!(fast, score(net, &snip(Engine::Auto)));
            assert_eq!(fast.iter().count(), slow.iter().count());
            for ((path, got), (other, expected)) in fast.iter().zip(slow.iter()) {
                assert_eq!((path, got.len()), (other, expected.len()));
                let scale = expected.iter().fold(0.0_f32, |m, v| m.max(*v));
                assert!(scale > 0.0, "{path}: nothing to compare");
                for (g, e) in got.iter().zip(expected) {
                    assert!((g - e).abs() <= 2e-5 * scale, "{path}: {g:e} {e:e} of {scale:e}");
                }
            }
        }
    }
}

#[test]
fn the_engine_computes_in_float32_only_and_on_a_tape_only() {
    let snip = Snip { precision: Precision::Double, engine: Engine::Tape, ..Snip::new(data()) };
    let prunable = Prunable::from(PrunableRule::Conv).select(&net()).unwrap();
    let refused = snip.scores(&net(), &prunable).unwrap_err();
    assert!(refused.to_string().contains("float32"), "{refused}");
    // Left to choose, it takes what can do it.
    score(&net(), &Snip { engine: Engine::Auto, ..snip.clone() });

    let plain = TinyNet::flex(1);
    let prunable = Prunable::from(PrunableRule::Conv).select(&plain).unwrap();
    let snip = Snip { precision: Precision::Single, ..snip };
    let refused = snip.scores(&plain, &prunable).unwrap_err();
    assert!(refused.to_string().contains("tape"), "{refused}");
}
