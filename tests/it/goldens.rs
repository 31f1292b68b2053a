//! The folder of reference numbers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use safetensors::{Dtype, SafeTensors};

/// A tensor of a golden file, widened to float64 (integers too), row-major.
#[derive(Debug, Clone)]
pub(crate) struct Array {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f64>,
}

impl Array {
    pub(crate) fn f32(&self) -> Vec<f32> {
        self.values.iter().map(|&v| v as f32).collect()
    }

    /// The first `n` entries along the first dimension.
    pub(crate) fn first(&self, n: usize) -> Self {
        let each = self.values.len() / self.shape[0];
        let mut shape = self.shape.clone();
        shape[0] = n.min(shape[0]);
        Self { values: self.values[..shape[0] * each].to_vec(), shape }
    }

    /// Largest absolute entry.
    pub(crate) fn scale(&self) -> f64 {
        self.values.iter().fold(0.0, |m, v| m.max(v.abs()))
    }
}

/// The sizes in `spec.json` that tests of residual networks need.
#[derive(Debug, Clone, serde::Deserialize)]
pub(crate) struct ResNetSpec {
    pub(crate) width: usize,
    pub(crate) classes: usize,
    pub(crate) blocks: [usize; 4],
    pub(crate) samples: usize,
    pub(crate) forget_first: usize,
}

/// The sizes in `spec.json` that tests of vision transformers need.
#[derive(Debug, Clone, serde::Deserialize)]
pub(crate) struct VitSpec {
    pub(crate) hidden: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) mlp: usize,
    pub(crate) image: usize,
    pub(crate) patch: usize,
    pub(crate) classes: usize,
    pub(crate) samples: usize,
}

#[derive(Debug, Clone, serde::Deserialize)]
struct Spec {
    resnet: ResNetSpec,
    vit: VitSpec,
}

pub(crate) struct Goldens {
    folder: PathBuf,
}

impl Goldens {
    /// The folder, or `None` (said on standard error) when it is not there. `cargo test` runs in the package's.
    pub(crate) fn open() -> Option<Self> {
        let folder =
            std::env::var_os("UNLEARN_GOLDENS").map_or_else(|| PathBuf::from("tests/goldens"), PathBuf::from);
        if folder.join("spec.json").is_file() {
            return Some(Self { folder });
        }
        // A folder that was asked for by name and is not there is a failure, not a reason to skip.
        assert!(
            std::env::var_os("UNLEARN_GOLDENS").is_none(),
            "UNLEARN_GOLDENS names {}, which holds no spec.json",
            folder.display()
        );
        eprintln!("SKIPPED: no reference numbers; set UNLEARN_GOLDENS to their folder");
        None
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self, file: &str) -> T {
        let text = std::fs::read_to_string(self.path(file)).expect(file);
        serde_json::from_str(&text).expect(file)
    }

    pub(crate) fn resnet(&self) -> ResNetSpec {
        self.json::<Spec>("spec.json").resnet
    }

    pub(crate) fn vit(&self) -> VitSpec {
        self.json::<Spec>("spec.json").vit
    }

    /// All tensors of a safetensors file.
    pub(crate) fn tensors(&self, file: &str) -> BTreeMap<String, Array> {
        let bytes = std::fs::read(self.path(file)).expect(file);
        let tensors = SafeTensors::deserialize(&bytes).expect(file);
        tensors
            .iter()
            .map(|(name, view)| {
                let data = view.data();
                let values = match view.dtype() {
                    Dtype::F32 => data
                        .chunks_exact(4)
                        .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
                        .collect(),
                    Dtype::F64 => {
                        data.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
                    }
                    Dtype::I64 => data
                        .chunks_exact(8)
                        .map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64)
                        .collect(),
                    Dtype::U8 | Dtype::BOOL => data.iter().map(|&b| f64::from(b)).collect(),
                    other => panic!("{file}: {name} has type {other:?}"),
                };
                (name.to_owned(), Array { shape: view.shape().to_vec(), values })
            })
            .collect()
    }
}

/// Panics unless every entry of `got` is within `tolerance` of `expected`, relative to the largest
/// entry of `expected`.
#[track_caller]
pub(crate) fn assert_close(what: &str, got: &[f32], expected: &Array, tolerance: f64) {
    assert_eq!(got.len(), expected.values.len(), "{what}: number of entries");
    let scale = expected.scale().max(f64::MIN_POSITIVE);
    let worst = got
        .iter()
        .zip(&expected.values)
        .map(|(g, e)| (f64::from(*g) - e).abs() / scale)
        .enumerate()
        .fold((0, 0.0_f64), |worst, (i, d)| if d > worst.1 || d.is_nan() { (i, d) } else { worst });
    assert!(
        worst.1 <= tolerance,
        "{what}: entry {} is {} but {} was expected: off by {:.2e} of the largest entry {scale:.3e}; allowed {tolerance:.0e}",
        worst.0,
        got[worst.0],
        expected.values[worst.0],
        worst.1,
    );
}

/// Named tensors.
pub(crate) type Named = BTreeMap<String, Vec<f32>>;

/// Panics unless every tensor of `got` is within `tolerance(name)` of `expected`, or of what float32 can
/// tell at all.
///
/// A ReLU input within rounding of zero falls on either side by chance, and moves whole gradients: PyTorch's own
/// float32 is then off its own float64 by more than the tolerance (by 1e-3 of the largest entry after three
/// steps at width 8 over 64 pictures). How far it can move them is measured, when the comparison fails, on
/// `again(seed)`: the same computation on pictures with other last bits. Twice the largest movement is allowed
/// on top, as both sides can have fallen on a wrong one. So that nothing passes by being unstable, what needs it must move by
/// little, and be near on the whole: a switched unit moves some entries, a wrong formula all.
#[track_caller]
pub(crate) fn assert_close_as_far_as_posed(
    what: &str,
    got: &Named,
    expected: &BTreeMap<String, Array>,
    tolerance: impl Fn(&str) -> f64,
    again: impl Fn(u64) -> Named,
) {
    const RUNS: u64 = 10;
    const UNSTABLE: f64 = 0.2;
    const ON_THE_WHOLE: f64 = 0.1;
    let off = |name: &str, values: &[f32], from: &dyn Fn(usize) -> f64| {
        let scale = expected[name].scale().max(f64::MIN_POSITIVE);
        let distances = values.iter().enumerate().map(|(i, &v)| (f64::from(v) - from(i)).abs() / scale);
        distances.fold(0.0_f64, |most, d| if d > most || d.is_nan() { d } else { most })
    };
    let distance = |name: &str, values: &[f32]| {
        assert_eq!(values.len(), expected[name].values.len(), "{what} {name}: number of entries");
        off(name, values, &|i| expected[name].values[i])
    };
    assert!(got.keys().eq(expected.keys()), "{what}: {:?} for {:?}", got.keys(), expected.keys());
    let outside = |name: &String, d: f64| d.is_nan() || d > tolerance(name);
    if !got.iter().any(|(name, values)| outside(name, distance(name, values))) {
        return;
    }
    let others: Vec<Named> = (1..=RUNS).map(again).collect();
    for (name, values) in got {
        let moved = others.iter().map(|other| off(name, &other[name], &|i| f64::from(values[i])));
        let moved = moved.fold(0.0_f64, f64::max);
        let (d, allowed) = (distance(name, values), tolerance(name));
        if d <= allowed {
            continue;
        }
        eprintln!("{what} {name}: off by {d:.1e}; other last bits of the pictures move it by {moved:.1e}");
        assert!(moved < UNSTABLE, "{what} {name}: moves by {moved:.2e} with the last bits of the pictures");
        let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
        let expected = &expected[name].values;
        let apart = square(&mut values.iter().zip(expected).map(|(g, e)| f64::from(*g) - e));
        let whole = (apart / square(&mut expected.iter().copied()).max(f64::MIN_POSITIVE)).sqrt();
        assert!(whole <= ON_THE_WHOLE, "{what} {name}: off by {whole:.2e} on the whole");
        assert!(
            d <= allowed + 2.0 * moved,
            "{what} {name}: off by {d:.2e} of the largest entry; allowed {allowed:.0e}, and other last bits of the pictures move it by {moved:.2e} only"
        );
    }
}

impl Array {
    /// Other last bits: each value times 1 ± ε, where ε is one, two or four units in the last place by the seed. Rounding of
    /// a whole network comes to a few.
    pub(crate) fn with_other_last_bits(&self, seed: u64) -> Self {
        let unit = 2f64.powi(-23) * f64::from(1_u32 << (seed % 3));
        let values = self.values.iter().enumerate().map(|(i, v)| {
            let mixed = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(seed) ^ seed << 17;
            let up = mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 63 == 1;
            v * if up { 1.0 + unit } else { 1.0 - unit }
        });
        Self { shape: self.shape.clone(), values: values.collect() }
    }
}
