//! A whole data set in one file: read in one go, checked by SHA-256, written whole or not at all.
//!
//! All numbers little-endian:
//!
//! | bytes | content |
//! |---|---|
//! | 8 | magic, `UNLEARND` |
//! | 4 | version, 1 |
//! | 4 | length H of the header, at most 16 MiB |
//! | H | header, JSON: `name`, `shape`, `class_names`, `normalization`, `train`, `test` (counts) |
//! | 2 · train | training labels |
//! | shape · train | training pictures, `[n, channels, height, width]` |
//! | 2 · test | test labels |
//! | shape · test | test pictures |
//! | 32 | SHA-256 of everything before |
//!
//! The header fixes the file's length, which is compared before memory is asked for.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Reader, TrainTest, allocate, open_file};
use crate::DataError;
use crate::dataset::{Dataset, ImageShape, Normalization, hex};

/// The entry in the list of readers.
pub const READER: Reader = Reader {
    id: "packed",
    layout: "a packed file (`unlearn data pack`)",
    detect: |file| file.is_file(),
    open: read,
    apart: None,
};

const MAGIC: &[u8; 8] = b"UNLEARND";
const VERSION: u32 = 1;
const MAX_HEADER: u32 = 16 << 20;
/// Labels have 16 bits.
const MAX_CLASSES: usize = 1 << 16;
/// Classes are named after folders, whose names are no longer on common file systems.
const MAX_LETTERS: usize = 255;
const PREFIX: u64 = 16;
const DIGEST: u64 = 32;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    name: String,
    shape: ImageShape,
    class_names: Vec<String>,
    normalization: Normalization,
    train: u64,
    test: u64,
}

impl Header {
    /// Length of the whole file, `None` where it does not fit 64 bits.
    fn file_len(&self, header_len: u32) -> Option<u64> {
        let pixels = [self.shape.channels, self.shape.height, self.shape.width]
            .into_iter()
            .try_fold(1_u64, |product, n| product.checked_mul(n as u64))?;
        let body = self.train.checked_add(self.test)?.checked_mul(pixels.checked_add(2)?)?;
        body.checked_add(PREFIX + u64::from(header_len) + DIGEST)
    }
}

/// Writes `data` to the new file `path`: under another name first, renamed when it is complete and
/// on disk.
///
/// # Errors
/// [`DataError::Exists`] when `path` is taken, [`DataError::Invalid`] when the halves differ in
/// shape or classes, for a name with control characters, and for more classes or longer names than are read,
/// [`DataError::Io`].
pub fn write(path: &Path, data: &TrainTest) -> Result<(), DataError> {
    let TrainTest { train, test } = data;
    if train.shape() != test.shape() || train.class_names() != test.class_names() {
        return Err(DataError::Invalid {
            what: "data set to pack".into(),
            got: format!(
                "training pictures {:?} in {} classes, test pictures {:?} in {}",
                train.shape(),
                train.num_classes(),
                test.shape(),
                test.num_classes()
            ),
            expected: "one shape and one list of classes".into(),
            mend: "pack halves of one data set".into(),
        });
    }
    if let Some(name) = unshowable(train.name()) {
        return Err(DataError::Invalid {
            what: "name of the data set to pack".into(),
            got: name,
            expected: "a name without control characters".into(),
            mend: "name the data set otherwise".into(),
        });
    }
    if path.symlink_metadata().is_ok() {
        return Err(DataError::Exists { path: path.to_owned() });
    }
    let header = Header {
        name: train.name().trim_end_matches("/train").to_owned(),
        shape: train.shape(),
        class_names: train.class_names().to_vec(),
        normalization: train.normalization().clone(),
        train: train.len() as u64,
        test: test.len() as u64,
    };
    if let Some(got) = unnameable(&header) {
        return Err(DataError::Invalid {
            what: "names of the data set to pack and its classes".into(),
            got,
            expected: format!("at most {MAX_CLASSES} classes, and names of at most {MAX_LETTERS} letters"),
            mend: "use fewer or shorter names".into(),
        });
    }
    let failed = |source| DataError::io(path, "write", source);
    let json = serde_json::to_vec(&header).map_err(|e| failed(e.into()))?;
    let json_len = u32::try_from(json.len()).ok().filter(|len| *len <= MAX_HEADER).ok_or_else(|| {
        DataError::Invalid {
            what: "class names".into(),
            got: format!("{} bytes", json.len()),
            expected: format!("at most {MAX_HEADER}"),
            mend: "use fewer or shorter names".into(),
        }
    })?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let scratch = super::scratch(".packing-", 0o666).tempfile_in(folder).map_err(failed)?;
    let mut out = Hashing { inner: BufWriter::new(scratch.as_file()), hash: Sha256::new() };
    let mut write_all = || -> std::io::Result<()> {
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&json_len.to_le_bytes())?;
        out.write_all(&json)?;
        for half in [train, test] {
            for label in half.labels() {
                out.write_all(&(label as u16).to_le_bytes())?;
            }
            for image in (0..half.len()).filter_map(|index| half.image(index)) {
                out.write_all(image)?;
            }
        }
        let digest = out.hash.clone().finalize();
        out.write_all(&digest)?;
        out.inner.flush()?;
        out.inner.get_ref().sync_all()
    };
    write_all().map_err(failed)?;
    drop(out);
    scratch.persist_noclobber(path).map_err(|e| match e.error.kind() {
        std::io::ErrorKind::AlreadyExists => DataError::Exists { path: path.to_owned() },
        _ => failed(e.error),
    })?;
    #[cfg(unix)]
    File::open(folder).and_then(|dir| dir.sync_all()).map_err(failed)?;
    Ok(())
}

/// Reads the packed file `path`.
///
/// # Errors
/// [`DataError::Format`] when it is no packed file of this version or its header is wrong,
/// [`DataError::Length`] when its length is not what the header says, [`DataError::Checksum`] when
/// a byte has changed, [`DataError::Io`].
pub fn read(path: &Path) -> Result<TrainTest, DataError> {
    let unreadable = |source| DataError::io(path, "read", source);
    let file = open_file(path)?;
    let len = file.metadata().map_err(unreadable)?.len();
    if len < PREFIX {
        return Err(not_packed(path, format!("{len} bytes")));
    }
    let mut input = Hashing { inner: BufReader::new(file), hash: Sha256::new() };
    let (magic, version, header_len) = prefix(&mut input).map_err(unreadable)?;
    if &magic != MAGIC {
        return Err(not_packed(path, format!("it begins with {:?}", magic.escape_ascii().to_string())));
    }
    if version != VERSION {
        return Err(DataError::format(
            path,
            format!("version {version}"),
            format!("version {VERSION}"),
            "Pack the folder again with this release",
        ));
    }
    if header_len > MAX_HEADER || PREFIX + u64::from(header_len) + DIGEST > len {
        return Err(bad_header(path, format!("a header of {header_len} bytes in a file of {len}")));
    }
    let mut json = allocate("a header", Some(header_len as usize))?;
    input.read_exact(&mut json).map_err(unreadable)?;
    let header: Header = serde_json::from_slice(&json)
        .map_err(|e| bad_header(path, format!("a header that is wrong: {e}").chars().take(200).collect()))?;
    if let Some(name) = unshowable(&header.name) {
        return Err(bad_header(path, format!("the name {name} with control characters")));
    }
    if let Some(got) = unnameable(&header) {
        return Err(bad_header(path, got));
    }
    match header.file_len(header_len) {
        Some(expected) if expected == len => {}
        expected => {
            return Err(DataError::Length {
                file: path.to_owned(),
                got: len,
                expected: match expected {
                    Some(expected) => format!("{expected}, as its header says"),
                    None => "a length that a file can have (its header asks for more)".into(),
                },
            });
        }
    }
    let train = half(&mut input, path, &header, header.train)?;
    let test = half(&mut input, path, &header, header.test)?;
    let got = hex(&input.hash.clone().finalize());
    let mut digest = [0; DIGEST as usize];
    input.read_exact(&mut digest).map_err(unreadable)?;
    if hex(&digest) != got {
        return Err(DataError::Checksum { file: path.to_owned(), got, expected: hex(&digest) });
    }
    let build = |part: &str, (labels, images): (Vec<u16>, Vec<u8>)| {
        Dataset::new(
            format!("{}/{part}", header.name),
            header.shape,
            images,
            labels,
            header.class_names.clone(),
            header.normalization.clone(),
        )
    };
    Ok(TrainTest { train: build("train", train)?, test: build("test", test)? })
}

fn prefix(input: &mut impl Read) -> std::io::Result<([u8; 8], u32, u32)> {
    let (mut magic, mut version, mut header_len) = ([0; 8], [0; 4], [0; 4]);
    input.read_exact(&mut magic)?;
    input.read_exact(&mut version)?;
    input.read_exact(&mut header_len)?;
    Ok((magic, u32::from_le_bytes(version), u32::from_le_bytes(header_len)))
}

/// Labels and pictures of one half. Lengths were compared with the file's before.
fn half(
    input: &mut impl Read,
    path: &Path,
    header: &Header,
    count: u64,
) -> Result<(Vec<u16>, Vec<u8>), DataError> {
    let unreadable = |source| DataError::io(path, "read", source);
    let count = usize::try_from(count).ok();
    let mut labels = allocate("the labels", count.and_then(|n| n.checked_mul(2)))?;
    input.read_exact(&mut labels).map_err(unreadable)?;
    let labels = labels.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
    let mut images = allocate("the pictures", count.and_then(|n| n.checked_mul(header.shape.len())))?;
    input.read_exact(&mut images).map_err(unreadable)?;
    Ok((labels, images))
}

fn not_packed(path: &Path, got: String) -> DataError {
    DataError::format(
        path,
        got,
        "a packed data set, which begins with \"UNLEARND\"",
        "Name a file written by `unlearn data pack`, or a folder",
    )
}

/// Names are shown on terminals and stand in reports: one that must not be, escaped.
fn unshowable(name: &str) -> Option<String> {
    name.chars().any(char::is_control).then(|| name.escape_debug().take(160).collect())
}

/// Names of classes that no folder can have, and more classes than there are labels.
fn unnameable(header: &Header) -> Option<String> {
    let letters = |name: &String| name.chars().count();
    let longest = header.class_names.iter().chain([&header.name]).map(letters).max().unwrap_or(0);
    match header.class_names.len() {
        classes if classes > MAX_CLASSES => Some(format!("{classes} classes")),
        _ if longest > MAX_LETTERS => Some(format!("a name of {longest} letters")),
        _ => None,
    }
}

fn bad_header(path: &Path, got: String) -> DataError {
    DataError::format(path, got, "a packed data set's header", "The file is damaged: pack the folder again")
}

/// Hashes what passes through.
struct Hashing<T> {
    inner: T,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.hash.update(&bytes[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
