use burn::module::Module;
use burn::tensor::Device;
use proptest::prelude::*;
use unlearn_curvature::{ParamPath, parameters};

use super::net::{TinyNet, bits, values};
use crate::{MaskSet, PruneError, SparsityReport};

/// Every third weight of two layers goes.
pub(super) fn thirds(net: &TinyNet) -> MaskSet {
    let mut mask = MaskSet::new();
    for info in parameters(net) {
        if ["conv2.weight", "head.weight"].contains(&info.path.as_str()) {
            let n: usize = info.shape.iter().product();
            mask.insert(info.path, info.shape, (0..n).map(|i| i % 3 != 0).collect()).unwrap();
        }
    }
    mask
}

#[test]
#[allow(deprecated)]
fn applying_gives_positive_zero_and_leaves_the_rest() {
    for device in [Device::flex(), Device::ndarray()] {
        let net = TinyNet::new(&device, 1);
        let before = bits(&net);
        let sparse = thirds(&net).apply(&net).unwrap();
        assert_eq!(bits(&net), before, "the caller's model changed");
        for path in ["conv2.weight", "head.weight"] {
            for (i, (old, new)) in values(&net, path).into_iter().zip(values(&sparse, path)).enumerate() {
                let expected = if i % 3 == 0 { 0.0 } else { old };
                assert_eq!(new.to_bits(), expected.to_bits(), "{path}[{i}]");
            }
        }
        for path in ["conv1.weight", "dense.weight", "bn1.running_mean", "conv2.bias"] {
            assert_eq!(values(&net, path), values(&sparse, path), "{path}");
        }
    }
}

#[test]
fn not_a_number_under_the_mask_goes_too() {
    let net = TinyNet::flex(1);
    let mut tree = unlearn_curvature::ParamTree::new();
    let bad = (0..180).map(|i| if i % 2 == 0 { f32::NAN } else { f32::NEG_INFINITY }).collect();
    tree.insert_host("conv2.weight".into(), vec![5, 4, 3, 3], bad, &Device::flex()).unwrap();
    let net = tree.write_into(&net).unwrap();
    let mut mask = MaskSet::new();
    mask.insert("conv2.weight", vec![5, 4, 3, 3], vec![false; 180]).unwrap();
    let sparse = mask.apply(&net).unwrap();
    assert!(values(&sparse, "conv2.weight").iter().all(|w| w.to_bits() == 0));
}

#[test]
fn applying_twice_is_applying_once_and_keeps_what_training_moves() {
    let net = TinyNet::flex(2).no_grad();
    let mask = thirds(&net);
    let once = mask.apply(&net).unwrap();
    assert_eq!(bits(&mask.apply(&once).unwrap()), bits(&once));
    assert!(parameters(&once).iter().all(|p| !p.trainable), "frozen parameters came back to life");
    let live = mask.apply(&TinyNet::flex(2)).unwrap();
    assert!(parameters(&live).iter().any(|p| p.path.as_str() == "conv2.weight" && p.trainable));
}

#[test]
fn a_mask_of_another_model_is_refused_by_name_and_by_shape() {
    let net = TinyNet::flex(1);
    let mut mask = thirds(&net);
    mask.insert("conv9.weight", vec![1], vec![true]).unwrap();
    mask.insert("conv8.weight", vec![1], vec![true]).unwrap();
    let Err(PruneError::MaskName { unknown }) = mask.apply(&net) else { panic!("accepted") };
    assert_eq!(unknown, ["conv8.weight", "conv9.weight"]);

    let mut mask = MaskSet::new();
    mask.insert("conv1.weight", vec![4, 27], vec![true; 108]).unwrap();
    let error = mask.constraint(&net).unwrap_err();
    assert_eq!(error.code(), "E_MASK_SHAPE");
    let text = error.to_string();
    assert!(
        text.contains("conv1.weight") && text.contains("[4, 27]") && text.contains("[4, 3, 3, 3]"),
        "{text}"
    );
}

#[test]
fn an_entry_must_fill_its_shape() {
    let mut mask = MaskSet::new();
    for (shape, n) in [(vec![2, 3], 5), (vec![usize::MAX, 4], 4), (vec![0], 1)] {
        let error = mask.insert("w", shape, vec![true; n]).unwrap_err();
        assert_eq!(error.code(), "E_MASK_SHAPE");
    }
    assert!(mask.is_empty());
    mask.insert("w", vec![0, 7], Vec::new()).unwrap();
    assert_eq!((mask.sparsity(), mask.total()), (0.0, 0));
}

#[test]
fn the_report_counts_each_layer_and_survives_json() {
    let report = thirds(&TinyNet::flex(1)).report();
    let layers: Vec<_> = report.layers.iter().map(|l| (l.path.as_str(), l.kept, l.total)).collect();
    assert_eq!(layers, [("conv2.weight", 120, 180), ("head.weight", 16, 24)]);
    assert_eq!((report.kept, report.total), (136, 204));
    assert!((report.sparsity - 1.0 / 3.0).abs() < 1e-12);
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<SparsityReport>(&text).unwrap(), report);
    let table = report.to_string();
    assert!(
        table.contains("conv2.weight") && table.lines().count() == 4 && table.contains("33.3 %"),
        "{table}"
    );
}

#[test]
fn fingerprints_tell_masks_apart() {
    let net = TinyNet::flex(1);
    let mask = thirds(&net);
    assert_eq!(mask.fingerprint(), mask.clone().fingerprint());
    assert_eq!(mask.fingerprint().len(), 64);
    let mut other = mask.clone();
    let mut keep = mask.get(&ParamPath::from("head.weight")).unwrap().keep().to_vec();
    keep[23] = !keep[23];
    other.insert("head.weight", vec![6, 4], keep).unwrap();
    assert_ne!(mask.fingerprint(), other.fingerprint());
    let with_shape = |shape: Vec<usize>| {
        let mut mask = MaskSet::new();
        mask.insert("w", shape, vec![true; 12]).unwrap();
        mask.fingerprint()
    };
    assert_ne!(with_shape(vec![3, 4]), with_shape(vec![4, 3]));
}

proptest! {
    #[test]
    fn intersection_keeps_what_both_keep(a in prop::collection::vec(any::<bool>(), 40),
                                         b in prop::collection::vec(any::<bool>(), 40)) {
        let (mut x, mut y) = (MaskSet::new(), MaskSet::new());
        x.insert("both", vec![5, 8], a.clone()).unwrap();
        y.insert("both", vec![5, 8], b.clone()).unwrap();
        y.insert("only", vec![40], b.clone()).unwrap();
        let both = x.intersect(&y).unwrap();
        let expected: Vec<_> = a.iter().zip(&b).map(|(a, b)| *a && *b).collect();
        prop_assert_eq!(both.get(&"both".into()).unwrap().keep(), &expected);
        prop_assert_eq!(both.get(&"only".into()).unwrap().keep(), &b);
        prop_assert_eq!(both.intersect(&both).unwrap(), both.clone());
        y.insert("both", vec![8, 5], b).unwrap();
        prop_assert!(x.intersect(&y).is_err());
    }
}
