//! What `torch.load` reads: a ZIP archive of stored entries with a pickle that names their tensors.
//!
//! ```text
//! archive/data.pkl     {name: _rebuild_tensor_v2(storage K, offset 0, shape, strides, …), …}
//! archive/byteorder    little
//! archive/data/K       the values of tensor K, float32, little-endian
//! archive/version      3
//! ```
//!
//! The opcodes are those of Python's `pickletools`, protocol 2. The pickle names no other constructor than those that
//! `torch.load(weights_only=True)` allows.

use std::io::{self, Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::StateDict;

const ROOT: &str = "archive";

/// The whole file. Equal states give equal bytes.
pub(super) fn encode(out: &mut dyn Write, state: &StateDict) -> io::Result<()> {
    let stored = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default())
        .large_file(true);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let mut entry = |name: &str, bytes: &[u8]| -> io::Result<()> {
        zip.start_file(format!("{ROOT}/{name}"), stored).map_err(io::Error::other)?;
        zip.write_all(bytes)
    };
    entry("data.pkl", &pickle(state)?)?;
    entry("byteorder", b"little")?;
    for (key, (_, tensor)) in state.iter().enumerate() {
        let bytes: Vec<u8> = tensor.values.iter().flat_map(|v| v.to_le_bytes()).collect();
        entry(&format!("data/{key}"), &bytes)?;
    }
    entry("version", b"3\n")?;
    out.write_all(zip.finish().map_err(io::Error::other)?.get_ref())
}

fn pickle(state: &StateDict) -> io::Result<Vec<u8>> {
    let mut out = Pickle(b"\x80\x02}(".to_vec());
    for (key, (name, tensor)) in state.iter().enumerate() {
        out.text(name)?;
        out.global("torch._utils", "_rebuild_tensor_v2");
        out.0.push(b'(');
        // The storage: ('storage', FloatStorage, key, device, length), as a persistent identifier.
        out.0.push(b'(');
        out.text("storage")?;
        out.global("torch", "FloatStorage");
        out.text(&key.to_string())?;
        out.text("cpu")?;
        out.number(tensor.values.len())?;
        out.0.extend(b"tQ");
        out.number(0)?;
        out.tuple(tensor.shape.iter().copied())?;
        let mut stride = tensor.values.len();
        let strides: Vec<usize> = tensor
            .shape
            .iter()
            .map(|&size| {
                stride /= size.max(1);
                stride
            })
            .collect();
        out.tuple(strides.into_iter())?;
        // requires_grad: False; no hooks.
        out.0.push(0x89);
        out.global("collections", "OrderedDict");
        out.0.extend(b")RtR");
    }
    out.0.extend(b"u.");
    Ok(out.0)
}

struct Pickle(Vec<u8>);

impl Pickle {
    fn text(&mut self, text: &str) -> io::Result<()> {
        let length = u32::try_from(text.len()).map_err(|_| io::Error::other("a name of four gigabytes"))?;
        self.0.push(b'X');
        self.0.extend(length.to_le_bytes());
        self.0.extend(text.as_bytes());
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) {
        self.0.extend(format!("c{module}\n{name}\n").as_bytes());
    }

    fn number(&mut self, number: usize) -> io::Result<()> {
        let number = i32::try_from(number).map_err(|_| io::Error::other("a tensor of eight gigabytes"))?;
        self.0.push(b'J');
        self.0.extend(number.to_le_bytes());
        Ok(())
    }

    fn tuple(&mut self, numbers: impl Iterator<Item = usize>) -> io::Result<()> {
        self.0.push(b'(');
        for number in numbers {
            self.number(number)?;
        }
        self.0.push(b't');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{HostTensor, StateDict, read, write_torch};

    fn state() -> StateDict {
        let mut state = StateDict::new();
        for (name, shape) in [("a.weight", vec![2, 3, 1, 2]), ("b", vec![]), ("ärger.bias", vec![5])] {
            let n: usize = shape.iter().product();
            let values = (0..n).map(|i| i as f32 - 0.1).collect();
            state.insert(name, HostTensor { shape, values }).unwrap();
        }
        state
    }

    #[test]
    fn what_is_written_is_read_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.pth");
        write_torch(&path, &state()).unwrap();
        let again = read(&path).unwrap();
        assert_eq!(again.state, state());
        assert_eq!(again.state.fingerprint(), state().fingerprint());
        let bytes = std::fs::read(&path).unwrap();
        write_torch(&path, &again.state).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn what_is_not_finite_is_never_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.pth");
        let mut state = state();
        state.insert("c", HostTensor { shape: vec![1], values: vec![f32::NAN] }).unwrap();
        assert_eq!(write_torch(&path, &state).unwrap_err().code(), "E_NONFINITE");
        assert!(!path.exists());
    }
}
