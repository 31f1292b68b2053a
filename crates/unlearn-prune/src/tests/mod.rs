//! Tests of this crate on a small net; agreement with other software is tested in `tests/it`.

mod constraint;
mod engine;
mod iterative;
mod mask;
mod mask_file;
mod net;
mod one_shot;
mod prunable;
mod score;
mod select;
mod transformer;
