//! The one table between Burn's names and layouts and PyTorch's.
//!
//! | layer | Burn | PyTorch |
//! |---|---|---|
//! | `Linear` | `weight` `[in, out]` | `weight` `[out, in]` |
//! | `BatchNorm`, `LayerNorm`, `GroupNorm`, `InstanceNorm`, `RmsNorm` | `gamma`, `beta` | `weight`, `bias` |
//! | `BatchNorm` | `running_mean`, `running_var` | the same |
//! | everything else | field names | the same |

use unlearn_curvature::ParamInfo;

/// How a parameter lies on disk relative to memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// As in memory.
    Same,
    /// A matrix with rows and columns exchanged.
    Transposed,
}

/// A parameter as a checkpoint holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OnDisk {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) layout: Layout,
}

impl OnDisk {
    pub(crate) fn of(info: &ParamInfo) -> Self {
        let path = info.path.as_str();
        let (parent, field) = path.rsplit_once('.').map_or(("", path), |(parent, field)| (parent, field));
        let norm = matches!(
            info.layer.as_str(),
            "BatchNorm" | "LayerNorm" | "GroupNorm" | "InstanceNorm" | "RmsNorm"
        );
        let on_disk = match field {
            "gamma" if norm => "weight",
            "beta" if norm => "bias",
            other => other,
        };
        let name = if parent.is_empty() { on_disk.to_owned() } else { format!("{parent}.{on_disk}") };
        if info.layer == "Linear" && field == "weight" && info.shape.len() == 2 {
            let shape = vec![info.shape[1], info.shape[0]];
            return Self { name, shape, layout: Layout::Transposed };
        }
        Self { name, shape: info.shape.clone(), layout: Layout::Same }
    }
}

/// Exchanges rows and columns of a row-major matrix, `[rows, columns]` → `[columns, rows]`.
pub(crate) fn transpose<T: Copy>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
    (0..columns)
        .flat_map(|column| (0..rows).map(move |row| row * columns + column))
        .map(|index| values[index])
        .collect()
}

/// Whether a name is PyTorch's counter of batches, which nothing here needs.
pub(crate) fn is_batch_counter(name: &str) -> bool {
    name == "num_batches_tracked" || name.ends_with(".num_batches_tracked")
}
