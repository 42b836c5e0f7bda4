//! A linear probe: multinomial logistic regression on features that do not change, fitted to its optimum.
//!
//! [`fit`] standardises the features, tries strengths of the L2 penalty from strong to weak, each from where the one
//! before ended, and keeps the one with the lowest loss on validation. The optimizer is L-BFGS.

mod lbfgs;
mod path;
mod regression;

/// Column of the strength of the penalty in `results.csv`.
pub const PROBE_L2: &str = "probe/l2";

pub use path::{Chosen, Labelled, Probe, ProbeOptions, TRIED, Tried, fit};
