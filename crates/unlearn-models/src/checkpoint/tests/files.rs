//! Paths and first bytes.

use super::*;

#[test]
fn a_missing_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = refused(&folder.path().join("absent.safetensors"));
    assert!(matches!(&error, CheckpointError::Io { .. }) && error.code() == "E_IO");
    assert!(error.to_string().contains("absent.safetensors"), "{error}");
}

#[test]
fn a_directory_is_no_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let error = refused(folder.path());
    assert!(matches!(error, CheckpointError::NotAFile { got: "a directory", .. }), "{error}");
    let error = write(folder.path(), &StateDict::new(), &Metadata::new()).unwrap_err();
    assert!(matches!(error, CheckpointError::NotAFile { .. }), "{error}");
}

#[cfg(unix)]
#[test]
fn a_device_file_is_not_waited_for() {
    // Not through `refused`, which looks at the whole file.
    let error = read("/dev/zero").unwrap_err();
    assert!(matches!(error, CheckpointError::NotAFile { .. }), "{error}");
}

#[test]
fn an_empty_file_is_cut_short() {
    let error = refused_bytes(b"");
    assert!(matches!(error, CheckpointError::Format { .. }));
    assert!(error.to_string().contains("empty"), "{error}");
}

#[test]
fn foreign_files_are_told_by_their_first_bytes() {
    for bytes in
        [&b"\x89PNG\r\n\x1a\n0000000000"[..], b"hello, world", b"{\"a\": 1}", b"\0", b"\x1f\x8b\x08\0"]
    {
        let error = refused_bytes(bytes);
        assert!(matches!(error, CheckpointError::Format { .. }), "{error}");
        assert!(error.to_string().contains("begins with the bytes"), "{error}");
    }
}

#[test]
fn a_tar_container_is_refused_before_it_is_opened() {
    // The header of a sparse entry that claims a terabyte.
    let mut bytes = vec![0_u8; 1024];
    bytes[..7].copy_from_slice(b"storage");
    bytes[156] = b'S';
    bytes[257..263].copy_from_slice(b"ustar ");
    let error = refused_bytes(&bytes);
    assert!(error.to_string().contains("TAR archive"), "{error}");
    // Also under a first byte that a pickle could begin with.
    bytes[0] = b'c';
    assert!(refused_bytes(&bytes).to_string().contains("TAR archive"));
}

#[test]
fn a_file_past_the_limit_is_not_read() {
    let (_folder, path) = file(&[0; 100]);
    let error = read_with(&path, Limits { max_bytes: 99 }).unwrap_err();
    assert!(matches!(error, CheckpointError::TooLarge { got: 100, limit: 99, .. }), "{error}");
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let state = StateDict::of(&net(1)).unwrap();
    state.write_safetensors(&path).unwrap();
    let before = std::fs::read(&path).unwrap();
    let mut bad = state.clone();
    let mut tensor = bad.remove("fc.bias").unwrap();
    tensor.values[1] = f32::NAN;
    bad.insert("fc.bias", tensor).unwrap();
    let error = bad.write_safetensors(&path).unwrap_err();
    assert!(
        matches!(&error, CheckpointError::NonFinite { tensors } if tensors == &[("fc.bias".into(), 1)]),
        "{error}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["model.safetensors"], "nothing is left behind");
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("absent").join("model.safetensors");
    let error = StateDict::of(&net(1)).unwrap().write_safetensors(&path).unwrap_err();
    assert!(matches!(error, CheckpointError::Io { action: "write", .. }), "{error}");
}
