//! AdamW, SGD and Muon over flat parameters, with global-norm clipping.
//!
//! Burn's `ModuleOptimizer` clips each parameter by itself, loads its state onto the default
//! device and keys it by random ids. This one moves a list of modules and keeps one flat tensor a
//! parameter in their order: its state is saved by path and continues bit for bit.

pub(super) mod config;
mod matrices;
mod muon;
mod rules;
mod slot;
mod step;

pub use config::{OptimizerConfig, OptimizerKind};
pub(super) use slot::GradientSum;
pub(super) use step::Optimizer;
