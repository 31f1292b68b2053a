//! Files made by hand: safetensors from a header, torch archives from a pickle.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A safetensors file with this header and these data.
pub(super) fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

pub(super) fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// A value of a pickle.
pub(super) enum Value {
    Raw(Vec<u8>),
    Dict(Vec<(&'static str, Value)>),
    /// Storage type, storage key, storage length, shape, strides.
    Tensor(&'static str, &'static str, u32, Vec<u32>, Vec<u32>),
}

/// A contiguous float32 tensor.
pub(super) fn tensor(key: &'static str, shape: &[u32]) -> Value {
    typed("FloatStorage", key, shape)
}

/// A contiguous tensor of any type.
pub(super) fn typed(storage: &'static str, key: &'static str, shape: &[u32]) -> Value {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    Value::Tensor(storage, key, shape.iter().product(), shape.to_vec(), strides)
}

impl Value {
    /// Pickle protocol 2.
    pub(super) fn pickle(&self) -> Vec<u8> {
        let mut out = vec![0x80, 2];
        self.write(&mut out);
        out.push(b'.');
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Raw(bytes) => out.extend(bytes),
            Self::Dict(entries) => {
                out.extend(b"}(");
                for (key, value) in entries {
                    text(key, out);
                    value.write(out);
                }
                out.push(b'u');
            }
            Self::Tensor(storage, key, length, shape, strides) => {
                out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
                text("storage", out);
                out.extend(format!("ctorch\n{storage}\n").as_bytes());
                text(key, out);
                text("cpu", out);
                int(*length, out);
                out.extend(b"tQ");
                int(0, out);
                for numbers in [shape, strides] {
                    out.push(b'(');
                    for &number in numbers {
                        int(number, out);
                    }
                    out.push(b't');
                }
                out.push(0x89);
                out.extend(b"ccollections\nOrderedDict\n)RtR");
            }
        }
    }
}

pub(super) fn text(value: &str, out: &mut Vec<u8>) {
    out.push(b'X');
    out.extend((value.len() as u32).to_le_bytes());
    out.extend(value.as_bytes());
}

fn int(value: u32, out: &mut Vec<u8>) {
    out.push(b'J');
    out.extend(value.to_le_bytes());
}

/// A torch archive under the name `name`, with this pickle and these storages.
pub(super) fn archive(name: &str, pickle: &[u8], storages: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    zip.start_file(format!("{name}/data.pkl"), stored).unwrap();
    zip.write_all(pickle).unwrap();
    for (key, bytes) in storages {
        zip.start_file(format!("{name}/data/{key}"), stored).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.start_file(format!("{name}/version"), stored).unwrap();
    zip.write_all(b"3\n").unwrap();
    zip.finish().unwrap().into_inner()
}

/// An archive of one dictionary of tensors.
pub(super) fn checkpoint(root: &Value, storages: &[(&str, Vec<u8>)]) -> Vec<u8> {
    archive("archive", &root.pickle(), storages)
}

/// Puts the two ZIP64 records before the last record, as torch.save does.
pub(super) fn with_zip64(archive: &[u8]) -> Vec<u8> {
    let end = archive.len() - 22;
    let word = |at: usize| u64::from(u32::from_le_bytes(archive[end + at..end + at + 4].try_into().unwrap()));
    let entries = u64::from(u16::from_le_bytes(archive[end + 10..end + 12].try_into().unwrap()));
    let mut bytes = archive[..end].to_vec();
    bytes.extend(b"PK\x06\x06");
    bytes.extend(44_u64.to_le_bytes());
    bytes.extend([0x1e, 3, 45, 0]);
    bytes.extend([0; 8]);
    for number in [entries, entries, word(12), word(16)] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(b"PK\x06\x07");
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend((end as u64).to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(&archive[end..]);
    bytes
}
