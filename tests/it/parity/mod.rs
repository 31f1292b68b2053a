//! Agreement with numbers that other software gave. Sizes come from `spec.json`.

mod checkpoint;
mod curvature;
mod engine;
mod mia;
mod prune;
mod resnet;
mod splits;
mod vit;
