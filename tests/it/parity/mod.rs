//! Agreement with numbers that other software gave. Sizes come from `spec.json`.

mod checkpoint;
mod curvature;
mod engine;
mod lora;
mod mia;
mod prune;
mod resnet;
mod splits;
mod vit;
