//! Named float32 tensors as safetensors bytes, and back. Equal content gives equal bytes.

use std::collections::{BTreeMap, HashMap};

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensorError, SafeTensors};
use unlearn_models::HostTensor;

/// The one metadata key. With one key the bytes are a function of the content: the format's
/// library writes several in the order of a hash map.
const ABOUT: &str = "about";

/// Tensors under their names, with one text about them.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct TensorFile {
    pub(crate) tensors: BTreeMap<String, HostTensor>,
    pub(crate) about: String,
}

impl TensorFile {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, SafeTensorError> {
        let bytes: BTreeMap<_, Vec<u8>> = self
            .tensors
            .iter()
            .map(|(name, t)| (name, t.values.iter().flat_map(|v| v.to_le_bytes()).collect()))
            .collect();
        let mut views = Vec::with_capacity(bytes.len());
        for (name, content) in &bytes {
            let shape = self.tensors[*name].shape.clone();
            views.push((name.as_str(), TensorView::new(Dtype::F32, shape, content)?));
        }
        let about = HashMap::from([(ABOUT.to_owned(), self.about.clone())]);
        safetensors::serialize(views, Some(about))
    }

    /// # Errors
    /// What is wrong with the bytes, in words.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let words = |e: SafeTensorError| e.to_string();
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(words)?;
        let about = metadata.metadata().as_ref().and_then(|m| m.get(ABOUT)).cloned().unwrap_or_default();
        let mut tensors = BTreeMap::new();
        for (name, view) in SafeTensors::deserialize(bytes).map_err(words)?.iter() {
            if view.dtype() != Dtype::F32 {
                return Err(format!("{name} holds {:?}, not F32", view.dtype()));
            }
            let values = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            tensors.insert(name.to_owned(), HostTensor { shape: view.shape().to_vec(), values });
        }
        Ok(Self { tensors, about })
    }

    /// The first tensor with a value that is not finite.
    pub(crate) fn not_finite(&self) -> Option<&str> {
        let spoiled = |t: &HostTensor| t.values.iter().any(|v| !v.is_finite());
        self.tensors.iter().find(|(_, t)| spoiled(t)).map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_round_trip_and_are_a_function_of_the_content() {
        let mut file = TensorFile { about: "{\"a\":1}".into(), ..TensorFile::default() };
        for (name, values) in [("b", vec![1.5, -0.0, f32::MIN_POSITIVE / 2.0]), ("a", vec![0.1])] {
            file.tensors.insert(name.into(), HostTensor { shape: vec![values.len()], values });
        }
        file.tensors.insert("scalar".into(), HostTensor { shape: vec![], values: vec![7.0] });
        let bytes = file.encode().unwrap();
        let back = TensorFile::decode(&bytes).unwrap();
        assert_eq!(back, file);
        assert_eq!(back.tensors["b"].values[1].to_bits(), (-0.0_f32).to_bits());
        for _ in 0..20 {
            assert_eq!(back.encode().unwrap(), bytes);
        }
        assert_eq!(file.not_finite(), None);
        file.tensors.insert("c".into(), HostTensor { shape: vec![1], values: vec![f32::INFINITY] });
        assert_eq!(file.not_finite(), Some("c"));
    }

    #[test]
    fn bytes_that_are_no_such_file_are_an_error() {
        let tensors = [("a".to_owned(), HostTensor { shape: vec![2], values: vec![1.0, 2.0] })];
        let bytes = TensorFile { tensors: tensors.into(), about: String::new() }.encode().unwrap();
        for length in 0..bytes.len() {
            assert!(TensorFile::decode(&bytes[..length]).is_err(), "{length}");
        }
        let wide = TensorView::new(Dtype::F64, vec![1], &[0; 8]).unwrap();
        let bytes = safetensors::serialize([("a", wide)], None).unwrap();
        assert!(TensorFile::decode(&bytes).unwrap_err().contains("F64"));
    }
}
