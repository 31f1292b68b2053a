//! What `torch.save` writes, and what pretends to be it.

use half::{bf16, f16};

use super::forge::{Value, archive, checkpoint, f32s, tensor, text, typed, with_zip64};
use super::*;

fn two_tensors() -> Value {
    Value::Dict(vec![("fc.weight", tensor("0", &[2, 2])), ("fc.bias", tensor("1", &[2]))])
}

fn two_storages() -> Vec<(&'static str, Vec<u8>)> {
    vec![("0", f32s(&[1.0, 2.0, 3.0, 4.0])), ("1", f32s(&[5.0, 6.0]))]
}

fn read_bytes(bytes: &[u8]) -> Checkpoint {
    let (_folder, path) = file(bytes);
    read(&path).unwrap()
}

#[test]
fn a_bare_state_dict_and_one_under_its_key_are_read_alike() {
    let bare = read_bytes(&checkpoint(&two_tensors(), &two_storages()));
    assert_eq!(bare.state.get("fc.weight").unwrap().values, [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(bare.state.get("fc.weight").unwrap().shape, [2, 2]);
    assert_eq!(bare.state.get("fc.bias").unwrap().values, [5.0, 6.0]);
    let beside = Value::Dict(vec![
        ("epoch", Value::Raw(b"K\x07".to_vec())),
        ("state_dict", two_tensors()),
        ("optimizer", Value::Dict(vec![("momentum", tensor("1", &[2]))])),
    ]);
    assert_eq!(read_bytes(&checkpoint(&beside, &two_storages())).state, bare.state);
    let (_folder, path) = file(&checkpoint(&beside, &two_storages()));
    assert_eq!(StateDict::read_torch(&path).unwrap(), bare.state);
}

#[test]
fn the_prefix_of_parallel_training_is_dropped_only_where_all_share_it() {
    let all = Value::Dict(vec![("module.a", tensor("1", &[2])), ("module.b", tensor("0", &[4]))]);
    let names: Vec<_> =
        read_bytes(&checkpoint(&all, &two_storages())).state.iter().map(|(n, _)| n.to_owned()).collect();
    assert_eq!(names, ["a", "b"]);
    let some = Value::Dict(vec![("module.a", tensor("1", &[2])), ("b", tensor("0", &[4]))]);
    let state = read_bytes(&checkpoint(&some, &two_storages())).state;
    assert!(state.get("module.a").is_some() && state.get("b").is_some());
}

#[test]
fn other_float_types_become_float32_and_counters_are_passed_over() {
    let root = Value::Dict(vec![
        ("half", typed("HalfStorage", "0", &[2])),
        ("brain", typed("BFloat16Storage", "1", &[2])),
        ("double", typed("DoubleStorage", "2", &[2])),
        ("bn1.num_batches_tracked", typed("LongStorage", "3", &[])),
    ]);
    let storages = [
        ("0", [1.5, -0.1].map(f16::from_f32).iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>()),
        ("1", [1.5, -0.1].map(bf16::from_f32).iter().flat_map(|v| v.to_le_bytes()).collect()),
        ("2", [1.5_f64, -0.1].iter().flat_map(|v| v.to_le_bytes()).collect()),
        ("3", 7_i64.to_le_bytes().to_vec()),
    ];
    let state = read_bytes(&checkpoint(&root, &storages)).state;
    assert_eq!(state.len(), 3);
    assert_eq!(state.get("half").unwrap().values, [1.5, f16::from_f32(-0.1).to_f32()]);
    assert_eq!(state.get("brain").unwrap().values, [1.5, bf16::from_f32(-0.1).to_f32()]);
    assert_eq!(state.get("double").unwrap().values, [1.5, -0.1]);
}

#[test]
fn masks_are_applied_and_returned() {
    let root = Value::Dict(vec![
        ("conv1.weight_orig", tensor("0", &[2, 2])),
        ("conv1.weight_mask", tensor("1", &[2, 2])),
        ("fc.bias", tensor("2", &[1])),
    ]);
    // A pruned value need not be finite, and a pruned negative one is +0.0.
    let original = [1.0, -2.0, f32::INFINITY, 4.0];
    let storages = [("0", f32s(&original)), ("1", f32s(&[1.0, 0.0, 0.0, 1.0])), ("2", f32s(&[9.0]))];
    let read = read_bytes(&checkpoint(&root, &storages));
    let bits: Vec<_> = read.state.get("conv1.weight").unwrap().values.iter().map(|v| v.to_bits()).collect();
    assert_eq!(bits, [1.0, 0.0, 0.0, 4.0].map(f32::to_bits));
    assert_eq!(read.masks.get("conv1.weight").unwrap().keep, [true, false, false, true]);
    assert_eq!((read.masks.len(), read.state.len()), (1, 2));
}

#[test]
fn a_mask_of_other_values_or_shape_is_refused() {
    let with = |shape: &[u32], mask: &[f32]| {
        let root = Value::Dict(vec![("w_orig", tensor("0", &[4])), ("w_mask", tensor("1", shape))]);
        refused_bytes(&checkpoint(&root, &[("0", f32s(&[1.0; 4])), ("1", f32s(mask))])).to_string()
    };
    assert!(with(&[4], &[1.0, 0.5, 0.0, 1.0]).contains("`w_mask` holds 0.5"));
    assert!(with(&[4], &[1.0, f32::NAN, 0.0, 1.0]).contains("holds NaN"));
    assert!(with(&[2], &[1.0, 0.0]).contains("shape [2]"));
}

#[test]
fn an_archive_whose_zip64_records_mislead_the_reader_is_read() {
    // The first directory entry is as long as the two records: 46 + 30 = 56 + 20.
    let name = "a".repeat(21);
    assert_eq!(format!("{name}/data.pkl").len(), 30);
    let plain = archive(&name, &two_tensors().pickle(), &two_storages());
    let bytes = with_zip64(&plain);
    let end = bytes.len() - 22;
    let size = u32::from_le_bytes(bytes[end + 12..end + 16].try_into().unwrap()) as usize;
    assert!(bytes[end - size..].starts_with(b"PK\x01\x02"), "the file misleads");
    assert_eq!(read_bytes(&bytes).state, read_bytes(&plain).state);
    for length in [20, 22] {
        let plain = archive(&"a".repeat(length), &two_tensors().pickle(), &two_storages());
        assert_eq!(read_bytes(&with_zip64(&plain)).state, read_bytes(&plain).state);
    }
}

#[test]
fn a_cut_archive_is_an_error_wherever_it_is_cut() {
    let bytes = checkpoint(&two_tensors(), &two_storages());
    for length in 0..bytes.len() {
        let error = refused_bytes(&bytes[..length]);
        assert!(matches!(error, CheckpointError::Format { .. }), "cut at {length}: {error}");
    }
}

#[test]
fn a_flipped_bit_is_an_error_or_at_least_a_typed_answer() {
    let bytes = checkpoint(&two_tensors(), &two_storages());
    let good = read_bytes(&bytes).state.fingerprint();
    let mut caught = 0;
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 0x10;
        let (_folder, path) = file(&bad);
        caught += usize::from(!matches!(read(&path), Ok(c) if c.state.fingerprint() == good));
    }
    // Storages and pickle carry checksums; time stamps and the like do not matter.
    assert!(caught > bytes.len() / 3, "{caught} of {}", bytes.len());
}

#[test]
fn a_flipped_bit_in_a_tensor_is_caught_by_its_checksum() {
    let bytes = checkpoint(&two_tensors(), &two_storages());
    let needle = f32s(&[1.0, 2.0, 3.0, 4.0]);
    let at = bytes.windows(needle.len()).position(|w| w == needle).unwrap();
    let mut bad = bytes;
    bad[at + 2] ^= 1;
    assert!(matches!(refused_bytes(&bad), CheckpointError::Format { .. }));
}

#[test]
fn a_compressed_entry_is_refused_unread() {
    let mut bytes = checkpoint(&two_tensors(), &two_storages());
    let directory = bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    bytes[directory + 10] = 8;
    let error = refused_bytes(&bytes);
    assert!(error.to_string().contains("stored entries"), "{error}");
}

#[test]
fn an_entry_that_claims_gigabytes_is_refused_unread() {
    let mut bytes = checkpoint(&two_tensors(), &two_storages());
    let directory = bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    bytes[directory + 24..directory + 28].copy_from_slice(&0xf000_0000_u32.to_le_bytes());
    let error = refused_bytes(&bytes);
    assert!(matches!(error, CheckpointError::Format { .. }), "{error}");
}

#[test]
fn a_view_that_claims_gigabytes_is_refused_unread() {
    let root = Value::Dict(vec![("w", Value::Tensor("FloatStorage", "0", 1, vec![1 << 30], vec![0]))]);
    let error = refused_bytes(&checkpoint(&root, &[("0", f32s(&[1.0]))]));
    assert!(matches!(error, CheckpointError::TooLarge { got: 4_294_967_296, .. }), "{error}");
    // And one beyond the reader's own limit.
    let root =
        Value::Dict(vec![("w", Value::Tensor("FloatStorage", "0", 1, vec![1 << 30, 1 << 20], vec![0, 0]))]);
    let error = refused_bytes(&checkpoint(&root, &[("0", f32s(&[1.0]))]));
    assert!(matches!(error, CheckpointError::Format { .. }), "{error}");
}

#[test]
fn a_tensor_larger_than_its_storage_is_refused() {
    let root = Value::Dict(vec![("w", Value::Tensor("FloatStorage", "0", 4, vec![8], vec![1]))]);
    let error = refused_bytes(&checkpoint(&root, &[("0", f32s(&[1.0; 4]))]));
    assert!(matches!(error, CheckpointError::Format { .. }), "{error}");
    let missing = checkpoint(&two_tensors(), &[("0", f32s(&[1.0; 4]))]);
    assert!(matches!(refused_bytes(&missing), CheckpointError::Format { .. }));
}

#[test]
fn integers_where_floats_are_needed_are_named() {
    let root = Value::Dict(vec![("w", typed("LongStorage", "0", &[1]))]);
    let error = refused_bytes(&checkpoint(&root, &[("0", vec![0; 8])]));
    assert!(
        matches!(&error, CheckpointError::ElementType { name, got, .. } if name == "w" && got == "I64"),
        "{error}"
    );
}

#[test]
fn garbage_pickles_are_errors() {
    let nested: Vec<u8> = [&[0x80, 2][..], &b"]".repeat(100_000), &b"a".repeat(99_999), b"."].concat();
    // Each list holds the one before it ten times over: ten billion nodes when copied.
    let mut laughs = vec![0x80, 2, b']', b'q', 0];
    for level in 0..10_u8 {
        laughs.extend(b"](");
        laughs.extend([b'h', level].repeat(10));
        laughs.extend([b'e', b'q', level + 1]);
    }
    laughs.push(b'.');
    for pickle in [
        &b"\x80\x02\xff\xff\xff"[..],
        b"\x80\x02.",
        b"\x80\x02K\x07.",
        b"\x80\x02]q",
        b"\x80\x02X\xff\xff\xff\xff.",
        b"\x80\x02\x8a\xff.",
        &nested,
        &laughs,
    ] {
        let error = refused_bytes(pickle);
        assert!(matches!(error, CheckpointError::Format { .. } | CheckpointError::Io { .. }), "{error}");
        let error = refused_bytes(&archive("archive", pickle, &[]));
        assert!(matches!(error, CheckpointError::Format { .. } | CheckpointError::Io { .. }), "{error}");
    }
}

#[test]
fn no_code_in_a_pickle_is_run() {
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("owned");
    let mut call = b"cos\nsystem\n(".to_vec();
    text(&format!("touch {}", marker.display()), &mut call);
    call.extend(b"tR");
    let root = Value::Dict(vec![("state_dict", Value::Raw(call.clone())), ("w", tensor("1", &[2]))]);
    for bytes in [checkpoint(&root, &two_storages()), archive("a", &Value::Raw(call).pickle(), &[])] {
        let (_folder, path) = file(&bytes);
        assert!(read(&path).is_err());
        assert!(!marker.exists());
    }
}

#[test]
fn nested_dictionaries_are_refused_by_name() {
    let root = Value::Dict(vec![("model", two_tensors()), ("epoch", Value::Raw(b"K\x07".to_vec()))]);
    let error = refused_bytes(&checkpoint(&root, &two_storages()));
    assert!(error.to_string().contains("under `model`"), "{error}");
    // Two names that would flatten to one.
    let inner = Value::Dict(vec![("weight", tensor("0", &[2, 2]))]);
    let root = Value::Dict(vec![("fc.weight", tensor("1", &[2])), ("fc", inner)]);
    let error = refused_bytes(&checkpoint(&root, &two_storages()));
    assert!(error.to_string().contains("under `fc`"), "{error}");
}

#[test]
fn names_of_an_attacker_are_escaped_and_trimmed() {
    let name: &'static str = Box::leak(format!("\x1b[2J{}", "n".repeat(5000)).into_boxed_str());
    let root = Value::Dict(vec![(name, typed("IntStorage", "0", &[1]))]);
    let error = refused_bytes(&checkpoint(&root, &[("0", vec![0; 4])]));
    assert!(matches!(error, CheckpointError::ElementType { .. }), "{error}");
}

#[test]
fn a_safetensors_file_is_not_read_as_a_torch_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    StateDict::of(&net(0)).unwrap().write_safetensors(&path).unwrap();
    assert!(matches!(StateDict::read_torch(&path), Err(CheckpointError::Format { .. })));
    let (_folder, path) = file(&checkpoint(&two_tensors(), &two_storages()));
    assert!(matches!(
        StateDict::read_safetensors(&path),
        Err(CheckpointError::Format { .. } | CheckpointError::TooLarge { .. })
    ));
}
