//! Agreement with numbers that other software gave. Sizes come from `spec.json`.

mod checkpoint;
mod curvature;
mod mia;
mod resnet;
mod splits;
