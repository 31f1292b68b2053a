//! Diagonals on disk: one safetensors file, one tensor a parameter under its path, and the count.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::oracle::Diagonal;
use crate::{CurvatureError, ParamTree};

const FORMAT: &str = "unlearn-diagonal/1";
const MEND_FILE: &str = "give a file that `Diagonal::save` wrote, or estimate the diagonal again";

impl Diagonal {
    /// Writes the sum and the count to `path`, whole or not at all: the file is written beside it, flushed to the
    /// disk and then renamed.
    ///
    /// # Errors
    /// [`CurvatureError::NonFinite`] for a value that is infinite or not a number,
    /// [`CurvatureError::File`] when the disk refuses, [`CurvatureError::Read`] when the device does.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), CurvatureError> {
        let path = path.as_ref();
        let mut leaves = Vec::with_capacity(self.sum.len());
        for (name, leaf) in self.sum.iter() {
            let values = leaf.to_vec()?;
            if values.iter().any(|v| !v.is_finite()) {
                return Err(CurvatureError::NonFinite {
                    what: format!("the diagonal of `{name}`"),
                    mend: "nothing was written; estimate it again from sound weights",
                });
            }
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            leaves.push((name.as_str(), leaf.shape.clone(), bytes));
        }
        let mut views = Vec::with_capacity(leaves.len());
        for (name, shape, bytes) in &leaves {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
            views.push((*name, view.map_err(|e| refuse(path, &e.to_string(), MEND_FILE))?));
        }
        let about = HashMap::from([
            ("format".to_owned(), FORMAT.to_owned()),
            ("count".to_owned(), self.count.to_string()),
        ]);
        let bytes = safetensors::serialize(views, Some(about))
            .map_err(|e| refuse(path, &e.to_string(), "use plain parameter names"))?;
        let part = beside(path);
        write(&part, &bytes).and_then(|()| fs::rename(&part, path)).map_err(|e| {
            let _ = fs::remove_file(&part);
            refuse(path, &e.to_string(), "write to a folder that exists and has room")
        })
    }

    /// Reads what [`save`](Self::save) wrote; the values lie on `device`.
    ///
    /// # Errors
    /// [`CurvatureError::File`] when there is no such file, it is damaged, of another kind, or holds values that no
    /// sum of squares has.
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Self, CurvatureError> {
        let path = path.as_ref();
        let damaged = |reason: &str| refuse(path, reason, MEND_FILE);
        // A pipe would be waited for, and a device has no end.
        if fs::metadata(path).is_ok_and(|about| !about.is_file()) {
            return Err(damaged("it is no regular file"));
        }
        let bytes = fs::read(path).map_err(|e| damaged(&e.to_string()))?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|e| damaged(&e.to_string()))?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(&e.to_string()))?;
        let about = header.metadata().as_ref().filter(|m| m.get("format").is_some_and(|f| f == FORMAT));
        let Some(about) = about else { return Err(damaged("it does not say that it is a diagonal")) };
        let count = about.get("count").and_then(|count| count.parse().ok());
        let Some(count) = count else { return Err(damaged("it does not say how many samples it is of")) };
        let mut sum = ParamTree::new();
        for (name, view) in tensors.iter() {
            if view.dtype() != Dtype::F32 {
                return Err(damaged(&format!("`{name}` has type {:?}, but F32 was expected", view.dtype())));
            }
            let values: Vec<f32> = view
                .data()
                .chunks_exact(size_of::<f32>())
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect();
            if let Some(bad) = values.iter().find(|v| !v.is_finite() || **v < 0.0) {
                return Err(damaged(&format!("`{name}` holds {bad}, which no sum of squares is")));
            }
            sum.insert_host(name.into(), view.shape().to_vec(), values, device)?;
        }
        Ok(Self { sum, count })
    }
}

fn refuse(path: &Path, reason: &str, mend: &'static str) -> CurvatureError {
    CurvatureError::File { path: path.display().to_string(), reason: reason.to_owned(), mend }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagonal(bad: f32) -> Diagonal {
        let device = Device::flex();
        let mut sum = ParamTree::new();
        sum.insert_host("a.weight".into(), vec![2, 3], vec![0.0, 1.5, 1e-30, 4.0, bad, 6.0], &device)
            .unwrap();
        sum.insert_host("b".into(), vec![1], vec![7.0], &device).unwrap();
        Diagonal { sum, count: 42 }
    }

    #[test]
    fn what_is_saved_is_loaded_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fisher.safetensors");
        for _ in 0..2 {
            diagonal(5.0).save(&path).unwrap();
        }
        let loaded = Diagonal::load(&path, &Device::flex()).unwrap();
        assert_eq!(loaded.count, 42);
        for ((name, got), (other, expected)) in loaded.sum.iter().zip(diagonal(5.0).sum.iter()) {
            assert_eq!((name, &got.shape), (other, &expected.shape));
            assert_eq!(got.to_vec().unwrap(), expected.to_vec().unwrap());
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn what_is_not_finite_is_never_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fisher.safetensors");
        for bad in [f32::NAN, f32::INFINITY] {
            assert!(matches!(diagonal(bad).save(&path), Err(CurvatureError::NonFinite { .. })));
        }
        assert!(!path.exists());
        let absent = diagonal(1.0).save(folder.path().join("absent/fisher.safetensors"));
        assert!(matches!(absent, Err(CurvatureError::File { .. })));
    }

    #[test]
    fn bad_files_are_errors_that_name_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fisher.safetensors");
        let refused = |part: &str| match Diagonal::load(&path, &Device::flex()) {
            Err(CurvatureError::File { path: got, reason, .. }) => {
                assert!(got.ends_with("fisher.safetensors") && reason.contains(part), "{got}: {reason}");
            }
            other => panic!("expected an error about {part}, got {other:?}"),
        };
        refused("o such file");
        diagonal(5.0).save(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        for cut in [0, 4, 20, whole.len() - 1] {
            fs::write(&path, &whole[..cut]).unwrap();
            refused("");
        }
        fs::write(&path, [&whole[..], b"more"].concat()).unwrap();
        refused("");
        let about = |entries: &[(&str, &str)]| {
            Some(entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<HashMap<_, _>>())
        };
        let forge = |dtype, data: &[u8], about| {
            let view = TensorView::new(dtype, vec![1], data).unwrap();
            fs::write(&path, safetensors::serialize([("a", view)], about).unwrap()).unwrap();
        };
        let right = [("format", FORMAT), ("count", "3")];
        forge(Dtype::F32, &1.0_f32.to_le_bytes(), None);
        refused("a diagonal");
        forge(Dtype::F32, &1.0_f32.to_le_bytes(), about(&[("format", FORMAT), ("count", "many")]));
        refused("how many samples");
        forge(Dtype::F64, &1.0_f64.to_le_bytes(), about(&right));
        refused("F64");
        for bad in [f32::NAN, f32::INFINITY, -1.0] {
            forge(Dtype::F32, &bad.to_le_bytes(), about(&right));
            refused("no sum of squares");
        }
        forge(Dtype::F32, &1.0_f32.to_le_bytes(), about(&right));
        assert_eq!(Diagonal::load(&path, &Device::flex()).unwrap().count, 3);
    }
}
