use std::collections::HashMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::{MaskSet, PruneError};

fn example() -> MaskSet {
    let mut mask = MaskSet::new();
    mask.insert("conv1.weight", vec![2, 3, 3, 1], (0..18).map(|i| i % 5 < 2).collect()).unwrap();
    mask.insert("head.weight", vec![5], vec![false, true, true, false, true]).unwrap();
    mask.insert("whole", vec![16], vec![true; 16]).unwrap();
    mask
}

fn saved(folder: &Path) -> Vec<u8> {
    let path = folder.join("mask.safetensors");
    example().save(&path).unwrap();
    fs::read(path).unwrap()
}

fn load(folder: &Path, bytes: &[u8]) -> Result<MaskSet, PruneError> {
    let path = folder.join("other.safetensors");
    fs::write(&path, bytes).unwrap();
    MaskSet::load(&path)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_saved_is_loaded(keep in prop::collection::vec(prop::collection::vec(any::<bool>(), 0..70), 0..5)) {
        let folder = tempfile::tempdir().unwrap();
        let mut mask = MaskSet::new();
        for (i, keep) in keep.into_iter().enumerate() {
            mask.insert(format!("layer{i}.weight").as_str(), vec![keep.len(), 1], keep).unwrap();
        }
        let path = folder.path().join("m");
        mask.save(&path).unwrap();
        let first = fs::read(&path).unwrap();
        prop_assert_eq!(MaskSet::load(&path).unwrap(), mask.clone());
        mask.save(&path).unwrap();
        prop_assert_eq!(fs::read(&path).unwrap(), first, "the same mask gave other bytes");
        prop_assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "scratch files are left");
    }
}

#[test]
fn eight_weights_take_a_byte() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = saved(folder.path());
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("head.weight").unwrap().data(), [0b1_0110]);
    assert_eq!(tensors.tensor("whole").unwrap().data(), [255, 255]);
    assert_eq!(tensors.tensor("conv1.weight").unwrap().dtype(), Dtype::U8);
}

/// No damage gives another mask: the count of each layer and the zeros past its end see to it.
#[test]
fn every_flipped_bit_is_refused_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let good = saved(folder.path());
    let data = good.len() - 6;
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        match load(folder.path(), &bad) {
            Err(error) => assert_eq!(error.code(), "E_MASK_FILE", "bit {bit}: {error}"),
            Ok(mask) => {
                assert!(bit / 8 < data, "bit {bit} of the masks was not noticed");
                // Names are in the file twice and shapes are checked against the lengths; what can
                // still change is a shape of the same length in bytes.
                let bits = |m: &MaskSet| m.iter().map(|(p, m)| (p.clone(), m.kept())).collect::<Vec<_>>();
                assert_eq!(bits(&mask), bits(&example()), "bit {bit}");
            }
        }
    }
}

#[test]
fn every_cut_and_every_tail_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let good = saved(folder.path());
    for length in 0..good.len() {
        assert_eq!(load(folder.path(), &good[..length]).unwrap_err().code(), "E_MASK_FILE", "{length}");
    }
    let mut long = good.clone();
    long.push(0);
    assert_eq!(load(folder.path(), &long).unwrap_err().code(), "E_MASK_FILE");
}

#[test]
fn headers_that_lie_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let write = |header: &str, name: &str, dtype: Dtype, shape: Vec<usize>, data: &[u8]| {
        let tensors = [(name.to_owned(), TensorView::new(dtype, shape, data).unwrap())];
        let metadata = HashMap::from([("unlearn.mask".to_owned(), header.to_owned())]);
        load(folder.path(), &safetensors::serialize(tensors, Some(metadata)).unwrap())
    };
    let good = r#"{"version":1,"masks":{"w":{"shape":[2,5],"kept":3}}}"#;
    write(good, "w", Dtype::U8, vec![2], &[0b111, 0]).unwrap();
    let refused = |result: Result<MaskSet, PruneError>, says: &str| {
        let error = result.unwrap_err();
        assert_eq!(error.code(), "E_MASK_FILE");
        assert!(error.to_string().contains(says), "{error}");
        assert!(error.to_string().contains("other.safetensors"), "{error}");
    };
    refused(write(good, "v", Dtype::U8, vec![2], &[0b111, 0]), "\"v\" has no entry");
    refused(write(good, "w", Dtype::I8, vec![2], &[0b111, 0]), "type I8");
    refused(write(good, "w", Dtype::U8, vec![2, 1], &[0b111, 0]), "[2, 1]");
    refused(write(good, "w", Dtype::U8, vec![3], &[0b111, 0, 0]), "[3]");
    refused(write(good, "w", Dtype::U8, vec![2], &[0b1111, 0]), "keeps 4");
    refused(write(good, "w", Dtype::U8, vec![2], &[0b11, 0b100]), "past its end");
    refused(write(r#"{"version":2,"masks":{}}"#, "w", Dtype::U8, vec![1], &[0]), "version 2");
    refused(write(r#"{"version":1,"masks":{},"x":0}"#, "w", Dtype::U8, vec![1], &[0]), "unknown field");
    refused(write("{", "w", Dtype::U8, vec![1], &[0]), "unlearn.mask");
    let huge = r#"{"version":1,"masks":{"w":{"shape":[4294967296,4294967296,2],"kept":0}}}"#;
    refused(write(huge, "w", Dtype::U8, vec![1], &[0]), "shape");
    let two = r#"{"version":1,"masks":{"u":{"shape":[1],"kept":0},"w":{"shape":[1],"kept":0}}}"#;
    refused(write(two, "w", Dtype::U8, vec![1], &[0]), "\"u\" is named but not there");
    let plain = [("w", TensorView::new(Dtype::U8, vec![1], &[0]).unwrap())];
    refused(load(folder.path(), &safetensors::serialize(plain, None).unwrap()), "metadata");
}

#[test]
fn a_missing_file_or_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("no").join("mask.safetensors");
    for error in [MaskSet::load(&path).unwrap_err(), example().save(&path).unwrap_err()] {
        assert_eq!(error.code(), "E_IO");
        assert!(error.to_string().contains("mask.safetensors"), "{error}");
    }
    assert_eq!(MaskSet::load(folder.path()).unwrap_err().code(), "E_MASK_FILE");
}

#[test]
fn a_failed_save_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    // A folder in the way cannot be replaced by a file.
    let path = folder.path().join("taken");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("inside"), "kept").unwrap();
    assert_eq!(example().save(&path).unwrap_err().code(), "E_IO");
    assert_eq!(fs::read_to_string(path.join("inside")).unwrap(), "kept");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "scratch files are left");
}
