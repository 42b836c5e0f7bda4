//! vitrine: a Vision Transformer image classifier on Burn.
//!
//! Data moves one way: **files → samples → batch → logits → report**. Read in this order:
//!
//! 1. [`data`]: recognises a data set, decodes its pictures, augments them, makes batches.
//! 2. [`model`]: the Vision Transformer and the CNN baselines, as mathematics; [`ops`]: the
//!    operations they are made of, and their kernels for the processor.
//! 3. [`train`]: the one training loop, its optimizers and schedule.
//! 4. [`eval`] and [`classify`]: what a trained model says, and how often it is right.
//! 5. [`recipe`], [`run`] and [`report`]: settings in, one run directory out.
//!
//! # Floors
//!
//! Imports go down only (`tests/floors.rs` holds this):
//!
//! ```text
//! 4  main → cli
//! 3  compare → run → recipe, report
//! 2  train → eval;  classify
//! 1  checkpoint
//! 0  model → ops;  data, metrics, device
//! ```

pub mod checkpoint;
pub mod classify;
pub mod cli;
pub mod compare;
pub mod data;
pub mod device;
pub mod eval;
pub mod metrics;
pub mod model;
pub mod ops;
pub mod recipe;
pub mod report;
pub mod run;
pub mod train;
