//! safetensors, good and bad.

use ::safetensors::SafeTensors;
use half::{bf16, f16};

use super::forge::{f32s, safetensors};
use super::*;
use crate::ModelConfig;

fn written() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let metadata =
        Metadata::new().with_data_fingerprint("d").with_split_id("s").with("b", "2").with("a", "1");
    write(&path, &StateDict::of(&net(4)).unwrap(), &metadata).unwrap();
    std::fs::read(&path).unwrap()
}

#[test]
fn an_independent_reader_finds_the_same() {
    let bytes = written();
    let state = StateDict::of(&net(4)).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.len(), state.len());
    for (name, tensor) in state.iter() {
        let view = tensors.tensor(name).unwrap();
        assert_eq!(view.shape(), tensor.shape);
        assert_eq!(view.data(), f32s(&tensor.values));
    }
    let (header, about) = SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!((header + 8) % 8, 0);
    assert_eq!(about.metadata().as_ref().unwrap()["format"], "pt");
}

#[test]
fn equal_states_give_equal_bytes() {
    assert_eq!(written(), written());
}

#[test]
fn metadata_survives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let model = ModelConfig::preset("resnet20", 10).unwrap().with_width(4);
    let metadata = Metadata::new()
        .with_model(&model)
        .with_data_fingerprint("abc")
        .with_split_id("stratified:10%:0")
        .with("note", "ünïcode \"quoted\"");
    write(&path, &StateDict::of(&net(0)).unwrap(), &metadata).unwrap();
    let read = read(&path).unwrap().metadata;
    assert_eq!(read.model().unwrap(), Some(model));
    assert_eq!(read.data_fingerprint(), Some("abc"));
    assert_eq!(read.split_id(), Some("stratified:10%:0"));
    assert_eq!(read.get("note"), Some("ünïcode \"quoted\""));
    assert_eq!(Metadata::new().model().unwrap(), None);
}

#[test]
fn metadata_that_describes_no_model_is_an_error() {
    for text in ["", "{}", r#"{"name":"resnet"}"#, r#"{"name":"resnet","blocks":[0,0,0,0],"classes":3}"#] {
        let error = Metadata::new().with("unlearn.model", text).model().unwrap_err();
        assert!(matches!(&error, CheckpointError::Metadata { key, .. } if key == "unlearn.model"), "{error}");
    }
}

#[test]
fn a_cut_file_is_an_error_wherever_it_is_cut() {
    let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    let bytes = safetensors(header, &f32s(&[1.0, 2.0]));
    for length in 0..bytes.len() {
        let error = refused_bytes(&bytes[..length]);
        assert!(matches!(error, CheckpointError::Format { .. }), "cut at {length}: {error}");
    }
    let long = written();
    for length in (0..long.len()).step_by(97) {
        let error = refused_bytes(&long[..length]);
        assert!(matches!(error, CheckpointError::Format { .. }), "cut at {length}: {error}");
    }
}

#[test]
fn headers_that_claim_too_much_are_refused_before_they_are_parsed() {
    for length in [u64::MAX, 1 << 40, 100_000_001, (16 << 20) + 1] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(b"{\"a\":1}");
        let (_folder, path) = file(&bytes);
        let error = StateDict::read_safetensors(&path).unwrap_err();
        assert!(matches!(error, CheckpointError::TooLarge { got, .. } if got == length), "{error}");
    }
    let mut bytes = 1000_u64.to_le_bytes().to_vec();
    bytes.extend(b"{\"a\":1}");
    let error = refused_bytes(&bytes);
    assert!(error.to_string().contains("a header of 1000 bytes in a file of 15 bytes"), "{error}");
}

#[test]
fn header_bombs_are_errors() {
    let deep = format!("{{\"a\":{}", "[".repeat(1 << 20));
    let wide = format!("{{{}}}", (0..100_000).map(|i| format!("\"t{i}\":1")).collect::<Vec<_>>().join(","));
    for header in [deep.as_str(), &wide, "{\"a\"", "{]", "{\"a\":null}", "{\"\u{1}\":1}"] {
        let error = refused_bytes(&safetensors(header, &[]));
        assert!(matches!(error, CheckpointError::Format { .. }), "{error}");
    }
}

#[test]
fn inconsistent_headers_are_errors() {
    let one = |shape: &str, start: usize, end: usize| {
        format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[{start},{end}]}}}}"#)
    };
    let overlap = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
    for header in [
        one("[3]", 0, 8),
        one("[2]", 4, 12),
        one("[2]", 8, 0),
        one("[1]", 0, 4),
        one("[4294967296,4294967296,4294967296]", 0, 8),
        one("[-2]", 0, 8),
        one("[2]", 0, 800),
        overlap.to_owned(),
        r#"{"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}"#.to_owned(),
        r#"{"a":{"shape":[2],"data_offsets":[0,8]}}"#.to_owned(),
    ] {
        let error = refused_bytes(&safetensors(&header, &f32s(&[1.0, 2.0])));
        assert!(matches!(error, CheckpointError::Format { .. }), "{header}: {error}");
    }
}

#[test]
fn a_name_that_occurs_twice_is_an_error() {
    let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let error = refused_bytes(&safetensors(header, &f32s(&[1.0])));
    assert!(matches!(&error, CheckpointError::Duplicate { name } if name == "a"), "{error}");
}

#[test]
fn other_element_types_are_converted_or_named() {
    let read_one = |dtype: &str, bytes: &[u8]| {
        let end = bytes.len();
        let header = format!(r#"{{"w":{{"dtype":"{dtype}","shape":[2],"data_offsets":[0,{end}]}}}}"#);
        let (_folder, path) = file(&safetensors(&header, bytes));
        read(&path).map(|c| c.state.get("w").unwrap().values.clone())
    };
    let half: Vec<u8> = [0.1, -65504.0].map(f16::from_f32).iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(read_one("F16", &half).unwrap(), [f16::from_f32(0.1).to_f32(), -65504.0]);
    let brain: Vec<u8> = [0.1, 3.0e38].map(bf16::from_f32).iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(read_one("BF16", &brain).unwrap(), [0.1, 3.0e38].map(|v| bf16::from_f32(v).to_f32()));
    let double: Vec<u8> = [0.1_f64, 1e300].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(read_one("F64", &double).unwrap(), [0.1, f32::INFINITY]);
    for (dtype, bytes) in [("I64", 16), ("I32", 8), ("F8_E4M3", 2), ("U8", 2), ("BOOL", 2)] {
        let error = read_one(dtype, &vec![0; bytes]).unwrap_err();
        assert!(
            matches!(&error, CheckpointError::ElementType { name, .. } if name == "w"),
            "{dtype}: {error}"
        );
    }
}

#[test]
fn masks_of_bytes_are_understood() {
    let header = r#"{"w_orig":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"w_mask":{"dtype":"BOOL","shape":[2],"data_offsets":[8,10]}}"#;
    let mut data = f32s(&[1.0, 2.0]);
    data.extend([0, 1]);
    let (_folder, path) = file(&safetensors(header, &data));
    let read = read(&path).unwrap();
    assert_eq!(read.state.get("w").unwrap().values, [0.0, 2.0]);
    assert_eq!(read.masks.get("w").unwrap().keep, [false, true]);
}
