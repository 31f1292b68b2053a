//! Branches into weights.

use unlearn_curvature::ParamPath;

use super::*;
use crate::Classifier;

fn adapted() -> Adapted<ResNet> {
    stirred(add_adapters(base(&Device::flex()), &config(), &mut rng(3)).unwrap())
}

#[test]
fn a_merged_network_gives_the_same_outputs() {
    let device = Device::flex();
    for rs_lora in [false, true] {
        let lora = LoraConfig { rs_lora, ..config() };
        let adapted = stirred(add_adapters(base(&device), &lora, &mut rng(3)).unwrap());
        let merged = adapted.merge().unwrap();
        let branches = host(adapted.forward(images(5, &device)));
        let d = distance(&host(merged.forward(images(5, &device))), &branches);
        assert!(d < 1e-5, "{d:e}");
        let change = adapted.output_change(&merged, images(5, &device)).unwrap();
        assert!(change.mean <= change.largest && change.largest < 1e-4, "{change:?}");
        // Not because nothing was there to merge.
        assert!(distance(&host(adapted.base().forward(images(5, &device))), &branches) > 0.05);
    }
}

#[test]
fn unmerging_gives_the_base_to_rounding_and_the_base_itself_is_untouched() {
    let device = Device::flex();
    let (adapted, original) = (adapted(), base(&device));
    let back = adapted.unmerge(&adapted.merge().unwrap()).unwrap();
    for ((path, got), (_, expected)) in bits(&back).into_iter().zip(bits(&original)) {
        let values = |bits: Vec<u32>| bits.into_iter().map(f32::from_bits).collect::<Vec<_>>();
        // (w + δ) − δ with |δ| of the size of w.
        assert!(distance(&values(got), &values(expected)) < 4e-6, "{path}");
    }
    assert_eq!(bits(&adapted.to_base()), bits(&original));
}

/// Every second weight, and all of one layer.
fn half(model: &ResNet) -> Kept {
    let weights = unlearn_curvature::parameters(model).into_iter().filter(|p| p.layer == "Conv2d");
    weights
        .map(|p| {
            let all = p.path.as_str() == "layer4.0.conv1.weight";
            let size = p.shape.iter().product::<usize>();
            (p.path, (0..size).map(|i| all || i % 2 == 1).collect())
        })
        .collect()
}

#[test]
fn a_masked_merge_keeps_every_zero() {
    let device = Device::flex();
    let adapted = adapted();
    let kept = half(adapted.base());
    let (merged, dense) = (adapted.masked_merge(&kept).unwrap(), adapted.merge().unwrap());
    let (merged_bits, dense_bits) = (bits(&merged), bits(&dense));
    let mut zeros = 0;
    for ((path, got), (_, expected)) in merged_bits.iter().zip(&dense_bits) {
        let keep = kept.get(&ParamPath::new(path.clone()));
        for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
            let keeps = keep.is_none_or(|keep| keep[i]);
            zeros += usize::from(!keeps);
            assert_eq!(*got, if keeps { *expected } else { 0 }, "{path}[{i}]: +0.0 or the merged weight");
        }
    }
    assert!(zeros > 1000, "{zeros}");
    let change = adapted.output_change(&merged, images(4, &device)).unwrap();
    let exact = adapted.output_change(&dense, images(4, &device)).unwrap();
    assert!(change.largest > 100.0 * exact.largest && change.mean > 0.0, "{change:?} {exact:?}");
}

#[test]
fn what_a_change_of_outputs_is() {
    let device = Device::flex();
    let adapted = adapted();
    let base = adapted.to_base();
    let pairs = (host(adapted.forward(images(4, &device))), host(base.forward(images(4, &device))));
    let differences: Vec<f64> = pairs.0.iter().zip(&pairs.1).map(|(a, b)| f64::from((a - b).abs())).collect();
    let change = adapted.output_change(&base, images(4, &device)).unwrap();
    assert_eq!(change.largest, differences.iter().fold(0.0, |m: f64, v| m.max(*v)));
    let mean = differences.iter().sum::<f64>() / differences.len() as f64;
    assert!((change.mean - mean).abs() < 1e-12);
}

#[test]
fn masks_of_other_models_are_refused() {
    let adapted = adapted();
    let kept = |path: &str, n: usize| Kept::from([(ParamPath::from(path), vec![true; n])]);
    for (path, n, expected) in [("nowhere.weight", 3, 0), ("conv1.weight", 3, 4 * 27)] {
        match adapted.masked_merge(&kept(path, n)) {
            Err(LoraError::Mask { path: got, got: entries, expected: size }) => {
                assert_eq!((got.as_str(), entries, size), (path, n, expected));
            }
            other => panic!("expected a refusal, got {:?}", other.map(|_| ())),
        }
    }
}
