//! Which code and exit code each error of the libraries has: the only place that decides it, one file
//! a crate.

mod algos;
mod curvature;
mod data;
mod eval;
mod models;
mod prune;
mod train;
