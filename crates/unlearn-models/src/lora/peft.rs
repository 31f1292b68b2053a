//! Adapters in the folder layout of `peft`: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! | here | there |
//! |---|---|
//! | `a` of a linear layer, `[in, r]` | `base_model.model.MODULE.lora_A.weight`, `[r, in]` |
//! | `b` of a linear layer, `[r, out]` | `base_model.model.MODULE.lora_B.weight`, `[out, r]` |
//! | `a`, `b` of a convolution | the same names, in the same layout |
//! | a module trained in full | `base_model.model.MODULE.…` under PyTorch's names |

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::Tensor;
use burn::module::Param;
use burn::tensor::TensorData;
use serde_json::{Map, Value, json};
use unlearn_curvature::{ParamInfo, parameters};

use super::adapted::{Branch, assemble};
use super::target::{Chosen, Unmatched};
use super::{Adapted, ConvAdapter, LinearAdapter, LoraConfig, LoraError, Norms};
use crate::checkpoint::error::quote;
use crate::checkpoint::file::{read_whole, write_whole};
use crate::checkpoint::names::{OnDisk, transpose};
use crate::checkpoint::{self, CheckpointError, HostTensor, Limits, Metadata, StateDict};
use crate::classifier::Classifier;

/// What the adapters are.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// Their weights.
pub const WEIGHTS_FILE: &str = "adapter_model.safetensors";
/// Their weights as older versions saved them.
const OLD_WEIGHTS_FILE: &str = "adapter_model.bin";
const PREFIX: &str = "base_model.model.";
/// A configuration is a few kilobytes.
const LONGEST_CONFIG: u64 = 1 << 20;

fn names(module: &str) -> [String; 2] {
    ["A", "B"].map(|factor| format!("{PREFIX}{module}.lora_{factor}.weight"))
}

fn host<const D: usize>(param: &Param<Tensor<D>>, module: &str) -> Result<HostTensor, LoraError> {
    let failed = |reason: String| CheckpointError::Device { path: module.to_owned(), reason };
    let value = param.val();
    let shape = value.dims().to_vec();
    let data = value.try_into_data().map_err(|e| failed(e.to_string()))?;
    let values = data.try_into_vec_as::<f32>().map_err(|e| failed(format!("{e:?}")))?;
    Ok(HostTensor { shape, values })
}

fn transposed(matrix: &HostTensor) -> HostTensor {
    let (rows, columns) = (matrix.shape[0], matrix.shape[1]);
    HostTensor { shape: vec![columns, rows], values: transpose(&matrix.values, rows, columns) }
}

impl<M: Classifier> Adapted<M> {
    /// Writes the adapters, and the modules trained in full, as `peft` would: `PeftModel.from_pretrained` opens them on
    /// the PyTorch network of the same names. `base_model` is the base's name or path for its `adapter_config.json`; without
    /// one it is what the folder said that the adapters were read from. What else stood there (`task_type`, `revision`,
    /// `auto_mapping`, …) is written again.
    /// The folder is made where it is not there.
    ///
    /// # Errors
    /// [`LoraError::Checkpoint`] when the disk refuses, or a value is not finite.
    pub fn save_peft(&self, folder: impl AsRef<Path>, base_model: Option<&str>) -> Result<(), LoraError> {
        let folder = folder.as_ref();
        let mut state = StateDict::new();
        for ConvAdapter { a, b, place, .. } in &self.convs {
            let [name_a, name_b] = names(&place.module);
            state.insert(name_a, host(a, &place.module)?)?;
            state.insert(name_b, host(b, &place.module)?)?;
        }
        for LinearAdapter { a, b, place, .. } in &self.linears {
            let [name_a, name_b] = names(&place.module);
            state.insert(name_a, transposed(&host(a, &place.module)?))?;
            state.insert(name_b, transposed(&host(b, &place.module)?))?;
        }
        let base = StateDict::of(&self.base)?;
        for (name, tensor) in base.iter() {
            if self.plan.full.iter().any(|module| name.starts_with(&format!("{module}."))) {
                state.insert(format!("{PREFIX}{name}"), tensor.clone())?;
            }
        }
        let failed = |action, source| CheckpointError::Io { path: folder.to_owned(), action, source };
        std::fs::create_dir_all(folder).map_err(|e| failed("make", e))?;
        checkpoint::write(folder.join(WEIGHTS_FILE), &state, &Metadata::new())?;
        let text = serde_json::to_string_pretty(&self.peft_config(base_model))
            .map_err(|e| failed("describe", std::io::Error::other(e.to_string())))?;
        // Last: a folder that has it is whole.
        write_whole(&folder.join(CONFIG_FILE), |out| out.write_all(text.as_bytes()))?;
        Ok(())
    }

    /// What was read, if it was, with the fields that say how the adapters compute as they are here.
    fn peft_config(&self, base_model: Option<&str>) -> Value {
        let LoraConfig { rank, alpha, dropout, rs_lora, targets, .. } = &self.plan.config;
        // peft's α is a whole number as a rule.
        let alpha = if alpha.fract() == 0.0 && *alpha < 1e15 { json!(*alpha as i64) } else { json!(alpha) };
        let full = (!self.plan.full.is_empty()).then_some(&self.plan.full);
        // A set, as peft has it: what is read and written again is the same.
        let targets: BTreeSet<_> = targets.iter().collect();
        let usual = json!({
            "alpha_pattern": {},
            "base_model_name_or_path": null,
            "fan_in_fan_out": false,
            "init_lora_weights": true,
            "layers_pattern": null,
            "layers_to_transform": null,
            "rank_pattern": {},
            "revision": null,
            "task_type": null,
            "use_dora": false,
        });
        let ours = json!({
            "bias": "none",
            "inference_mode": true,
            "lora_alpha": alpha,
            "lora_dropout": dropout,
            "modules_to_save": full,
            "peft_type": "LORA",
            "r": rank,
            "target_modules": targets,
            "use_rslora": rs_lora,
        });
        let named = base_model.map(|base| json!({ "base_model_name_or_path": base }));
        let parts = [usual, Value::Object(self.plan.described.clone()), ours].into_iter().chain(named);
        let fields =
            parts.filter_map(|part| if let Value::Object(fields) = part { Some(fields) } else { None });
        Value::Object(fields.flatten().collect())
    }
}

/// `base` with the adapters of a folder that `peft` or [`Adapted::save_peft`] wrote. All or nothing: the file and the
/// configuration must name exactly the adapters that the configuration's patterns mean on this model. Half-precision
/// weights become float32.
///
/// # Errors
/// [`LoraError::Folder`] for a missing or unreadable file and for kinds of adapters that are not plain LoRA,
/// [`LoraError::OtherModel`] with every name and shape that does not fit, [`LoraError::Checkpoint`] for damaged or
/// non-finite weights, [`LoraError::Untaped`].
pub fn load_peft<M: Classifier>(base: M, folder: impl AsRef<Path>) -> Result<Adapted<M>, LoraError> {
    let folder = folder.as_ref();
    let (config, described) = read_config(&folder.join(CONFIG_FILE))?;
    let state = checkpoint::read(weights_in(folder)?)?.state;
    state.check_finite()?;

    let infos = parameters(&base);
    let chosen = Chosen::of(&infos, &config, Unmatched::Skip)?;
    let full: Vec<OnDisk> =
        infos.iter().filter(|info| chosen.full_paths.contains(&info.path)).map(OnDisk::of).collect();
    let mut needed = BTreeMap::new();
    for target in &chosen.targets {
        needed.extend(names(&target.module).into_iter().zip(shapes(&target.weight, config.rank)));
    }
    needed.extend(full.iter().map(|value| (format!("{PREFIX}{}", value.name), value.shape.clone())));
    let mismatch = state.mismatch(&needed);
    if !mismatch.is_empty() || needed.is_empty() {
        return Err(LoraError::OtherModel(mismatch));
    }

    let base = with_full(base, &full, &state)?;
    let take = |name: &str| state.get(name).cloned().unwrap_or_default();
    let scale = config.scale();
    let mut adapted = assemble(&base, &config, &chosen, &infos, |target, dropout, device| {
        let [a, b] = names(&target.module).map(|name| take(&name));
        if target.weight.shape.len() == 4 {
            let tensor = |t: HostTensor| {
                let shape = [t.shape[0], t.shape[1], t.shape[2], t.shape[3]];
                Param::<Tensor<4>>::from_data(TensorData::new(t.values, shape), device)
            };
            Branch::Conv(ConvAdapter::of(target, scale, dropout, tensor(a), tensor(b)))
        } else {
            let tensor = |t: HostTensor| {
                let t = transposed(&t);
                Param::<Tensor<2>>::from_data(TensorData::new(t.values, [t.shape[0], t.shape[1]]), device)
            };
            Branch::Linear(LinearAdapter::of(target, scale, dropout, tensor(a), tensor(b)))
        }
    })?;
    Arc::make_mut(&mut adapted.plan).described = described;
    Ok(adapted)
}

/// The shapes of A and B on disk.
fn shapes(weight: &ParamInfo, rank: usize) -> [Vec<usize>; 2] {
    let shape = &weight.shape;
    match shape.len() {
        2 => [vec![rank, shape[0]], vec![shape[1], rank]],
        _ => [vec![rank, shape[1], shape[2], shape[3]], vec![shape[0], rank, 1, 1]],
    }
}

/// `base` with the values of the modules that were trained in full.
fn with_full<M: Classifier>(base: M, full: &[OnDisk], from: &StateDict) -> Result<M, LoraError> {
    if full.is_empty() {
        return Ok(base);
    }
    let mut state = StateDict::of(&base)?;
    for OnDisk { name, .. } in full {
        if let Some(tensor) = from.get(&format!("{PREFIX}{name}")) {
            state.remove(name);
            state.insert(name.clone(), tensor.clone())?;
        }
    }
    Ok(state.load_into(base)?)
}

fn weights_in(folder: &Path) -> Result<PathBuf, LoraError> {
    let found =
        [WEIGHTS_FILE, OLD_WEIGHTS_FILE].map(|name| folder.join(name)).into_iter().find(|p| p.exists());
    found.ok_or_else(|| LoraError::Folder {
        path: folder.join(WEIGHTS_FILE),
        got: "no such file".into(),
        expected: "the adapters' weights",
        mend: "Name the folder that `save_pretrained` wrote",
    })
}

/// The configuration, and all that stands there.
fn read_config(path: &Path) -> Result<(LoraConfig, Map<String, Value>), LoraError> {
    const MEND: &str = "Save the adapter again as plain LoRA, or merge it where it was made";
    let folder =
        |got: String, expected, mend| LoraError::Folder { path: path.to_owned(), got, expected, mend };
    if !path.exists() {
        let expected = "the description of an adapter";
        return Err(folder("no such file".into(), expected, "Name the folder that `save_pretrained` wrote"));
    }
    let text = read_whole(path, Limits { max_bytes: LONGEST_CONFIG })?;
    let damaged = |got: String| folder(got, "a JSON object", "Copy the folder again");
    let value: Value = serde_json::from_slice(&text).map_err(|e| damaged(quote(&e.to_string())))?;
    let Value::Object(fields) = value else { return Err(damaged("no JSON object".into())) };
    let wrong = |key: &str, expected| {
        let got = fields.get(key).map_or_else(|| "absent".into(), |value| quote(&value.to_string()));
        folder(format!("`{key}` is {got}"), expected, MEND)
    };

    if fields.get("peft_type") != Some(&json!("LORA")) {
        return Err(wrong("peft_type", "\"LORA\""));
    }
    if let Some((key, expected)) = unsupported(&fields) {
        return Err(wrong(key, expected));
    }
    let rank = fields.get("r").and_then(Value::as_u64).filter(|r| *r > 0);
    let rank = rank.ok_or_else(|| wrong("r", "a whole number above 0"))? as usize;
    let alpha = fields.get("lora_alpha").and_then(Value::as_f64).filter(|alpha| alpha.is_finite());
    let alpha = alpha.ok_or_else(|| wrong("lora_alpha", "a number"))?;
    let dropout = fields.get("lora_dropout").map_or(Some(0.0), Value::as_f64);
    let dropout = dropout.filter(|d| (0.0..1.0).contains(d));
    let dropout = dropout.ok_or_else(|| wrong("lora_dropout", "a number from 0 up to 1"))?;
    let list = |key: &str| match fields.get(key) {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(items)) => items.iter().map(|v| v.as_str().map(str::to_owned)).collect(),
        Some(_) => None,
    };
    let targets = list("target_modules").filter(|targets| !targets.is_empty());
    let mut targets = targets.ok_or_else(|| wrong("target_modules", "a list of names"))?;
    // peft keeps a set, in any order.
    targets.sort();
    let modules_to_save =
        list("modules_to_save").ok_or_else(|| wrong("modules_to_save", "a list of names"))?;
    let rs_lora = match fields.get("use_rslora") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(rs_lora)) => *rs_lora,
        Some(_) => return Err(wrong("use_rslora", "true or false")),
    };
    let config = LoraConfig { rank, alpha, dropout, rs_lora, targets, modules_to_save, norms: Norms::Frozen };
    Ok((config, fields))
}

/// The first field that asks for something else than plain LoRA, with what is expected there.
fn unsupported(fields: &Map<String, Value>) -> Option<(&'static str, &'static str)> {
    let empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        _ => false,
    };
    let nothing = "nothing there";
    let fields_of_other_kinds = [
        "use_dora",
        "lora_bias",
        "fan_in_fan_out",
        "rank_pattern",
        "alpha_pattern",
        "layers_to_transform",
        "exclude_modules",
        "layer_replication",
        "target_parameters",
        "trainable_token_indices",
        "use_qalora",
        "loftq_config",
        "eva_config",
        "corda_config",
    ];
    let set = fields_of_other_kinds.into_iter().find(|key| fields.get(*key).is_some_and(|v| !empty(v)));
    let bias =
        fields.get("bias").is_some_and(|bias| !matches!(bias.as_str(), Some("none")) && !bias.is_null());
    // Other beginnings (PiSSA, OLoRA, LoftQ, …) change the base's weights too, which no file of the folder holds.
    let plain = |value: &Value| match value {
        Value::Null | Value::Bool(_) => true,
        Value::String(name) => name == "gaussian",
        _ => false,
    };
    let start = fields.get("init_lora_weights").is_some_and(|start| !plain(start));
    let start =
        start.then_some(("init_lora_weights", "true, false or \"gaussian\", which leave the base as it is"));
    set.map(|key| (key, nothing)).or(bias.then_some(("bias", "\"none\""))).or(start)
}
